"""When a device reports, and what has changed since it last did. Pure: time and dice come in."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from edge_runtime.contract.fleet import DeviceEvent, Have
from edge_runtime.contract.update import ENDS, State

PROGRESS_S = 5.0
"""Between reports of which only the progress of a download is news."""
NOTICE_SPREAD_S = 30.0
"""Reports that a notice asks for are spread over this, so that a whole fleet does not answer at once."""
_PATIENCE_S = 60.0
"""For the broker's word on the last report."""
_LEVELS = {State.COMMITTED: "info", State.CANCELLED: "info"}


class ReportPlan:
    """Says when a report is due: one at a time, never while there is no connection.

    Args:
        every_s: At the latest, give or take a tenth.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._due_s = math.inf
        self._sent_s = -math.inf
        self._under_way = False

    def connected(self, now_s: float) -> None:
        """There is a new connection: the manager compares at once."""
        self._due_s, self._under_way = now_s, False

    def lost(self) -> None:
        """There is none any more."""
        self._due_s, self._under_way = math.inf, False

    def changed(self, now_s: float) -> None:
        """Something is news."""
        self._advance(now_s)

    def progressed(self, now_s: float) -> None:
        """The progress of a download is news, which can wait a little."""
        self._advance(max(now_s, self._sent_s + PROGRESS_S))

    def noticed(self, now_s: float, dice: float) -> None:
        """Everybody was asked to report."""
        self._advance(now_s + dice * NOTICE_SPREAD_S)

    def sent(self, now_s: float, dice: float) -> None:
        """A report is under way."""
        self._sent_s, self._under_way = now_s, True
        self._due_s = now_s + self._every_s * (0.9 + 0.2 * dice)

    def settled(self) -> None:
        """The broker has it, and somebody subscribes to it."""
        self._under_way = False

    def unheard(self, now_s: float, dice: float) -> None:
        """Nobody got it: the manager is not back yet, as after a broker that lost its state."""
        self._under_way = False
        self._advance(now_s + NOTICE_SPREAD_S * (0.5 + dice / 2))

    def wake_at(self) -> float:
        """Say when the next report is due; infinity: not before something happens."""
        return max(self._due_s, self._sent_s + _PATIENCE_S) if self._under_way else self._due_s

    def _advance(self, due_s: float) -> None:
        if self._due_s < math.inf:
            self._due_s = min(self._due_s, due_s)


@dataclass(frozen=True, slots=True)
class News:
    """What is new since the last look.

    Args:
        changed: Something other than the progress of a download.
        progressed: That progress.
        ended: The updates that have ended since.
    """

    changed: bool
    progressed: bool
    ended: tuple[Have, ...]


class Watch:
    """Compares what a device has with what it had at the last look."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], Have] | None = None
        self._seq = -1

    def look(self, have: Iterable[Have], desired_seq: int) -> News:
        """Compare. At the first look everything is new, what ended before the start included."""
        now = {(each.kind, each.name): each for each in have}
        before, seq = self._seen or {}, self._seq
        first = self._seen is None
        self._seen, self._seq = now, desired_seq
        ended = tuple(
            each for key, each in now.items() if _has_ended(each) and _end(each) != _end(before.get(key))
        )
        still = {key: each.model_copy(update={"progress": 0.0}) for key, each in now.items()}
        were = {key: each.model_copy(update={"progress": 0.0}) for key, each in before.items()}
        return News(
            changed=first or still != were or seq != desired_seq, progressed=now != before, ended=ended
        )


def event_of(have: Have, time: str) -> DeviceEvent:
    """Make the event of an update's end; it has the same id however often it is made."""
    what = f"{have.kind}/{have.name}/{have.deployment}/{have.state}"
    return DeviceEvent.model_validate(
        {
            "id": f"update-{digest(what)}",
            "time": time,
            "level": _LEVELS.get(have.state, "error"),
            "code": have.code or have.state,
            "text": f"{have.kind} {have.name}: {have.state}{have.detail and f': {have.detail}'}"[:1000],
            "deployment": have.deployment,
        }
    )


def digest(what: str | bytes) -> str:
    """Give a short name for something, always the same."""
    return hashlib.sha256(what if isinstance(what, bytes) else what.encode()).hexdigest()[:32]


def _has_ended(have: Have) -> bool:
    return have.state in ENDS and have.deployment is not None


def _end(have: Have | None) -> tuple[str | None, State] | None:
    return None if have is None else (have.deployment, have.state)
