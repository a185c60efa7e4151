"""How a rollout and each of its devices stand: the words, the tables, and the data that a database keeps.

Pure, and frozen. Decides nothing: `cloud_fallback.fleet.rollout` walks these tables.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError

from edge_runtime.contract.errors import InputError


class Standing(StrEnum):
    """How a device stands in a rollout."""

    WAITING = "waiting"
    OFFERED = "offered"
    """Under way: it was told, and has not said how it ended."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It refused, failed, or rolled back by itself; it runs what it ran before."""
    TIMED_OUT = "timed-out"
    """It said nothing in time; what it runs is not known."""
    REGRESSED = "regressed"
    """It took the version, and its health was worse afterwards."""
    WITHDRAWING = "withdrawing"
    """Told to give up; it has not answered yet."""
    WITHDRAWN = "withdrawn"
    LEFT = "left"
    """No longer meant: out of the fleet, or it has something newer."""
    REVERTING = "reverting"
    REVERTED = "reverted"
    STUCK = "stuck"
    """The way back failed, or it said nothing in time."""


class Outcome(StrEnum):
    """What can be said of a device."""

    ONLINE = "online"
    OFFLINE = "offline"
    HELD = "held"
    """It waits for its maintenance window, which is closed."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REGRESSED = "regressed"
    WITHDRAWN = "withdrawn"
    LEFT = "left"
    REVERTED = "reverted"
    BLOCKED = "blocked"
    """Another rollout has it."""
    FREED = "freed"


BUSY = frozenset({Standing.OFFERED, Standing.WITHDRAWING, Standing.REVERTING})
BAD = frozenset({Standing.FAILED, Standing.TIMED_OUT, Standing.REGRESSED})
ATTEMPTED = BAD | {Standing.OFFERED, Standing.WITHDRAWING, Standing.SUCCEEDED}
REVERTIBLE = frozenset({Standing.SUCCEEDED, Standing.TIMED_OUT, Standing.REGRESSED})
"""Those that have the version, or may have it."""

ENDS: dict[tuple[Standing, Outcome], Standing] = {
    (Standing.WAITING, Outcome.LEFT): Standing.LEFT,
    (Standing.OFFERED, Outcome.SUCCEEDED): Standing.SUCCEEDED,
    (Standing.OFFERED, Outcome.FAILED): Standing.FAILED,
    (Standing.OFFERED, Outcome.REGRESSED): Standing.REGRESSED,
    (Standing.OFFERED, Outcome.WITHDRAWN): Standing.WITHDRAWN,
    (Standing.OFFERED, Outcome.LEFT): Standing.LEFT,
    (Standing.WITHDRAWING, Outcome.SUCCEEDED): Standing.SUCCEEDED,
    (Standing.WITHDRAWING, Outcome.FAILED): Standing.FAILED,
    (Standing.WITHDRAWING, Outcome.REGRESSED): Standing.REGRESSED,
    (Standing.WITHDRAWING, Outcome.WITHDRAWN): Standing.WITHDRAWN,
    (Standing.WITHDRAWING, Outcome.LEFT): Standing.LEFT,
    (Standing.WITHDRAWN, Outcome.SUCCEEDED): Standing.SUCCEEDED,
    (Standing.WITHDRAWN, Outcome.LEFT): Standing.LEFT,
    (Standing.TIMED_OUT, Outcome.SUCCEEDED): Standing.SUCCEEDED,
    (Standing.TIMED_OUT, Outcome.FAILED): Standing.FAILED,
    (Standing.TIMED_OUT, Outcome.REGRESSED): Standing.REGRESSED,
    (Standing.SUCCEEDED, Outcome.REGRESSED): Standing.REGRESSED,
    (Standing.SUCCEEDED, Outcome.FAILED): Standing.FAILED,
    (Standing.REVERTING, Outcome.REVERTED): Standing.REVERTED,
    (Standing.REVERTING, Outcome.FAILED): Standing.STUCK,
    (Standing.REVERTING, Outcome.LEFT): Standing.LEFT,
    (Standing.STUCK, Outcome.REVERTED): Standing.REVERTED,
}
"""What a report makes of a standing. What is not here changes nothing: duplicated, late and reordered reports
are harmless, and no report takes back a failure, but that of a device that was only silent."""

TIMEOUTS: dict[Standing, Standing] = {
    Standing.OFFERED: Standing.TIMED_OUT,
    Standing.WITHDRAWING: Standing.TIMED_OUT,
    Standing.REVERTING: Standing.STUCK,
}


class Phase(StrEnum):
    """How a rollout stands."""

    RUNNING = "running"
    """A wave is under way."""
    SOAKING = "soaking"
    """It has ended; time has to show that it was good."""
    APPROVAL = "approval"
    """A person has to allow the next wave."""
    COMPLETED = "completed"
    """All waves were good; who was offline is still caught up."""
    PAUSED = "paused"
    HALTED = "halted"
    REVERTING = "reverting"
    REVERTED = "reverted"
    """Everybody reached is back; who was offline is still taken back."""
    CANCELLED = "cancelled"


LIVE = frozenset({Phase.RUNNING, Phase.SOAKING, Phase.APPROVAL, Phase.COMPLETED})
GOING_BACK = frozenset({Phase.REVERTING, Phase.REVERTED})


class Move(StrEnum):
    """What can happen to a rollout as a whole."""

    SETTLED = "settled"
    """Everybody of the wave who could be reached has ended."""
    OPEN = "open"
    """The next wave opens."""
    ASK = "ask"
    APPROVE = "approve"
    FINISH = "finish"
    PAUSE = "pause"
    RESUME = "resume"
    HALT = "halt"
    REVERT = "revert"
    BACK = "back"
    """Everybody who can be reached has reverted."""
    CANCEL = "cancel"


PHASES: dict[tuple[Phase, Move], Phase] = {
    (Phase.RUNNING, Move.OPEN): Phase.RUNNING,
    (Phase.RUNNING, Move.SETTLED): Phase.SOAKING,
    (Phase.RUNNING, Move.ASK): Phase.APPROVAL,
    (Phase.SOAKING, Move.OPEN): Phase.RUNNING,
    (Phase.SOAKING, Move.ASK): Phase.APPROVAL,
    (Phase.SOAKING, Move.FINISH): Phase.COMPLETED,
    (Phase.APPROVAL, Move.APPROVE): Phase.RUNNING,
    **{(phase, Move.PAUSE): Phase.PAUSED for phase in sorted(LIVE | GOING_BACK)},
    (Phase.HALTED, Move.RESUME): Phase.RUNNING,
    **{(phase, Move.HALT): Phase.HALTED for phase in (*sorted(LIVE), Phase.PAUSED)},
    **{
        (phase, Move.REVERT): Phase.REVERTING
        for phase in (*sorted(LIVE), Phase.PAUSED, Phase.HALTED, Phase.CANCELLED)
    },
    **{(phase, Move.CANCEL): Phase.CANCELLED for phase in (*sorted(LIVE), Phase.PAUSED, Phase.HALTED)},
    (Phase.REVERTING, Move.BACK): Phase.REVERTED,
}
"""What is not here is refused. Resuming a paused rollout leads to the phase it was paused in."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that a rollout is to reach.

    Args:
        name: Unique in the fleet.
        zone: IANA time zone of its store.
        size_bytes: That it is going to fetch: of the patch from what it has, or of the whole file.
        online: Whether it is.
    """

    name: str
    zone: str = "UTC"
    size_bytes: int = 0
    online: bool = True


@dataclass(frozen=True, slots=True)
class Member:
    """A device in a rollout.

    Args:
        device: Its name.
        wave: Counted from 0.
        zone: IANA time zone of its store.
        size_bytes: That it is going to fetch.
        spread: Its place in the jitter, in [0, 1); drawn once.
        online: Whether it is.
        blocked: Whether another rollout has it.
        straggler: It was away when its wave had its turn; the wave does not wait for it.
        forgiven: A person has resumed in spite of its failure; it no longer counts.
        standing: How it stands.
        since_s: Since when.
        ready_s: When it may be sent something; None: nothing is to be sent.
        deadline_s: When it has been silent for too long; None: nothing is awaited.
    """

    device: str
    wave: int
    zone: str
    size_bytes: int
    spread: float
    online: bool
    blocked: bool = False
    straggler: bool = False
    forgiven: bool = False
    standing: Standing = Standing.WAITING
    since_s: float = 0.0
    ready_s: float | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A rollout, but for its devices.

    Args:
        phase: How it stands.
        paused_in: The phase to come back to; None: it is not paused.
        wave: The last one opened, counted from 0; -1: none yet.
        settled_s: When that wave had ended.
        approved: The last wave that a person allowed.
        reason: Why it stopped, for a person; empty: it has not.
        spent: Bytes offered, by minutes since 1970, of the last hour.
    """

    phase: Phase = Phase.RUNNING
    paused_in: Phase | None = None
    wave: int = -1
    settled_s: float | None = None
    approved: int = -1
    reason: str = ""
    spent: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutState:
    """Everything a replica needs to go on with a rollout, besides its deployment.

    Args:
        head: The rollout.
        members: Its devices.
    """

    head: Head = Head()
    members: tuple[Member, ...] = ()


HEADS: TypeAdapter[Head] = TypeAdapter(Head)
_STATE: TypeAdapter[RolloutState] = TypeAdapter(RolloutState)


def pack(state: RolloutState) -> bytes:
    """Write a state as JSON."""
    return _STATE.dump_json(state)


def unpack(data: bytes) -> RolloutState:
    """Read what `pack` wrote.

    Raises:
        InputError: It is something else.
    """
    try:
        return _STATE.validate_json(data)
    except ValidationError as error:
        raise InputError("state of a rollout", expected="what `pack` wrote", got=str(error)) from error
