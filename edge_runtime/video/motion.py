"""MotionGate: whether anything moves, from a thumbnail of the luma plane; an empty shop costs almost nothing.

Looks at pixels only, and at source time, never at a clock. Whether objects are being followed is not its
business: where nothing moves, what was seen is where it was.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.frame import Picture

ROWS, COLUMNS = 90, 160
"""Size of the thumbnail: at 16:9 a standing adult ten metres away still covers some twenty of its pixels."""

CHANGED = 14.0
"""Grey levels by which a pixel differs from the background before it counts; sensor noise that survives the
thumbnail stays below half of it."""

LEARN = 0.05
"""Share of each look that enters the background: what stops is part of it after some fifty looks, and what
walks, however slowly, is somewhere else by then."""


@dataclass(frozen=True, slots=True)
class MotionOptions:
    """When the gate opens.

    Args:
        gate: False: every frame passes.
        threshold: Share of the unmasked picture that must change.
        hold_s: How long the gate stays open after the last motion.
        look_every_s: In a still picture, one frame passes this often all the same.
        doze_after_s: When nothing has moved for this long, key frames alone are decoded until one shows
            something new; then all since the one before are. None: every frame is decoded.
        masks: Polygons, fractions of width and height, in which motion is ignored.
    """

    gate: bool = False
    threshold: float = 0.001
    hold_s: float = 2.0
    look_every_s: float = 30.0
    doze_after_s: float | None = 5.0
    masks: tuple[tuple[tuple[float, float], ...], ...] = ()


class MotionGate:
    """The gate of one camera. Cost: about 0.05 ms a frame, a thumbnail and its background are kept."""

    def __init__(self, options: MotionOptions) -> None:
        self._options = options
        self._seen = self._unmasked(options)
        self._needed = max(1, round(options.threshold * int(np.count_nonzero(self._seen))))
        self._background: NDArray[np.float32] | None = None
        self._moved_ns = 0
        self._passed_ns: int | None = None

    @staticmethod
    def _unmasked(options: MotionOptions) -> NDArray[np.uint8]:
        seen = np.full((ROWS, COLUMNS), 255, np.uint8)
        for polygon in options.masks:
            corners = np.round(np.array(polygon) * (COLUMNS, ROWS)).astype(np.int32)
            cv2.fillPoly(seen, [corners], (0,))
        return seen

    def passes(self, picture: Picture, pts_ns: int) -> bool:
        """Tell whether a frame is worth a model.

        Args:
            picture: The frame's pixels.
            pts_ns: Its source time.
        """
        options = self._options
        if not options.gate:
            return True
        if self.moving(picture):
            self._moved_ns = pts_ns
        passes = (
            self._passed_ns is None
            or pts_ns - self._moved_ns <= options.hold_s * 1e9
            or pts_ns - self._passed_ns >= options.look_every_s * 1e9
        )
        if passes:
            self._passed_ns = pts_ns
        return passes

    def calm(self, pts_ns: int) -> bool:
        """Tell whether nothing has moved for so long that key frames are enough."""
        options = self._options
        patience_s = options.doze_after_s
        return options.gate and patience_s is not None and pts_ns - self._moved_ns >= patience_s * 1e9

    def moving(self, picture: Picture) -> bool:
        """Compare a picture with the background, and let it become part of it."""
        small = cv2.resize(picture.luma, (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR)
        now = cv2.blur(small, (3, 3)).astype(np.float32)
        if self._background is None:
            self._background = now
            return False
        difference = cv2.subtract(now, self._background)
        # A cloud or the camera's own exposure moves every pixel alike: only what differs from that moved.
        shift = float(cv2.mean(difference)[0])
        changed = cv2.bitwise_and(cv2.inRange(difference, shift - CHANGED, shift + CHANGED), self._seen)
        still = int(cv2.countNonZero(changed))
        moving = int(cv2.countNonZero(self._seen)) - still >= self._needed
        cv2.accumulateWeighted(now, self._background, LEARN)
        return moving
