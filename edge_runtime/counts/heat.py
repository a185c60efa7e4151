"""DayHeat: each camera's heatmap of the day, and when it looked, between two writes. Writes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_runtime.analytics.heatmap import Heatmap
from edge_runtime.analytics.storeday import SLOT_S, StoreClock
from edge_runtime.contract.scene import Scene


class Seen(NamedTuple):
    """What a camera has seen of a day.

    Args:
        grid: (rows, columns) float32 seconds.
        looked: In which slots a picture was looked at.
    """

    grid: NDArray[np.float32]
    looked: Sequence[bool]


Grids: TypeAlias = dict[date, dict[str, Seen]]
"""By day and camera."""

GRID = (45, 80)
_PAUSE_NS = 2_000_000_000
"""A longer gap between two scenes counts only so much: nobody looked in between."""


@dataclass(slots=True)
class _Map:
    day: date
    until_s: float
    """When the day ends: looked up once a day, not once a frame."""
    begin_s: float
    before: NDArray[np.float32]
    """What was on the disk when it was begun."""
    looked: list[bool]
    """By slot."""
    heatmap: Heatmap = field(default_factory=lambda: Heatmap(*GRID))
    fresh: bool = False
    """Whether it has what the disk does not."""


class DayHeat:
    """Heatmaps of today; used by one thread at a time.

    Args:
        clock: The store's.
        kept: Gives what is kept of a camera's day; None: nothing yet.
    """

    def __init__(self, clock: StoreClock, kept: Callable[[date, str], Seen | None]) -> None:
        self._clock = clock
        self._kept = kept
        self._maps: dict[str, _Map] = {}
        self._over: dict[tuple[date, str], Seen] = {}
        """Of days that ended since the last write."""
        self._seen_ns: dict[str, int] = {}

    def see(self, scene: Scene) -> None:
        """Count where the objects of a scene stand, and that somebody looked."""
        frame, at_s = scene.frame, scene.frame.time_ns / 1e9
        before_ns = self._seen_ns.get(frame.camera, frame.pts_ns)
        self._seen_ns[frame.camera] = frame.pts_ns
        seconds = min(max(frame.pts_ns - before_ns, 0), _PAUSE_NS) / 1e9
        found = self._map(frame.camera, at_s)
        slot = max(int(at_s - found.begin_s) // SLOT_S, 0)
        if not found.looked[slot]:
            found.looked[slot] = found.fresh = True
        if len(scene.tracks) and seconds:
            found.heatmap.add(scene.tracks, frame.picture.height, frame.picture.width, seconds)
            found.fresh = True

    def forget(self, camera: str) -> None:
        """A camera starts anew, and its source time with it."""
        self._seen_ns.pop(camera, None)

    def unwritten(self) -> Grids:
        """Give what the disk does not have, as whole heatmaps by day and camera; `written` must follow."""
        grids: Grids = {}
        for (day, camera), grid in self._over.items():
            grids.setdefault(day, {})[camera] = grid
        for camera, found in self._maps.items():
            if found.fresh:
                grids.setdefault(found.day, {})[camera] = _seen(found)
                found.fresh = False
        return grids

    def written(self, day: date, grids: Mapping[str, Seen], *, kept: bool) -> None:
        """Take in whether the disk took what `unwritten` gave.

        Args:
            day: Of the heatmaps.
            grids: They, by camera.
            kept: Otherwise they are given again.
        """
        for camera, grid in grids.items():
            found = self._maps.get(camera)
            if not kept and found is not None and found.day == day:
                found.fresh = True
            if kept and self._over.get((day, camera)) is grid:
                del self._over[day, camera]

    def _map(self, camera: str, at_s: float) -> _Map:
        found = self._maps.get(camera)
        if found is not None and at_s < found.until_s:
            return found
        if found is not None and found.fresh:
            self._over[found.day, camera] = _seen(found)
        day = self._clock.day_of(at_s)
        grid, slots = self._kept(day, camera) or Seen(np.zeros(GRID, np.float32), ())
        count = len(self._clock.slots(day))
        looked = [*slots[:count], *(False for _ in range(count - len(slots)))]
        begin_s, end_s = self._clock.begin_s(day), self._clock.end_s(day)
        made = self._maps[camera] = _Map(day, end_s, begin_s, grid, looked)
        return made


def _seen(found: _Map) -> Seen:
    return Seen(found.before + found.heatmap.grid, tuple(found.looked))
