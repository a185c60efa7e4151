"""HealthWatch: shows a camera's pictures to its `Health`, and says what that finds as events.

Makes the thumbnail; judges nothing.
"""

import logging
import zlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.analytics.rules import RuleContext
from edge_runtime.contract.event import CameraHealthChanged, Event, event_id, iso_time
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.status import Condition
from edge_runtime.video.clock import Stamp
from edge_runtime.video.health import COLUMNS, ROWS, Change, Health, HealthOptions
from edge_runtime.video.tally import Tally

log = logging.getLogger(__name__)

Polygon = Sequence[tuple[float, float]]

SAMPLE_PX = 480
"""Width to which a picture is thinned out, without averaging: noise must stay to tell two pictures apart."""

_SAID = {
    Condition.FROZEN: "sends the same picture again and again",
    Condition.BLACK: "shows nothing but black",
    Condition.BLINDED: "sees no structure: a lamp, a cover or dirt in front of it",
    Condition.MOVED: "shows another place than before: it was turned, or something big was moved",
}


class HealthWatch:
    """The health of one camera.

    Args:
        options: What is said; None: nothing is looked at.
        masks: Polygons, fractions of width and height, that are not looked at.
        context: Names that its events carry.
        tally: Shows what is wrong now.
        tell: Takes the events.
    """

    def __init__(
        self,
        options: HealthOptions | None,
        masks: Sequence[Polygon],
        context: RuleContext,
        tally: Tally,
        tell: Callable[[tuple[Event, ...]], None],
    ) -> None:
        self._masks = masks
        self._health = (
            None if options is None else Health(options, _unmasked(masks, ROWS, COLUMNS) if masks else None)
        )
        self._context = context
        self._tally = tally
        self._tell = tell
        self._unseen: NDArray[np.bool_] | None = None
        self._changes = 0

    def look(self, picture: Picture, stamp: Stamp, *, now_ns: int, wall_ns: int) -> None:
        """Look at a picture, unless the last look was a moment ago.

        Args:
            picture: As it was decoded.
            stamp: Of the camera's last frame.
            now_ns: Monotonic clock.
            wall_ns: Unix time.
        """
        if self._health is None or not self._health.due(now_ns):
            return
        small, digest = self._thin(picture)
        for change in self._health.look(small, digest, now_ns):
            self._say(change, stamp, since_ns=wall_ns - (now_ns - change.since_ns), wall_ns=wall_ns)
            self._tally.judged(self._health.present)

    def _thin(self, picture: Picture) -> tuple[NDArray[np.uint8], int]:
        step = max(1, picture.width // SAMPLE_PX)
        sample = np.ascontiguousarray(picture.luma[::step, ::step])
        if self._masks:
            if self._unseen is None or self._unseen.shape != sample.shape:
                self._unseen = ~_unmasked(self._masks, *sample.shape)
            sample[self._unseen] = 0
        small = cv2.resize(sample, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
        return small.astype(np.uint8, copy=False), zlib.crc32(sample.data)

    def _say(self, change: Change, stamp: Stamp, *, since_ns: int, wall_ns: int) -> None:
        context = self._context
        if change.present:
            log.warning("camera '%s' %s", context.camera, _SAID[change.condition])
        else:
            log.info("camera '%s' is no longer %s", context.camera, change.condition)
        self._changes += 1
        parts = (context.site, context.camera, context.epoch, "camera_health", change.condition)
        event = CameraHealthChanged(
            id=event_id(*parts, self._changes),
            site=context.site,
            camera=context.camera,
            time=iso_time(wall_ns),
            pts_ns=stamp.pts_ns,
            condition=change.condition.value,
            present=change.present,
            since=iso_time(since_ns),
        )
        self._tell((event,))


def _unmasked(masks: Sequence[Polygon], rows: int, columns: int) -> NDArray[np.bool_]:
    seen = np.ones((rows, columns), np.uint8)
    for polygon in masks:
        corners = np.round(np.array(polygon) * (columns, rows)).astype(np.int32)
        cv2.fillPoly(seen, [corners], (0,))
    return seen.astype(np.bool_)
