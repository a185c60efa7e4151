"""What is left of a job: which rows of an input are done, when a part is full, and whether two jobs are one.

Pure: reads no clock, no disk and no model. A row is an input's frame or line, or the picture (row 0).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

_T = TypeVar("_T")

PART_ROWS = 65_536
"""Rows of a part at most: 100 MB of vectors with 384 numbers."""
PART_BYTES = 128 * 2**20
"""Bytes that a part's rows are guessed to take at most."""
PART_S = 60.0
"""A part is closed after this time: what a kill or a power cut loses at most."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one input, all of them done.

    Args:
        first: The first one.
        end: The one after the last. A sampled recording has no rows for the frames between.
        last: Whether the input ends here.
    """

    first: int
    end: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows of one input that are not done.

    Args:
        first: The first one.
        end: The one after the last; None: to the input's end.
    """

    first: int
    end: int | None

    def __contains__(self, row: int) -> bool:
        return self.first <= row and (self.end is None or row < self.end)


def gaps(spans: Iterable[Span]) -> tuple[Gap, ...]:
    """Give what is left of an input.

    Args:
        spans: What is done, in any order; they may touch and overlap.

    Returns:
        In order, apart from each other; empty when the input is done to its end.
    """
    found: list[Gap] = []
    reached = 0
    ended = False
    for span in sorted(spans, key=lambda one: (one.first, one.end)):
        if span.first > reached:
            found.append(Gap(reached, span.first))
        reached = max(reached, span.end)
        ended = ended or span.last
    return tuple(found) if ended else (*found, Gap(reached, None))


@dataclass(slots=True)
class Growing:
    """Spans of a part that is being written, by input.

    Attributes:
        spans: By the input's name, those that no later row belongs to any more, and the one that grows.
    """

    spans: dict[str, list[Span]] = field(default_factory=dict[str, list[Span]])

    def add(self, source: str, row: int, *, last: bool, holes: bool) -> None:
        """Note a row that is done.

        Args:
            source: The input.
            row: Of it.
            last: Whether it is the input's last one.
            holes: Whether rows come in order with some left out on purpose (a sampled recording).
        """
        mine = self.spans.setdefault(source, [])
        grows = mine[-1] if mine else None
        if grows is not None and not grows.last and (row == grows.end or (holes and row >= grows.end)):
            mine[-1] = Span(grows.first, row + 1, last)
        else:
            mine.append(Span(row, row + 1, last))


@dataclass(frozen=True, slots=True)
class Limits:
    """When a part is full.

    Args:
        rows: At most so many.
        bytes: At most about so many.
        seconds: It is closed after this time.
    """

    rows: int = PART_ROWS
    bytes: int = PART_BYTES
    seconds: float = PART_S

    def full(self, rows: int, size_bytes: int, age_s: float) -> bool:
        """Tell whether a part is to be closed; one without rows never is."""
        return rows > 0 and (rows >= self.rows or size_bytes >= self.bytes or age_s >= self.seconds)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Say in what two jobs differ, for a person.

    Args:
        before: What the rows that are there were made with.
        now: What is asked for.

    Returns:
        One sentence part for each difference; empty when they are the same job.
    """
    return tuple(
        f"{name} was {before.get(name) or 'not given'}, is {now.get(name) or 'not given'}"
        for name in sorted({*before, *now})
        if before.get(name, "") != now.get(name, "")
    )


def marked(items: Iterable[_T]) -> Iterator[tuple[_T, bool]]:
    """Give each item, and whether it is the last one."""
    rest = iter(items)
    try:
        held = next(rest)
    except StopIteration:
        return
    for item in rest:
        yield held, False
        held = item
    yield held, True
