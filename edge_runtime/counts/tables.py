"""Counts as tables: one row an hour, or a day, of each entrance, zone or waiting line. Reads no file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from math import ceil
from typing import TypeAlias

from edge_runtime.analytics.durations import Durations
from edge_runtime.analytics.storeday import SLOT_S, StoreClock
from edge_runtime.analytics.storesummary import DaySummary

Cell: TypeAlias = str | int | float | datetime | None


class What(StrEnum):
    """What is in a table."""

    ENTRANCES = "entrances"
    OCCUPANCY = "occupancy"
    DWELL = "dwell"
    QUEUE = "queue"


class Every(StrEnum):
    """What a row is about."""

    HOUR = "hour"
    DAY = "day"


COLUMNS: dict[What, tuple[str, ...]] = {
    What.ENTRANCES: ("from", "to", "entrance", "in", "out", "watched"),
    What.OCCUPANCY: ("from", "to", "inside", "most", "missed_entries", "watched"),
    What.DWELL: ("from", "to", "camera", "zone", "stays", "median_s", "p90_s", "watched"),
    What.QUEUE: (
        *("from", "to", "camera", "zone", "waited", "median_wait_s", "p90_wait_s", "longest_wait_s"),
        *("mean_length", "longest_line", "watched"),
    ),
}
"""`inside` is at the end of the hour or day, `most` and `longest_line` the most people at once; `watched` is
the share of the time in which the camera was looked at, of the worst one where there are several."""


@dataclass(frozen=True, slots=True)
class Table:
    """Counts, row by row.

    Args:
        what: What is in it.
        columns: Their names.
        rows: A cell for each column; None where there is nothing to say.
    """

    what: What
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """An hour or a day of a summary: when, which hours, which slots of those that have begun."""

    begin_s: int
    end_s: int
    hours: slice
    slots: slice


def table(clock: StoreClock, days: Iterable[DaySummary], what: What, every: Every, *, now_s: float) -> Table:
    """Lay counts out.

    Args:
        clock: The store's.
        days: In order.
        what: What is wanted.
        every: One row an hour, or a day.
        now_s: Hours that begin later are left out, seconds since 1970.
    """
    rows: list[tuple[Cell, ...]] = []
    for day in days:
        for span in _spans(day, every):
            if span.begin_s <= now_s:
                when = clock.local(span.begin_s), clock.local(span.end_s)
                rows += [(*when, *cells) for cells in _cells(day, what, span, now_s)]
    return Table(what, COLUMNS[what], tuple(rows))


def _spans(day: DaySummary, every: Every) -> Iterator[_Span]:
    begin_s = day.hours[0]
    if every is Every.DAY:
        yield _Span(begin_s, day.end_s, slice(None), slice(None))
        return
    for number, (from_s, to_s) in enumerate(pairwise((*day.hours, day.end_s))):
        slots = slice((from_s - begin_s) // SLOT_S, (to_s - begin_s) // SLOT_S)
        yield _Span(from_s, to_s, slice(number, number + 1), slots)


def _cells(day: DaySummary, what: What, span: _Span, now_s: float) -> Iterator[tuple[Cell, ...]]:
    begun = ceil((min(now_s, span.end_s) - span.begin_s) / SLOT_S)

    def watched(*cameras: str) -> float | None:
        if not begun or not cameras:
            return None
        looked = (sum(day.looked.get(camera, ())[span.slots]) for camera in cameras)
        return round(min(1.0, min(looked) / begun), 2)

    match what:
        case What.ENTRANCES:
            for name, passed in day.entrances.items():
                entered, left = sum(passed.entered[span.hours]), sum(passed.left[span.hours])
                yield name, entered, left, watched(passed.camera)
        case What.OCCUPANCY:
            levels = day.levels[span.slots]
            if levels:
                cameras = (passed.camera for passed in day.entrances.values())
                most, missed = max(x.most for x in levels), sum(x.missed for x in levels)
                yield levels[-1].inside, most, missed, watched(*cameras)
        case What.DWELL:
            for (camera, zone), by_hour in sorted(day.dwell.items()):
                yield camera, zone, *_durations(by_hour[span.hours], (0.5, 0.9)), watched(camera)
        case What.QUEUE:
            for (camera, zone), queue in sorted(day.queues.items()):
                lengths = queue.lengths[span.slots]
                mean = round(sum(x.mean for x in lengths) / len(lengths), 2) if lengths else None
                waits = _durations(queue.waits[span.hours], (0.5, 0.9, 1.0))
                longest = max((x.most for x in lengths), default=None)
                yield camera, zone, *waits, mean, longest, watched(camera)


def _durations(by_hour: Sequence[Durations], shares: Sequence[float]) -> tuple[int | float | None, ...]:
    total = Durations.sum(by_hour)
    found = (total.quantile(share) for share in shares)
    return total.count, *(None if each is None else round(each, 1) for each in found)
