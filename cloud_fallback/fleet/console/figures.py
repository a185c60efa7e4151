"""What the pages draw, as plain numbers: bars of waves, the curve of a rollout, which moves a phase allows.

Pure. Draws nothing itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.standing import BAD, PHASES, Move, Phase, Standing
from cloud_fallback.fleet.views import MemberView, MoveName

MOVES: tuple[MoveName, ...] = ("approve", "pause", "resume", "halt", "revert", "cancel")
ORDER = (
    Standing.SUCCEEDED,
    Standing.OFFERED,
    Standing.WITHDRAWING,
    Standing.REVERTING,
    Standing.FAILED,
    Standing.TIMED_OUT,
    Standing.REGRESSED,
    Standing.STUCK,
    Standing.REVERTED,
    Standing.WITHDRAWN,
    Standing.LEFT,
    Standing.WAITING,
)
"""Of a bar, from left to right: what is done, what is under way, what went wrong, what is to come."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a bar.

    Args:
        name: What it counts.
        count: How many.
        start: In percent of the bar.
        width: In percent of the bar.
    """

    name: str
    count: int
    start: float
    width: float


def bar(counts: Mapping[str, int]) -> list[Piece]:
    """Cut a bar into pieces by count, in the order of `ORDER`; other names follow as they come."""
    total = sum(counts.values())
    known = [each.value for each in ORDER]
    names = [*known, *(name for name in counts if name not in known)]
    pieces: list[Piece] = []
    done = 0
    for name in names:
        count = counts.get(name, 0)
        if count:
            pieces.append(Piece(name, count, round(100 * done / total, 3), round(100 * count / total, 3)))
            done += count
    return pieces


def curve(members: Iterable[MemberView]) -> list[list[float]]:
    """Count how many devices had ended by when.

    Args:
        members: Of a deployment.

    Returns:
        Three rows of the same length: seconds since 1970, devices that are well, devices that are not.
    """
    ends = sorted(
        (moments.seconds(each.since), each.standing in BAD)
        for each in members
        if each.standing in BAD or each.standing == Standing.SUCCEEDED
    )
    times, well, bad = list[float](), list[float](), list[float]()
    for at_s, is_bad in ends:
        times.append(at_s)
        well.append((well[-1] if well else 0) + (not is_bad))
        bad.append((bad[-1] if bad else 0) + is_bad)
    return [times, well, bad]


def allowed(phase: Phase) -> list[MoveName]:
    """List the moves that a phase allows a person."""
    found = {move for each, move in PHASES if each is phase}
    return [name for name in MOVES if Move(name) in found or (name == "resume" and phase is Phase.PAUSED)]
