"""Lines: who crossed one, which way.

Ends are fractions of the picture's width and height. Walking from `start` to `end` on the picture as it is
seen, side a is on the left hand and side b on the right:

          a                      end
    start ────► end            a  ▲  b
          b                     start

A line is as long as it is drawn: who walks around its end crosses nothing. It makes no events and no ids
(`edge_runtime.analytics.rules` does) and knows no clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot, inf
from typing import Literal, TypeAlias

from edge_runtime.analytics.zones import Anchor, Point, check_point
from edge_runtime.contract.errors import ConfigError

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line to count at.

    Args:
        name: As it appears in events.
        start: Fractions of width and height.
        end: As `start`.
        a_to_b: The user's word for crossing from the left of the line's direction to its right.
        b_to_a: The user's word for the other way.
        labels: Only objects of these classes count; empty: all.
        anchor: The point of a box that crosses; the feet, unless the camera looks straight down.
        margin: How far from the line an object must get before its crossing counts, as a share of its box's
            height. Trembling on the line is less than that.

    Raises:
        ConfigError: The ends or the margin are not usable.
    """

    name: str
    start: Point
    end: Point
    a_to_b: str = "a_to_b"
    b_to_a: str = "b_to_a"
    labels: tuple[str, ...] = ()
    anchor: Anchor = "bottom_center"
    margin: float = 0.1

    def __post_init__(self) -> None:
        check_line(self.name, self.start, self.end)
        if self.a_to_b == self.b_to_a:
            raise ConfigError(
                f"line '{self.name}': both directions have the same name",
                expected="two words, such as 'in' and 'out'",
                got=f"'{self.a_to_b}' twice",
            )
        if not 0 <= self.margin < inf:
            raise ConfigError(f"line '{self.name}': margin", expected="0 or more", got=str(self.margin))


def check_line(name: str, start: Point, end: Point) -> None:
    """Refuse a line that has no length or leaves the picture.

    Raises:
        ConfigError: Names the line and the end at fault.
    """
    check_point(f"line '{name}': from", start)
    check_point(f"line '{name}': to", end)
    if start == end:
        raise ConfigError(f"line '{name}'", expected="two different ends", got=f"{start} twice")


def crossing(start: Point, end: Point, before: Point, after: Point) -> int:
    """Tell whether a step crosses a line, and which way.

    A step crosses if its ends are on different sides (a point on the line is on side a) and it meets the
    line between the line's ends, these included. So along a path that does not go around an end the crossings
    one way and the other differ by one at most. In plain numbers: for a few people, arrays cost more.

    Args:
        start: Of the line.
        end: Of the line.
        before: Where the step begins.
        after: Where it ends.

    Returns:
        1 from a to b, -1 from b to a, 0 where the line is not crossed.
    """
    was, now = _side(start, end, before), _side(start, end, after)
    if (was > 0) == (now > 0):
        return 0
    part = was / (was - now)
    meeting = before[0] + part * (after[0] - before[0]), before[1] + part * (after[1] - before[1])
    return (1 if now > 0 else -1) if 0 <= _share(start, end, meeting) <= 1 else 0


def distance(start: Point, end: Point, point: Point) -> float:
    """Measure how far a point is from a segment, all in the same unit."""
    share = min(max(_share(start, end, point), 0.0), 1.0)
    x = point[0] - start[0] - share * (end[0] - start[0])
    y = point[1] - start[1] - share * (end[1] - start[1])
    return hypot(x, y)


class LineWatch:
    """Follows who crosses one line.

    A crossing counts when the object has got clear of the line on the other side: the steps over the line
    since it was last clear are added up, so who trembles on it is counted once and who turns back not at all.

    Args:
        line: Where the line is.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._before: dict[int, Point] = {}
        self._pending: dict[int, int] = {}  # steps over the line since last clear of it
        self._unclear: set[int] = set()  # tracks that began on the line: nobody saw where they came from
        self.counts: dict[Direction, int] = {"a_to_b": 0, "b_to_a": 0}
        """Crossings so far."""

    def update(
        self,
        ids: Sequence[int],
        anchors: Sequence[Point],
        box_heights: Sequence[float],
        scale: tuple[int, int],
    ) -> list[tuple[int, Direction]]:
        """Take in where the tracks of one frame are.

        Args:
            ids: Of the n tracks the line counts.
            anchors: n points, fractions of width and height.
            box_heights: n heights, pixels.
            scale: (width, height) of the picture, pixels.

        Returns:
            The tracks that have crossed, and which way.
        """
        line = self._line
        clear = self._clear(anchors, box_heights, scale)
        for track, now, free in zip(ids, anchors, clear, strict=True):
            before = self._before.get(track)
            self._before[track] = now
            if before is None:
                if not free:
                    self._unclear.add(track)
            elif step := crossing(line.start, line.end, before, now):
                self._pending[track] = self._pending.get(track, 0) + step
        if not (self._pending or self._unclear):
            return []
        return [
            (track, direction)
            for track, free in zip(ids, clear, strict=True)
            if free and (direction := self._settle(track)) is not None
        ]

    def forget(self, tracks: Iterable[int]) -> None:
        """Drop what is known of tracks that are gone; who was still on the line has not crossed it."""
        for track in tracks:
            self._before.pop(track, None)
            self._pending.pop(track, None)
            self._unclear.discard(track)

    def _clear(
        self, anchors: Sequence[Point], box_heights: Sequence[float], scale: tuple[int, int]
    ) -> list[bool]:
        width, height = scale
        (x1, y1), (x2, y2) = self._line.start, self._line.end
        start, end, margin = (x1 * width, y1 * height), (x2 * width, y2 * height), self._line.margin
        return [
            distance(start, end, (x * width, y * height)) >= margin * tall
            for (x, y), tall in zip(anchors, box_heights, strict=True)
        ]

    def _settle(self, track: int) -> Direction | None:
        """Say which way a track has crossed that is clear of the line now."""
        net = self._pending.pop(track, 0)
        if track in self._unclear:
            self._unclear.remove(track)
            return None
        if net == 0:
            return None
        direction: Direction = "a_to_b" if net > 0 else "b_to_a"
        self.counts[direction] += 1
        return direction


def _side(start: Point, end: Point, point: Point) -> float:
    """Cross product: negative on side a, positive on side b (y grows downwards)."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    return along_x * (point[1] - start[1]) - along_y * (point[0] - start[0])


def _share(start: Point, end: Point, point: Point) -> float:
    """Where along a segment a point is: 0 at its start, 1 at its end."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    forward = (point[0] - start[0]) * along_x + (point[1] - start[1]) * along_y
    return forward / (along_x * along_x + along_y * along_y)
