"""Several rollouts in one fleet: which of them may send a device something, so that no two fight over it.

    one at a time   while a device is under way in one rollout, no other one sends it anything
    newest wins     of live rollouts of the same bundle, the one with the highest counter has the device; the
                    older ones leave it alone, and get it back if the newer one halts or is cancelled
    no way back     a device that has a newer version, or may have it, is not offered an older one: only its
                    own rollout takes it back

Versions of a device so only grow, but for reverts. Pure. Reports and a person's moves go to the rollouts
themselves; this polls them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cloud_fallback.fleet.actions import Action, Revert
from cloud_fallback.fleet.rollout import AT_ONCE_S, Rollout
from cloud_fallback.fleet.standing import BUSY, REVERTIBLE, Member, Outcome, Standing

_GONE = frozenset({Standing.LEFT, Standing.WITHDRAWN})
_MAY_HAVE = REVERTIBLE | {Standing.REVERTING, Standing.STUCK}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a rollout wants of a device.

    Args:
        rollout: Its id.
        bundle: Kind and name of what it brings.
        age: The newer of two rollouts has the higher one.
        live: Whether it wants devices to have its version.
        standing: Of the device in it.
    """

    rollout: str
    bundle: tuple[str, str]
    age: tuple[int, int]
    live: bool
    standing: Standing


def blocked(claims: Sequence[Claim]) -> frozenset[str]:
    """Say which rollouts may not send a device anything.

    Args:
        claims: On one device.

    Returns:
        Ids of rollouts.
    """
    busy = {each.rollout for each in claims if each.standing in BUSY}
    if busy:
        return frozenset(each.rollout for each in claims) - busy
    return frozenset(
        each.rollout for each in claims if any(_before(other, each) for other in claims if other is not each)
    )


def holder(claims: Sequence[Claim], rollout: str) -> Claim | None:
    """Say which claim keeps a rollout from sending a device anything.

    Args:
        claims: On one device.
        rollout: Its id; it has one of the claims.

    Returns:
        That of a rollout in which the device is under way, else of a newer one; None: nothing keeps it.
    """
    if rollout not in blocked(claims):
        return None
    mine = next(each for each in claims if each.rollout == rollout)
    others = [each for each in claims if each is not mine]
    busy = [each for each in others if each.standing in BUSY]
    return max(busy or [each for each in others if _before(each, mine)], key=lambda each: each.age)


def _before(other: Claim, one: Claim) -> bool:
    """Say whether another claim comes before one."""
    if other.bundle != one.bundle or other.age < one.age:
        return False
    return other.standing in _MAY_HAVE or (other.live and other.standing not in _GONE)


class Arbiter:
    """All rollouts of a fleet that may still send something.

    Args:
        rollouts: The oldest first.
    """

    def __init__(self, rollouts: Iterable[Rollout] = ()) -> None:
        self._rollouts: dict[str, Rollout] = {}
        self._added = 0
        self._ages: dict[str, tuple[int, int]] = {}
        self._live: dict[str, bool] = {}
        self._of: dict[str, list[Rollout]] = {}
        self._changed: dict[tuple[str, str], Member] = {}
        self._fresh: set[str] = set()
        for each in rollouts:
            self.add(each)

    def __getitem__(self, rollout: str) -> Rollout:
        return self._rollouts[rollout]

    def __iter__(self) -> Iterator[Rollout]:
        return iter(self._rollouts.values())

    def add(self, rollout: Rollout) -> None:
        """Take in a rollout that is newer than all others here, with the devices it has."""
        self._ages[rollout.id] = (rollout.deployment.counter, self._added)
        self._added += 1
        self._rollouts[rollout.id] = rollout
        for device in rollout.devices:
            self._claim(rollout, device)

    def __contains__(self, rollout: str) -> bool:
        return rollout in self._rollouts

    def of(self, device: str) -> tuple[Rollout, ...]:
        """Give the rollouts that have a device."""
        return tuple(self._of.get(device, ()))

    def drop(self, rollout: str) -> None:
        """Forget a rollout that sends nothing any more, and that no older one here has to mind.

        Args:
            rollout: Its id.
        """
        gone = self._rollouts.pop(rollout)
        del self._ages[rollout]
        self._live.pop(rollout, None)
        for device in gone.devices:
            others = [each for each in self._of[device] if each is not gone]
            if others:
                self._of[device] = others
                self._fresh.add(device)
            else:
                del self._of[device]
                self._fresh.discard(device)

    def see(self, device: str, now_s: float, *, online: bool) -> None:
        """Tell every rollout of a device whether it is online.

        Args:
            device: Its name; one that no rollout is about is no mistake.
            now_s: Seconds since 1970, UTC.
            online: Whether it is.
        """
        for rollout in self._of.get(device, ()):
            rollout.report(device, Outcome.ONLINE if online else Outcome.OFFLINE, now_s)

    def poll(self, now_s: float) -> list[Action]:
        """Find out what is to be done.

        Args:
            now_s: Seconds since 1970, UTC.
        """
        actions: list[Action] = []
        for rollout in self._rollouts.values():
            self._notice(rollout)
        self._arbitrate(now_s)
        for rollout in sorted(self._rollouts.values(), key=lambda each: self._ages[each.id], reverse=True):
            actions += [self._aimed(action, rollout) for action in rollout.poll(now_s)]
            self._notice(rollout)
            self._arbitrate(now_s)
        return actions

    def wake_at(self) -> float | None:
        """Say when to poll though nothing happened, as `Rollout.wake_at` does."""
        if any(self._live.get(each.id) != each.live for each in self._rollouts.values()):
            return AT_ONCE_S
        times_s = [each.wake_at() for each in self._rollouts.values()]
        return min((at_s for at_s in times_s if at_s is not None), default=None)

    def take_changed(self) -> list[tuple[str, Member]]:
        """Give the devices that changed since the last call, each with the id of the rollout."""
        for rollout in self._rollouts.values():
            self._notice(rollout)
        changed = [(rollout, member) for (rollout, _), member in sorted(self._changed.items())]
        self._changed.clear()
        return changed

    def _claim(self, rollout: Rollout, device: str) -> None:
        claimed = self._of.setdefault(device, [])
        if rollout not in claimed:
            claimed.append(rollout)
        self._fresh.add(device)

    def _notice(self, rollout: Rollout) -> None:
        """Mark the devices whose claims may have changed."""
        for member in rollout.take_changed():
            self._changed[rollout.id, member.device] = member
            self._claim(rollout, member.device)
        if self._live.get(rollout.id) != rollout.live:
            self._live[rollout.id] = rollout.live
            self._fresh.update(rollout.devices)

    def _arbitrate(self, now_s: float) -> None:
        fresh, self._fresh = self._fresh, set()
        for device in sorted(fresh):
            claims = [
                Claim(
                    each.id,
                    (each.deployment.kind, each.deployment.bundle),
                    self._ages[each.id],
                    each.live,
                    each[device].standing,
                )
                for each in self._of[device]
            ]
            no = blocked(claims)
            for each in self._of[device]:
                each.report(device, Outcome.BLOCKED if each.id in no else Outcome.FREED, now_s)

    def _aimed(self, action: Action, rollout: Rollout) -> Action:
        """Say where a device goes back to: the newest good one of what it took before."""
        if not isinstance(action, Revert):
            return action
        bundle = (rollout.deployment.kind, rollout.deployment.bundle)
        good = [
            each
            for each in self._of[action.device]
            if (each.deployment.kind, each.deployment.bundle) == bundle
            and self._ages[each.id] < self._ages[rollout.id]
            and each[action.device].standing is Standing.SUCCEEDED
            and each.live
        ]
        newest = max(good, key=lambda each: self._ages[each.id], default=None)
        return replace(action, to=newest.id if newest else None)
