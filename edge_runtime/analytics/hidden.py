"""HiddenHistory: what had to be hidden in one camera's pictures, to be asked for a moment between two looks.

A clip has every picture of a stream, and the model looked at some of them. Errs on the side of hiding: the
boxes of both neighbours count, widened by how far a person comes meanwhile; and where nobody looked for too
long there is no answer. Pure: times are arguments, and it looks at no pixel.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.result import Boxes

LONGEST_GAP_S = 2.0
"""Somebody who passes between two looks that are further apart may have been seen by neither."""

STEP = {Blur.PERSONS: 2.0, Blur.HEADS: 3.0, Blur.FACES: 8.0}
"""How far somebody walks in a second, in longer sides of what is hidden: 1.5 to 3 m/s by a body of 1.7 m, its
upper third with the shoulders of 0.5 m, and a face of 0.2 m."""

Span = tuple[int, int]


class HiddenHistory:
    """The looks at one camera's pictures.

    Args:
        blur: What is hidden; says how far it moves in a second.
        keep_s: How long looks are kept, in source time.
    """

    def __init__(self, blur: Blur, keep_s: float) -> None:
        self._step = STEP.get(blur, 0.0)
        self._keep_ns = round(keep_s * 1e9)
        self._times_ns: list[int] = []
        self._boxes: list[tuple[Boxes, float]] = []
        """What was hidden, and the picture's width over its height."""

    @property
    def newest_ns(self) -> int | None:
        """Source time of the last look; None: there was none."""
        return self._times_ns[-1] if self._times_ns else None

    @property
    def aspect(self) -> float | None:
        """Width over height of the pictures that were looked at; None: there was none."""
        return self._boxes[-1][1] if self._boxes else None

    def look(self, pts_ns: int, boxes: Boxes, *, height: int, width: int) -> None:
        """Note what is hidden in a picture that was looked at.

        Args:
            pts_ns: Its source time; before the last one's: the camera was started anew.
            boxes: (n, 4) float32 xyxy, source pixels.
            height: Of the picture, pixels.
            width: Of the picture, pixels.
        """
        if self._times_ns and pts_ns < self._times_ns[-1]:
            self._times_ns, self._boxes = [], []
        self._times_ns.append(pts_ns)
        sides = np.array((width, height, width, height), np.float32)
        self._boxes.append((boxes / sides, width / height))
        old = bisect_left(self._times_ns, pts_ns - self._keep_ns)
        if old > len(self._times_ns) // 2:  # now and then, so that it costs nothing on average
            del self._times_ns[:old], self._boxes[:old]

    def copy(self) -> "HiddenHistory":
        """Give the history as it is now, which later looks leave alone."""
        other = HiddenHistory(Blur.NOTHING, 0)
        other._step, other._keep_ns = self._step, self._keep_ns
        other._times_ns, other._boxes = list(self._times_ns), list(self._boxes)
        return other

    def at(self, pts_ns: int, *, off_ns: int = 0, calm: Sequence[Span] = ()) -> Boxes | None:
        """Say what to hide in a picture that the model may not have looked at.

        Args:
            pts_ns: Source time of the picture.
            off_ns: How far that time may be off.
            calm: Spans, in order, in which nothing moved: what was hidden before is hidden where it was.

        Returns:
            (n, 4) float32 xyxy, fractions; None: nobody looked around that time, so that it cannot be told.
        """
        times = self._times_ns
        first = max(0, bisect_right(times, pts_ns - off_ns) - 1)
        last = min(len(times), max(first, bisect_left(times, pts_ns + off_ns)) + 1)
        before, after = _checked(pts_ns, times[first:last], calm)
        if first >= last or (before is None and after is None):
            return None
        gap_ns = (pts_ns if after is None else after) - (pts_ns if before is None else before)
        if gap_ns > LONGEST_GAP_S * 1e9:
            return None
        away_ns = off_ns + max(
            0 if before is None else pts_ns - before, 0 if after is None else after - pts_ns
        )
        return np.concatenate([self._grown(index, pts_ns, off_ns, away_ns) for index in range(first, last)])

    def _grown(self, index: int, pts_ns: int, off_ns: int, away_ns: int) -> Boxes:
        """Widen the boxes of a look by the way that somebody walks between it and the picture."""
        boxes, aspect = self._boxes[index]
        way_s = min(abs(pts_ns - self._times_ns[index]) + off_ns, away_ns) / 1e9
        longer = np.maximum((boxes[:, 2] - boxes[:, 0]) * aspect, boxes[:, 3] - boxes[:, 1])[:, None]
        x, y = longer / aspect * (self._step * way_s), longer * (self._step * way_s)
        return np.clip(boxes + np.concatenate((-x, -y, x, y), axis=1), 0, 1).astype(np.float32)


def _checked(pts_ns: int, looks: Sequence[int], calm: Sequence[Span]) -> tuple[int | None, int | None]:
    """Give the moments nearest to a time, before and after it, at which somebody checked."""
    befores = [time for time in looks if time <= pts_ns]
    afters = [time for time in looks if time >= pts_ns]
    for began, ended in calm:
        if began <= pts_ns <= ended:
            return pts_ns, pts_ns
        if ended < pts_ns:
            befores.append(ended)
        else:
            afters.append(began)
    return max(befores, default=None), min(afters, default=None)
