"""Zones: who is inside an area of the picture, since when, and who came and went.

Corners are fractions of the picture's width and height, so a zone outlives a change of resolution. A zone
sees tracks as points; it makes no events and no ids (`edge_runtime.analytics.rules` does) and knows no clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, isfinite
from typing import Literal, NamedTuple, TypeAlias

from edge_runtime.contract.errors import ConfigError

Point: TypeAlias = tuple[float, float]
Edges: TypeAlias = tuple[tuple[float, float, float, float], ...]
"""x and y where each begins, y where it ends, and x for each y along it."""
Anchor: TypeAlias = Literal["bottom_center", "center"]

_LEAST_AREA = 1e-6
"""Of the picture: two pixels of a 1080p frame. Less is a rounding error of corners on one line."""


@dataclass(frozen=True, slots=True)
class Zone:
    """An area and what it takes to be in it.

    Args:
        name: As it appears in events.
        polygon: At least three corners, fractions of width and height; either way round.
        labels: Only objects of these classes count; empty: all.
        dwell_s: Report who has been inside for this long; None: do not.
        settle_s: How long an object must be inside before it has entered, and outside before it has left.
        anchor: The point of a box that counts; the feet, unless the camera looks straight down.

    Raises:
        ConfigError: The polygon or a time is not usable.
    """

    name: str
    polygon: tuple[Point, ...]
    labels: tuple[str, ...] = ()
    dwell_s: float | None = None
    settle_s: float = 0.3
    anchor: Anchor = "bottom_center"

    def __post_init__(self) -> None:
        check_polygon(self.name, self.polygon)
        if not 0 <= self.settle_s < inf:
            raise ConfigError(f"zone '{self.name}': settle_s", expected="0 or more", got=str(self.settle_s))
        if self.dwell_s is not None and not 0 < self.dwell_s < inf:
            raise ConfigError(f"zone '{self.name}': dwell_s", expected="more than 0", got=str(self.dwell_s))


def check_point(what: str, point: Point) -> None:
    """Refuse a point that is not inside the picture.

    Raises:
        ConfigError: Begins with `what`.
    """
    if not all(isfinite(value) and 0 <= value <= 1 for value in point):
        raise ConfigError(
            what,
            expected="x and y from 0 to 1",
            got=_text(point),
            do="Coordinates are fractions of the picture's width and height, not pixels.",
        )


def check_polygon(name: str, points: Sequence[Point]) -> None:
    """Refuse a polygon that does not enclose an area of the picture without crossing itself.

    Args:
        name: The zone, for the message.
        points: Corners as fractions of width and height.

    Raises:
        ConfigError: Names the zone and the corner or the edges at fault, counted from 1.
    """
    zone = f"zone '{name}'"
    if len(points) < 3:
        raise ConfigError(zone, expected="at least 3 corners", got=str(len(points)))
    for number, point in enumerate(points, start=1):
        check_point(f"{zone}: corner {number}", point)
    edges = list(zip(points, [*points[1:], points[0]], strict=True))
    for number, (start, end) in enumerate(edges, start=1):
        if start == end:
            raise ConfigError(
                f"{zone}: corners {number} and {number % len(points) + 1} are the same",
                got=_text(start),
                do="A polygon closes itself: leave out the corner that repeats.",
            )
    for (first, one), (second, other) in combinations(enumerate(edges, start=1), 2):
        neighbours = second - first in {1, len(edges) - 1}
        if _folds_back(one, other) if neighbours else _touch(one, other):
            raise ConfigError(
                f"{zone}: edge {first} {_text(*one)} meets edge {second} {_text(*other)}",
                expected="a polygon that does not cross or touch itself",
                do="List the corners in the order in which one walks around the zone.",
            )
    if abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in edges)) / 2 < _LEAST_AREA:
        raise ConfigError(f"{zone}: the corners are on one line", expected="a polygon that encloses an area")


def edges(polygon: Sequence[Point]) -> Edges:
    """Prepare a polygon for `contains`: its edges, level ones left out, with x gained for each y."""
    ends = zip(polygon, (*polygon[1:], polygon[0]), strict=True)
    return tuple((x1, y1, y2, (x2 - x1) / (y2 - y1)) for (x1, y1), (x2, y2) in ends if y1 != y2)


def contains(edges: Edges, point: Point) -> bool:
    """Tell whether a point is inside a polygon, by counting the edges right of it.

    The crossing-number test (M. Shimrat, "Algorithm 112: Position of point relative to polygon", CACM 5(8),
    1962). In plain numbers: for the few corners of a zone and the few people of a picture, arrays cost more.
    A point on an edge that two zones share is inside one of them, as far as rounding lets it be on the edge.

    Args:
        edges: Of the polygon, as `edges` gives them.
        point: x, y.
    """
    x, y = point
    inside = False
    for x1, y1, y2, slope in edges:
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * slope:
            inside = not inside
    return inside


class Change(NamedTuple):
    """What happened to a track in a zone; `seconds` is how long it has been, or was, inside."""

    kind: Literal["entered", "left", "dwelled"]
    track: int
    seconds: float
    occupancy: int


@dataclass(slots=True)
class _Stay:
    first_ns: int
    inside_ns: int  # when last seen inside
    outside_ns: int | None = None  # first seen outside since then
    entered: bool = False
    dwelled: bool = False


class ZoneWatch:
    """Follows the stays in one zone.

    Args:
        zone: The area and its times.
    """

    def __init__(self, zone: Zone) -> None:
        self._settle_ns = round(zone.settle_s * 1e9)
        self._dwell_ns = inf if zone.dwell_s is None else zone.dwell_s * 1e9
        self._edges = edges(zone.polygon)
        self._stays: dict[int, _Stay] = {}
        self.occupancy = 0
        """Objects that have entered and not left."""

    def update(self, ids: Sequence[int], anchors: Sequence[Point], pts_ns: int) -> list[Change]:
        """Take in where the tracks of one frame are.

        Args:
            ids: Of the n tracks the zone counts.
            anchors: n points, fractions of width and height.
            pts_ns: Source time of the frame.

        Returns:
            What changed, in the order of `ids`.
        """
        changes: list[Change] = []
        for track, point in zip(ids, anchors, strict=True):
            if contains(self._edges, point):
                changes += self._inside(track, pts_ns)
            elif track in self._stays:
                changes += self._outside(track, self._stays[track], pts_ns)
        return changes

    def forget(self, tracks: Iterable[int]) -> list[Change]:
        """End the stays of tracks that are gone, as of when they were last seen inside."""
        return [
            change
            for track in tracks
            if (stay := self._stays.get(track)) is not None
            for change in self._leave(track, stay)
        ]

    def _inside(self, track: int, pts_ns: int) -> list[Change]:
        stay = self._stays.setdefault(track, _Stay(pts_ns, pts_ns))
        stay.inside_ns, stay.outside_ns = pts_ns, None
        changes: list[Change] = []
        lasted_ns = pts_ns - stay.first_ns
        if not stay.entered and lasted_ns >= self._settle_ns:
            stay.entered = True
            self.occupancy += 1
            changes.append(Change("entered", track, lasted_ns / 1e9, self.occupancy))
        if stay.entered and not stay.dwelled and lasted_ns >= self._dwell_ns:
            stay.dwelled = True
            changes.append(Change("dwelled", track, lasted_ns / 1e9, self.occupancy))
        return changes

    def _outside(self, track: int, stay: _Stay, pts_ns: int) -> list[Change]:
        if stay.outside_ns is None:
            stay.outside_ns = pts_ns
        if stay.entered and pts_ns - stay.outside_ns < self._settle_ns:
            return []
        return self._leave(track, stay)

    def _leave(self, track: int, stay: _Stay) -> list[Change]:
        del self._stays[track]
        if not stay.entered:
            return []
        self.occupancy -= 1
        return [Change("left", track, (stay.inside_ns - stay.first_ns) / 1e9, self.occupancy)]


_Edge: TypeAlias = tuple[Point, Point]


def _touch(one: _Edge, other: _Edge) -> bool:
    """Tell whether two segments share a point, by the orientations of their ends."""
    sides = [_turn(*one, other[0]), _turn(*one, other[1]), _turn(*other, one[0]), _turn(*other, one[1])]
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    return any(
        side == 0 and _within(edge, point)
        for side, edge, point in zip(sides, (one, one, other, other), (*other, *one), strict=True)
    )


def _folds_back(one: _Edge, other: _Edge) -> bool:
    """Tell whether two edges that share a corner lie on each other."""
    shared = one[1] if one[1] in other else one[0]
    a = one[0] if shared == one[1] else one[1]
    b = other[0] if shared == other[1] else other[1]
    same_way = (a[0] - shared[0]) * (b[0] - shared[0]) + (a[1] - shared[1]) * (b[1] - shared[1]) > 0
    return _turn(a, shared, b) == 0 and same_way


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _within(edge: _Edge, point: Point) -> bool:
    (x1, y1), (x2, y2) = edge
    return min(x1, x2) <= point[0] <= max(x1, x2) and min(y1, y2) <= point[1] <= max(y1, y2)


def _text(*points: Point) -> str:
    return " to ".join(f"({x:g}, {y:g})" for x, y in points)
