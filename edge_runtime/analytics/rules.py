"""Rules: turns the tracks of one camera into events, by its zones and lines.

Pure: time comes with the tracks, and the same tracks give the same events with the same ids. Sends and stores
nothing. One `Rules` belongs to one camera and one thread.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NamedTuple, TypedDict

import numpy as np

from edge_runtime.analytics.lines import Direction, Line, LineWatch
from edge_runtime.analytics.zones import Anchor, Change, Point, Zone, ZoneWatch
from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.contract.event import (
    Attribute,
    Event,
    LineCrossed,
    Subject,
    ZoneDwell,
    ZoneEntered,
    ZoneLeft,
    event_id,
    iso_time,
)
from edge_runtime.contract.result import Boxes, Tracks

__all__ = ["Line", "RuleContext", "Rules", "Zone", "anchors", "check_labels", "check_layout"]

_INSIDE = 1 - 1e-9
"""Feet cut off by the picture's edge are inside a zone that reaches to the edge."""


@dataclass(frozen=True, slots=True)
class RuleContext:
    """What the events of a camera have in common.

    Args:
        site: The store.
        camera: The camera's name.
        epoch: Another one each time track ids begin anew, so that event ids do not repeat: the agent's start.
        model: Name of the bundle that found the objects.
        model_version: Its version.
    """

    site: str
    camera: str
    epoch: int | str
    model: str
    model_version: str


def check_layout(zones: Sequence[Zone], lines: Sequence[Line]) -> None:
    """Refuse zones and lines that cannot be told apart.

    Raises:
        ConfigError: Two zones or two lines of one name, or two lines between the same points.
    """
    for kind, names in (("zone", [z.name for z in zones]), ("line", [line.name for line in lines])):
        name, times = next(iter(Counter(names).most_common(1)), ("", 0))
        if times > 1:
            raise ConfigError(f"{kind} '{name}'", expected="a name of its own", got=f"{times} of that name")
    by_ends: dict[frozenset[tuple[float, float]], str] = {}
    for line in lines:
        twin = by_ends.setdefault(frozenset((line.start, line.end)), line.name)
        if twin != line.name:
            raise ConfigError(
                f"line '{line.name}': has the ends of line '{twin}'",
                expected="lines in different places",
                do="One line counts both directions.",
            )


def check_labels(zones: Sequence[Zone], lines: Sequence[Line], labels: Sequence[str]) -> None:
    """Refuse zones and lines that count classes the camera's model does not know.

    Args:
        zones: Of the camera.
        lines: Of the camera.
        labels: Of the model.

    Raises:
        ConfigError: Names the zone or line and the label, and one that may be meant.
    """
    for kind, place in (*(("zone", zone) for zone in zones), *(("line", line) for line in lines)):
        for label in place.labels:
            if label not in labels:
                near = get_close_matches(label, labels, n=1)
                raise ConfigError(
                    f"{kind} '{place.name}': labels",
                    expected="classes of the camera's model",
                    got=f"'{label}'",
                    do=f"Did you mean '{near[0]}'?" if near else "The model's labels are in its bundle.json.",
                )


def anchors(boxes: Boxes, anchor: Anchor, height: int, width: int) -> list[Point]:
    """Give the point of each box that zones and lines look at.

    Args:
        boxes: (n, 4) float32 xyxy, pixels.
        anchor: Which point.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        n points x, y as fractions of width and height, inside the picture.
    """
    feet = anchor == "bottom_center"
    return [
        (_inside((x1 + x2) / (2.0 * width)), _inside(y2 / height if feet else (y1 + y2) / (2.0 * height)))
        for x1, y1, x2, y2 in boxes.tolist()
    ]


def _inside(fraction: float) -> float:
    return min(max(fraction, 0.0), _INSIDE)


class _Sight(NamedTuple):
    """Where a track was seen last: row `row` of `tracks`."""

    tracks: Tracks
    row: int
    height: int
    width: int
    pts_ns: int


class _Seen(TypedDict):
    """The fields that all events of a frame and a track have."""

    id: str
    site: str
    camera: str
    time: str
    pts_ns: int
    model: str
    model_version: str
    subject: Subject


class Rules:
    """Watches the zones and lines of one camera.

    Args:
        zones: Areas to watch.
        lines: Lines to count at.
        context: What goes into every event.
        lost_after_s: A track not seen for longer is gone; the tracker's `max_lost_s`, after which its id
            does not come back.

    Raises:
        ConfigError: As `check_layout`.
    """

    def __init__(
        self,
        zones: Sequence[Zone],
        lines: Sequence[Line],
        context: RuleContext,
        *,
        lost_after_s: float = 2.0,
    ) -> None:
        check_layout(zones, lines)
        self.context = context
        self._lost_after_ns = round(lost_after_s * 1e9)
        self._zones = [(zone, ZoneWatch(zone)) for zone in zones]
        self._lines = [(line, LineWatch(line)) for line in lines]
        self.attributes: Mapping[int, Mapping[str, Attribute]] = {}
        """What second models have said of the tracks; goes into their events."""
        self._sights: dict[int, _Sight] = {}
        self._wanted: dict[tuple[str, ...], tuple[tuple[str, ...], frozenset[int]]] = {}
        self._pts_ns = 0

    @property
    def occupancy(self) -> dict[str, int]:
        """Objects in each zone now."""
        return {zone.name: watch.occupancy for zone, watch in self._zones}

    @property
    def crossings(self) -> dict[str, dict[str, int]]:
        """Crossings of each line so far, by the user's word for the direction."""
        return {
            line.name: {line.a_to_b: watch.counts["a_to_b"], line.b_to_a: watch.counts["b_to_a"]}
            for line, watch in self._lines
        }

    def update(
        self, tracks: Tracks, *, height: int, width: int, pts_ns: int, time_ns: int
    ) -> tuple[Event, ...]:
        """Take in the tracks of the next frame.

        Args:
            tracks: Confirmed objects seen in it.
            height: Of the picture, pixels; may change from frame to frame.
            width: As `height`.
            pts_ns: Source time of the frame; not before that of the last one.
            time_ns: Unix time of the picture.

        Returns:
            What happened: first who is gone, then zone by zone, then line by line, as they were declared.

        Raises:
            InputError: `pts_ns` runs backwards.
        """
        if pts_ns < self._pts_ns:
            raise InputError(
                "source time runs backwards", expected=f"at least {self._pts_ns} ns", got=f"{pts_ns} ns"
            )
        self._pts_ns = pts_ns
        ids = tracks.ids.tolist()
        self._sights.update(
            (track, _Sight(tracks, row, height, width, pts_ns)) for row, track in enumerate(ids)
        )
        gone = [t for t, s in self._sights.items() if pts_ns - s.pts_ns > self._lost_after_ns]
        events = self._forget(gone, pts_ns, time_ns)
        if ids:
            events += self._watch_zones(tracks, height, width, pts_ns, time_ns)
            events += self._watch_lines(tracks, height, width, pts_ns, time_ns)
        return tuple(events)

    def finish(self, pts_ns: int, time_ns: int) -> tuple[Event, ...]:
        """End all stays, at the end of the stream.

        Args:
            pts_ns: Source time of the end.
            time_ns: Unix time of the end.

        Returns:
            A `zone_left` for everyone still in a zone.
        """
        return tuple(self._forget(list(self._sights), pts_ns, time_ns))

    def _forget(self, gone: list[int], pts_ns: int, time_ns: int) -> list[Event]:
        events: list[Event] = [
            self._zone_event(zone, change, pts_ns, time_ns)
            for zone, watch in self._zones
            for change in watch.forget(gone)
        ]
        for _, watch in self._lines:
            watch.forget(gone)
        for track in gone:
            del self._sights[track]
        return events

    def _watch_zones(
        self, tracks: Tracks, height: int, width: int, pts_ns: int, time_ns: int
    ) -> Iterable[Event]:
        for zone, watch in self._zones:
            some = self._only(tracks, zone.labels)
            points = anchors(some.boxes, zone.anchor, height, width)
            for change in watch.update(some.ids.tolist(), points, pts_ns):
                yield self._zone_event(zone, change, pts_ns, time_ns)

    def _watch_lines(
        self, tracks: Tracks, height: int, width: int, pts_ns: int, time_ns: int
    ) -> Iterable[Event]:
        for line, watch in self._lines:
            some = self._only(tracks, line.labels)
            points = anchors(some.boxes, line.anchor, height, width)
            tall = (some.boxes[:, 3] - some.boxes[:, 1]).tolist()
            for track, direction in watch.update(some.ids.tolist(), points, tall, (width, height)):
                yield self._line_event(line, direction, track, pts_ns, time_ns)

    def _only(self, tracks: Tracks, labels: tuple[str, ...]) -> Tracks:
        """Keep the tracks of some classes; which these are is looked up once for each list of labels."""
        if not labels:
            return tracks
        known = self._wanted.get(labels)
        if known is None or known[0] is not tracks.labels:
            wanted = frozenset(index for index, label in enumerate(tracks.labels) if label in labels)
            known = self._wanted[labels] = tracks.labels, wanted
        rows = [row for row, kind in enumerate(tracks.classes.tolist()) if kind in known[1]]
        if len(rows) == len(tracks):
            return tracks
        return Tracks(
            tracks.ids[rows], tracks.boxes[rows], tracks.scores[rows], tracks.classes[rows], tracks.labels
        )

    def _zone_event(self, zone: Zone, change: Change, pts_ns: int, time_ns: int) -> Event:
        kind, track, seconds, occupancy = change
        dwell_s = round(seconds, 3)
        if kind == "entered":
            seen = self._seen("zone_entered", zone.name, track, pts_ns, time_ns)
            return ZoneEntered(**seen, zone=zone.name, occupancy=occupancy)
        if kind == "left":
            seen = self._seen("zone_left", zone.name, track, pts_ns, time_ns)
            return ZoneLeft(**seen, zone=zone.name, occupancy=occupancy, dwell_s=dwell_s)
        seen = self._seen("zone_dwell", zone.name, track, pts_ns, time_ns)
        return ZoneDwell(**seen, zone=zone.name, occupancy=occupancy, dwell_s=dwell_s)

    def _line_event(self, line: Line, direction: Direction, track: int, pts_ns: int, time_ns: int) -> Event:
        seen = self._seen("line_crossed", line.name, track, pts_ns, time_ns)
        word = line.a_to_b if direction == "a_to_b" else line.b_to_a
        return LineCrossed(**seen, line=line.name, direction=direction, name=word)

    def _seen(
        self,
        kind: Literal["zone_entered", "zone_left", "zone_dwell", "line_crossed"],
        place: str,
        track: int,
        pts_ns: int,
        time_ns: int,
    ) -> _Seen:
        context = self.context
        return _Seen(
            id=event_id(context.site, context.camera, context.epoch, kind, place, track, pts_ns),
            site=context.site,
            camera=context.camera,
            time=iso_time(time_ns),
            pts_ns=pts_ns,
            model=context.model,
            model_version=context.model_version,
            subject=_subject(self._sights[track], self.attributes.get(track)),
        )


def _subject(sight: _Sight, attributes: Mapping[str, Attribute] | None) -> Subject:
    tracks, row = sight.tracks, sight.row
    scale = np.array((sight.width, sight.height, sight.width, sight.height))
    x1, y1, x2, y2 = np.clip(tracks.boxes[row] / scale, 0.0, 1.0).round(4).tolist()
    return Subject(
        track=int(tracks.ids[row]),
        label=tracks.labels[int(tracks.classes[row])],
        confidence=round(min(max(float(tracks.scores[row]), 0.0), 1.0), 4),
        box=(x1, y1, x2, y2),
        attributes=dict(attributes) if attributes else None,
    )
