"""Which rollouts may leave memory: what they could still do, newer ones do, or nobody does. Pure.

A rollout that left is not lost: a person's move brings it back.
"""

from collections.abc import Iterable

from cloud_fallback.fleet.rollout import Rollout
from cloud_fallback.fleet.standing import BUSY, REVERTIBLE, Phase

KEPT = 3
"""Completed rollouts of a bundle that still catch devices up, the newest ones."""


def retired(rollouts: Iterable[Rollout], kept: int = KEPT) -> list[str]:
    """Say which rollouts may leave.

    An older one that stays must know of all newer ones, or it would offer what they have replaced. So only
    the oldest of a bundle leave, up to the first that has to stay.

    Args:
        rollouts: In the order in which they began.
        kept: Completed ones of a bundle that stay.

    Returns:
        Ids.
    """
    by_bundle: dict[tuple[str, str], list[Rollout]] = {}
    for each in rollouts:
        by_bundle.setdefault((each.deployment.kind, each.deployment.bundle), []).append(each)
    return [id_ for some in by_bundle.values() for id_ in _oldest(some, kept)]


def _oldest(rollouts: list[Rollout], kept: int) -> list[str]:
    in_order = [
        each
        for _, each in sorted(enumerate(rollouts), key=lambda item: (item[1].deployment.counter, item[0]))
    ]
    completed = sum(each.head.phase is Phase.COMPLETED for each in in_order)
    leave: list[str] = []
    for each in in_order:
        phase = each.head.phase
        newer_ones = completed - (phase is Phase.COMPLETED)
        replaced = phase in {Phase.COMPLETED, Phase.HALTED} and newer_ones >= kept
        if not (replaced or phase in {Phase.CANCELLED, Phase.REVERTED}) or _awaited(each):
            break
        completed = newer_ones
        leave.append(each.id)
    return leave


def _awaited(rollout: Rollout) -> bool:
    """Say whether an answer of a device is awaited, or a device still has to be taken back."""
    back = rollout.head.phase is Phase.REVERTED
    return any(
        rollout[name].standing in BUSY or (back and rollout[name].standing in REVERTIBLE)
        for name in rollout.devices
    )
