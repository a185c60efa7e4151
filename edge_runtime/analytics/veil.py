"""Veil: which parts of a camera's pictures nobody may see, from what its model found. Pure.

Errs on the side of hiding: unsure detections count, and who was seen a moment ago is still hidden where he
was. Looks at no pixel; `sinks.drawing` makes the parts unrecognizable.
"""

from collections import deque
from enum import StrEnum

import numpy as np

from edge_runtime.contract.result import Boxes, Detections

HOLD_S = 1.0
"""A person whom the model misses stays hidden this long where it saw her last."""

MARGIN = 0.1
"""Boxes are widened by this share of their size on each side: hands and hair stick out of them."""

HEAD = 0.35
"""Share of a person's box, from its top, that holds the head: an eighth of a standing adult, but a third of
one that sits behind a counter or stands close to the camera."""

SAME = 0.3
"""Boxes that overlap this much (intersection over union) are the same person a moment later."""


class Blur(StrEnum):
    """What is made unrecognizable in pictures."""

    NOTHING = "nothing"
    HEADS = "heads"
    """The upper part of every person's box; needs no other model."""
    PERSONS = "persons"
    FACES = "faces"
    """What another model, which finds faces, finds."""


class Veil:
    """What is hidden in one camera's pictures; used by one thread at a time.

    Args:
        blur: HEADS: the upper part of each box; otherwise all of it.
        labels: Classes that are hidden; empty: all.
    """

    def __init__(self, blur: Blur, labels: tuple[str, ...]) -> None:
        self._blur = blur
        self._labels = labels
        self._seen: deque[tuple[int, Boxes]] = deque()

    def update(self, found: Detections, pts_ns: int, *, height: int, width: int) -> Boxes:
        """Take in what was found in the next picture.

        Args:
            found: With unsure objects.
            pts_ns: Source time of the picture; not before that of the last one.
            height: Of the picture, pixels.
            width: Of the picture, pixels.

        Returns:
            (n, 4) float32 xyxy, source pixels, inside the picture: what to hide in it.
        """
        while self._seen and pts_ns - self._seen[0][0] > HOLD_S * 1e9:
            self._seen.popleft()
        hidden = self._boxes(found, height, width)
        self._seen.append((pts_ns, hidden))
        for _, earlier in reversed(tuple(self._seen)[:-1]):
            hidden = np.concatenate((hidden, earlier[~_overlapping(earlier, hidden)]))
        return hidden

    def _boxes(self, found: Detections, height: int, width: int) -> Boxes:
        boxes = found.boxes
        if self._labels:
            wanted = [index for index, label in enumerate(found.labels) if label in self._labels]
            boxes = boxes[np.isin(found.classes, wanted)]
        x1, y1, x2, y2 = boxes.T
        if self._blur is Blur.HEADS:
            y2 = y1 + (y2 - y1) * HEAD
        wide, tall = (x2 - x1) * MARGIN, (y2 - y1) * MARGIN
        grown = np.stack((x1 - wide, y1 - tall, x2 + wide, y2 + tall), axis=1)
        limits = np.array((width, height, width, height), np.float32)
        return np.clip(grown, 0, limits).astype(np.float32)


def _overlapping(some: Boxes, others: Boxes) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Tell which of some boxes are where one of the others is, (n,) bool."""
    if not len(some) or not len(others):
        return np.zeros(len(some), np.bool_)
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area_some = np.prod(some[:, 2:] - some[:, :2], axis=1)
    area_others = np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = area_some[:, None] + area_others[None] - shared
    return np.any(shared >= SAME * np.maximum(union, 1e-6), axis=1)
