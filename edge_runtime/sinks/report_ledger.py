"""Ledger: what a report remembers of one camera while it runs, in bounded memory.

Pure: no clock, no disk, no HTML. Times are source time.
"""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.analytics.heatmap import Heatmap
from edge_runtime.contract.event import (
    CameraHealthChanged,
    CameraStateChanged,
    Event,
    LineCrossed,
    ZoneDwell,
    ZoneEntered,
    ZoneLeft,
)
from edge_runtime.contract.scene import Scene

_BINS = 3600
_EVENTS_KEPT = 2000
_GRID = (45, 80)
_PAUSE_S = 1.0
"""A longer gap between two scenes adds only so much to the heatmap: nobody looked in between."""


class CountsOverTime:
    """Mean number of objects in each second; when it grows long, in each two seconds, four, and so on."""

    def __init__(self, bins: int = _BINS) -> None:
        self.bin_s = 1
        self._sums = np.zeros(bins)
        self._scenes = np.zeros(bins)
        self._length = 0

    def add(self, second: float, count: int) -> None:
        """Count the objects of one scene.

        Args:
            second: Source time; not negative.
            count: Objects in it.
        """
        while second >= len(self._sums) * self.bin_s:
            self._halve()
        place = int(second // self.bin_s)
        self._sums[place] += count
        self._scenes[place] += 1
        self._length = max(self._length, place + 1)

    @property
    def means(self) -> NDArray[np.float64]:
        """(bins so far,) float64; a bin without scenes has the value before it, as a still picture would."""
        sums, scenes = self._sums[: self._length], self._scenes[: self._length]
        seen = np.maximum.accumulate(np.where(scenes > 0, np.arange(self._length), 0))
        return (sums / np.maximum(scenes, 1))[seen]

    def _halve(self) -> None:
        for values in (self._sums, self._scenes):
            pairs = values.reshape(-1, 2).sum(axis=1)
            values[:] = 0
            values[: len(pairs)] = pairs
        self._length = (self._length + 1) // 2
        self.bin_s *= 2


@dataclass(slots=True)
class Stays:
    """Visits to one zone."""

    entered: int = 0
    left: int = 0
    lingered: int = 0
    most: int = 0
    dwell_s: float = 0.0

    @property
    def mean_dwell_s(self) -> float:
        """Over the visits that ended."""
        return self.dwell_s / self.left if self.left else 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """An event as the timeline shows it: when, and in which row."""

    second: float
    row: str


class Ledger:
    """What happened in front of one camera."""

    def __init__(self) -> None:
        self.counts = CountsOverTime()
        self.heatmap = Heatmap(*_GRID)
        self.zones: dict[str, Stays] = {}
        self.lines: dict[str, Counter[str]] = {}
        self.marks: deque[Mark] = deque(maxlen=_EVENTS_KEPT)
        self.events = 0
        self.objects = 0
        self.most = 0
        self.labels: set[str] = set()
        self.busiest: Scene | None = None
        self.seconds = 0.0
        self._seen_s = 0.0
        self._newest = -1

    def see(self, scene: Scene) -> None:
        """Take one inferred frame."""
        second = scene.frame.pts_ns / 1e9
        tracks, picture = scene.tracks, scene.frame.picture
        self.counts.add(second, len(tracks))
        self.heatmap.add(tracks, picture.height, picture.width, min(second - self._seen_s, _PAUSE_S))
        self._seen_s = second
        self.seconds = max(self.seconds, second)
        if len(tracks):
            # Ids grow with every new object, so a larger one is one not seen before.
            self.objects += int((tracks.ids > self._newest).sum())
            self._newest = max(self._newest, int(tracks.ids.max()))
            self.labels.update(tracks.labels[int(kind)] for kind in set(tracks.classes.tolist()))
        if self.busiest is None or len(tracks) > self.most:
            self.busiest = scene
            self.most = len(tracks)

    def note(self, event: Event) -> None:
        """Take one event."""
        self.events += 1
        self.seconds = max(self.seconds, event.pts_ns / 1e9)
        match event:
            case ZoneEntered():
                stays = self._stays(event.zone, event.occupancy)
                stays.entered += 1
                row = f"{event.zone}: entered"
            case ZoneLeft():
                stays = self._stays(event.zone, event.occupancy)
                stays.left += 1
                stays.dwell_s += event.dwell_s
                row = f"{event.zone}: left"
            case ZoneDwell():
                self._stays(event.zone, event.occupancy).lingered += 1
                row = f"{event.zone}: lingered"
            case LineCrossed():
                self.lines.setdefault(event.line, Counter())[event.name] += 1
                row = f"{event.line}: {event.name}"
            case CameraStateChanged():
                row = f"camera: {event.state}"
            case CameraHealthChanged():
                row = f"camera: {event.condition if event.present else f'no longer {event.condition}'}"
        self.marks.append(Mark(event.pts_ns / 1e9, row))

    def _stays(self, zone: str, occupancy: int) -> Stays:
        stays = self.zones.setdefault(zone, Stays())
        stays.most = max(stays.most, occupancy)
        return stays
