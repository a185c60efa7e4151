"""DaySummary: a day of a store, from what was seen at its entrances and in its zones.

The same moments give the same summary, in whatever order they came. Pure: reads no clock and no disk; whoever
keeps moments sees to it that none comes twice.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeAlias

from edge_runtime.analytics.durations import Durations
from edge_runtime.analytics.occupancy import Level, levels
from edge_runtime.analytics.queue import Length, Wait, lengths, waited
from edge_runtime.analytics.storeday import StoreClock

Place: TypeAlias = tuple[str, str]
"""A camera, and a zone or line of it."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A line that people cross to come in or to go out.

    Args:
        line: Camera and line.
        inwards: The line's word for coming in; its other word is for going out.
    """

    line: Place
    inwards: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Which lines are entrances, and which zones waiting lines.

    Args:
        entrances: By name.
        queues: Zones of waiting lines.
    """

    entrances: Mapping[str, Entrance] = field(default_factory=dict[str, Entrance])
    queues: frozenset[Place] = frozenset()


@dataclass(frozen=True, slots=True, order=True)
class Crossing:
    """Somebody crossed a line.

    Args:
        at_s: Seconds since 1970.
        line: Camera and line.
        word: The user's, for the direction.
    """

    at_s: float
    line: Place
    word: str


@dataclass(frozen=True, slots=True, order=True)
class Stay:
    """Somebody was in a zone, and left.

    Args:
        at_s: When that was noticed, seconds since 1970.
        zone: Camera and zone.
        lasted_s: How long it was.
    """

    at_s: float
    zone: Place
    lasted_s: float


@dataclass(frozen=True, slots=True)
class Passed:
    """An entrance over a day.

    Args:
        camera: That looks at it.
        entered: People seen coming in, by hour.
        left: People seen going out, by hour.
    """

    camera: str
    entered: tuple[int, ...]
    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """A waiting line over a day.

    Args:
        lengths: By slot, those that have begun.
        waits: How long people waited, by the hour in which their wait ended.
    """

    lengths: tuple[Length, ...]
    waits: tuple[Durations, ...]


@dataclass(frozen=True, slots=True)
class DaySummary:
    """A day of a store.

    Args:
        day: Its date; it may end on the next one.
        hours: Moments at which its hours begin, seconds since 1970; see `StoreClock.hours`.
        end_s: The moment at which the day ends.
        entrances: By name.
        levels: Occupancy of the store by slot, those that have begun; empty: no line is an entrance.
        dwell: How long people stayed in each zone, by the hour in which they left.
        queues: Of the zones that are waiting lines.
        looked: In which slots a camera's pictures were looked at, by camera; an hour without people is one in
            which nobody came only where somebody looked.
    """

    day: date
    hours: tuple[int, ...]
    end_s: int
    entrances: Mapping[str, Passed]
    levels: tuple[Level, ...]
    dwell: Mapping[Place, tuple[Durations, ...]]
    queues: Mapping[Place, Queue]
    looked: Mapping[str, Sequence[bool]] = field(default_factory=dict[str, Sequence[bool]])


def passings(crossings: Iterable[Crossing], layout: Layout) -> list[tuple[float, bool]]:
    """Give when somebody came in (True) or went out, in order.

    Of two at the same moment who came in is first: nobody is missed for a millisecond.
    """
    inwards = {each.line: each.inwards for each in layout.entrances.values()}
    found = ((x.at_s, x.word == inwards[x.line]) for x in crossings if x.line in inwards)
    return sorted(found, key=lambda passing: (passing[0], not passing[1]))


def summarize(
    clock: StoreClock,
    day: date,
    layout: Layout,
    *,
    crossings: Iterable[Crossing],
    stays: Iterable[Stay],
    waiting: Mapping[Place, Sequence[float]],
    until_s: float,
) -> DaySummary:
    """Sum a day up.

    Args:
        clock: The store's.
        day: Which.
        layout: What the lines and zones are.
        crossings: Of that day.
        stays: That ended on that day.
        waiting: Since when those are in a zone that have not left it.
        until_s: Now, seconds since 1970; of a day that is over: any later moment.
    """
    hours, slots, end_s = clock.hours(day), clock.slots(day), clock.end_s(day)
    crossings, stays = sorted(crossings), sorted(stays)
    # A recording is read faster than time goes by: what it shows may lie ahead of the clock.
    until_s = min(max([until_s, *(each.at_s + 0.001 for each in (*crossings[-1:], *stays[-1:]))]), end_s)
    return DaySummary(
        day=day,
        hours=hours,
        end_s=end_s,
        entrances={
            name: _passed(hours, entrance, [x for x in crossings if x.line == entrance.line])
            for name, entrance in layout.entrances.items()
        },
        levels=tuple(levels(passings(crossings, layout), slots, until_s)) if layout.entrances else (),
        dwell=_dwell(hours, stays),
        queues={
            zone: _queue(clock, day, [s for s in stays if s.zone == zone], waiting.get(zone, ()), until_s)
            for zone in sorted(layout.queues)
        },
    )


def _passed(hours: Sequence[int], entrance: Entrance, crossings: Iterable[Crossing]) -> Passed:
    entered, left = [0] * len(hours), [0] * len(hours)
    for each in crossings:
        (entered if each.word == entrance.inwards else left)[_hour(hours, each.at_s)] += 1
    return Passed(entrance.line[0], tuple(entered), tuple(left))


def _dwell(hours: Sequence[int], stays: Iterable[Stay]) -> dict[Place, tuple[Durations, ...]]:
    dwell: dict[Place, tuple[Durations, ...]] = {}
    for stay in stays:
        by_hour = dwell.setdefault(stay.zone, tuple(Durations() for _ in hours))
        by_hour[_hour(hours, stay.at_s)].add(stay.lasted_s)
    return dwell


def _queue(
    clock: StoreClock, day: date, stays: Sequence[Stay], waiting: Sequence[float], until_s: float
) -> Queue:
    hours, slots, end_s = clock.hours(day), clock.slots(day), clock.end_s(day)
    over = waited(Wait(stay.at_s - stay.lasted_s, stay.at_s) for stay in stays)
    still = waited(Wait(since_s, until_s) for since_s in waiting)
    waits = [Durations() for _ in hours]
    for wait in over:
        waits[_hour(hours, wait.end_s)].add(wait.lasted_s)
    along = lengths([*over, *still], slots, end_s, until_s)
    return Queue(tuple(Length(round(x.mean, 3), x.most) for x in along), tuple(waits))


def _hour(hours: Sequence[int], at_s: float) -> int:
    """Find the hour of a moment of the day."""
    return max(bisect_right(hours, at_s) - 1, 0)


def to_document(summary: DaySummary) -> dict[str, Any]:
    """Write a summary as what JSON can hold, in few words; without `looked`, which is kept elsewhere."""
    return {
        "v": 1,
        "day": summary.day.isoformat(),
        "hours": summary.hours,
        "end": summary.end_s,
        "entrances": {
            name: [each.camera, each.entered, each.left] for name, each in summary.entrances.items()
        },
        "levels": [[level.inside, level.most, level.missed] for level in summary.levels],
        "dwell": [[*zone, _sparse(by_hour)] for zone, by_hour in summary.dwell.items()],
        "queues": [
            [*zone, [[x.mean, x.most] for x in queue.lengths], _sparse(queue.waits)]
            for zone, queue in summary.queues.items()
        ],
    }


def from_document(document: Mapping[str, Any]) -> DaySummary:
    """Read what `to_document` wrote."""
    hours = tuple(int(each) for each in document["hours"])
    entrances: Mapping[str, Any] = document["entrances"]
    return DaySummary(
        day=date.fromisoformat(document["day"]),
        hours=hours,
        end_s=document["end"],
        entrances={
            name: Passed(camera, tuple(entered), tuple(left))
            for name, (camera, entered, left) in entrances.items()
        },
        levels=tuple(Level(*each) for each in document["levels"]),
        dwell={(camera, zone): _dense(found, len(hours)) for camera, zone, found in document["dwell"]},
        queues={
            (camera, zone): Queue(tuple(Length(*each) for each in along), _dense(found, len(hours)))
            for camera, zone, along, found in document["queues"]
        },
    )


def _sparse(by_hour: Sequence[Durations]) -> dict[str, dict[str, int]]:
    return {
        str(hour): {str(number): count for number, count in sorted(each.buckets.items())}
        for hour, each in enumerate(by_hour)
        if each.count
    }


def _dense(found: Mapping[str, Mapping[str, int]], hours: int) -> tuple[Durations, ...]:
    return tuple(
        Durations({int(number): count for number, count in found.get(str(hour), {}).items()})
        for hour in range(hours)
    )
