"""Errands: what a device was sent for by a rollout, and what its report says of that. Pure.

A device remembers how the last errand of a name ended, and does none twice. So a second offer of the same
deployment, and the way back from it, go by ids of their own:

    {deployment}         the first offer
    {deployment}--2      the second one, after a resumed halt, and so on
    {deployment}--back   the way back

A report counts only for the errand that the device has now: one that it no longer runs, whatever it said
before, has not succeeded.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cloud_fallback.fleet.standing import Outcome, Standing
from edge_runtime.contract.fleet import Have
from edge_runtime.contract.update import ENDS, State

_MARK = "--"
_BACK = "back"
_BAD = frozenset({State.ROLLED_BACK, State.FAILED, State.REJECTED})
_GOING_BACK = frozenset({Standing.REVERTING, Standing.STUCK})
AT_REST = ENDS | {State.IDLE}


def forward(deployment: str, attempt: int) -> str:
    """Give the id of an offer; attempts count from 1."""
    return deployment if attempt <= 1 else f"{deployment}{_MARK}{attempt}"


def back(deployment: str) -> str:
    """Give the id of the way back."""
    return f"{deployment}{_MARK}{_BACK}"


def owner(errand: str) -> str:
    """Give the deployment that an errand is of."""
    return errand.partition(_MARK)[0]


def is_back(errand: str) -> bool:
    """Say whether an errand is a way back."""
    return errand.endswith(f"{_MARK}{_BACK}")


@dataclass(frozen=True, slots=True)
class Errand:
    """What a device was sent for by one rollout.

    Args:
        deployment: Of the rollout.
        kind: Of what it brings.
        name: Of what it brings.
        sha256: Of the file that it brings.
        attempts: How often the device was offered it.
        back_sha256: Of the file that it goes back to; None: what it was installed with.
    """

    deployment: str
    kind: str
    name: str
    sha256: str
    attempts: int = 1
    back_sha256: str | None = None


def about(errand: Errand, has: Iterable[Have]) -> Have | None:
    """Find what a device says of the name that an errand is about; None: nothing."""
    return next((each for each in has if (each.kind, each.name) == (errand.kind, errand.name)), None)


def outcome(errand: Errand, standing: Standing, have: Have | None, *, taken: bool) -> Outcome | None:
    """Say what a report means for a device in a rollout.

    Args:
        errand: What it was sent for.
        standing: How it stands.
        have: What it says of that name; None: nothing, it has none.
        taken: Whether it has taken everything in that it was sent.

    Returns:
        None: nothing new.
    """
    if standing in _GOING_BACK:
        return _back_outcome(errand, have, taken=taken)
    there = have is not None and have.sha256 == errand.sha256
    mine = have is not None and have.deployment is not None and owner(have.deployment) == errand.deployment
    if have is not None and have.deployment == forward(errand.deployment, errand.attempts):
        return _own_outcome(have.state, there=there)
    if there and have is not None and have.state in AT_REST and (taken or mine):
        return Outcome.SUCCEEDED
    if standing is Standing.WITHDRAWING and taken and not there:
        return Outcome.WITHDRAWN
    return None


def _own_outcome(state: State, *, there: bool) -> Outcome | None:
    if state in _BAD:
        return Outcome.FAILED
    if state is State.COMMITTED:
        # It committed, and runs something else all the same: it has gone back by itself since.
        return Outcome.SUCCEEDED if there else Outcome.FAILED
    if state is State.CANCELLED:
        return Outcome.WITHDRAWN
    return Outcome.HELD if state is State.WAITING_WINDOW else None


def _back_outcome(errand: Errand, have: Have | None, *, taken: bool) -> Outcome | None:
    active = have.sha256 if have is not None else None
    there = active != errand.sha256 if errand.back_sha256 is None else active == errand.back_sha256
    if have is not None and have.deployment == back(errand.deployment) and have.state in ENDS:
        return Outcome.REVERTED if there else Outcome.FAILED
    at_rest = have is None or have.state in AT_REST
    return Outcome.REVERTED if there and taken and at_rest else None
