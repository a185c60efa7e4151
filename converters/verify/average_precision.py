"""Average precision of detectors as COCO defines it, on NumPy alone.

Follows pycocotools 2.0 (`cocoeval.py`): ten IoU thresholds, greedy matching best score first, crowds ignored,
100 detections a picture, precision made monotone and read at 101 recalls. Has no areas: all sizes count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import Boxes, ClassIds, Scores

THRESHOLDS = np.round(np.arange(0.5, 1.0, 0.05), 2)
RECALLS = np.linspace(0, 1, 101)
MOST_DETECTIONS = 100


@dataclass(frozen=True, slots=True)
class Truth:
    """What is in one picture.

    Args:
        boxes: (n, 4) float32 xyxy, pixels.
        classes: (n,) int32.
        crowd: (n,) bool: a region of many objects; detections in it count neither for nor against.
    """

    boxes: Boxes
    classes: ClassIds
    crowd: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Found:
    """What a model found in one picture.

    Args:
        boxes: (n, 4) float32 xyxy, pixels.
        scores: (n,) float32.
        classes: (n,) int32.
    """

    boxes: Boxes
    scores: Scores
    classes: ClassIds


def average_precision(truths: Sequence[Truth], found: Sequence[Found]) -> tuple[float, float] | None:
    """Give AP@[.5:.95] and AP50, averaged over the classes that are in the pictures.

    Args:
        truths: One a picture.
        found: One a picture, in the same order.

    Returns:
        Both in [0, 1]; None where no picture has an object.
    """
    classes = sorted({int(one) for truth in truths for one in truth.classes[~truth.crowd]})
    if not classes:
        return None
    table = np.array([_class_precision(truths, found, number) for number in classes])
    return float(table.mean()), float(table[:, 0].mean())


def iou(a: Boxes, b: Boxes, crowd: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Give the intersection over union of boxes.

    Args:
        a: (n, 4) xyxy.
        b: (m, 4) xyxy.
        crowd: (m,): where true, over the area of `a` alone, as COCO has it for crowds.

    Returns:
        (n, m), 0 where both are empty.
    """
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    area_a = (first[..., 2:] - first[..., :2]).prod(axis=-1)
    union = area_a + (second[..., 2:] - second[..., :2]).prod(axis=-1) - shared
    if crowd is not None:
        union = np.where(crowd[None], area_a, union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def area(hit: NDArray[np.bool_], real: int) -> float:
    """Give the area under the curve of precision over recall: its mean at 101 recalls, 0 where none reaches.

    Args:
        hit: (n,) whether each detection is right, best score first.
        real: How many objects there are, at least one.
    """
    right = np.cumsum(hit)
    recall = right / real
    precision = right / np.arange(1, len(hit) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    reached = places < len(precision)
    return float(precision[places[reached]].sum() / len(RECALLS))


def _class_precision(truths: Sequence[Truth], found: Sequence[Found], number: int) -> NDArray[np.float64]:
    """(thresholds,) average precision of one class."""
    scores: list[Scores] = []
    hits: list[NDArray[np.bool_]] = []
    ignored: list[NDArray[np.bool_]] = []
    real = 0
    for truth, seen in zip(truths, found, strict=True):
        here, mine = truth.classes == number, np.flatnonzero(seen.classes == number)
        mine = mine[np.argsort(-seen.scores[mine], kind="stable")[:MOST_DETECTIONS]]
        crowd = truth.crowd[here]
        real += int((~crowd).sum())
        hit, ignore = _match(seen.boxes[mine], truth.boxes[here], crowd)
        scores.append(seen.scores[mine])
        hits.append(hit)
        ignored.append(ignore)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit, ignore = np.concatenate(hits, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    return np.array([area(one[~skip], real) for one, skip in zip(hit, ignore, strict=True)])


def _match(
    boxes: Boxes, truth: Boxes, crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give each detection, best first, the truth it overlaps most that is still free.

    Returns:
        (thresholds, n): whether it hit an object, and whether it is in a crowd and does not count.
    """
    hit = np.zeros((len(THRESHOLDS), len(boxes)), np.bool_)
    ignore = np.zeros_like(hit)
    overlaps = iou(boxes, truth, crowd)
    for row, threshold in enumerate(THRESHOLDS):
        free = ~crowd
        for at, overlap in enumerate(overlaps):
            able = np.where(free, overlap, -1.0)
            # Of equals the last one, as in pycocotools.
            best = len(able) - 1 - int(able[::-1].argmax()) if len(able) else -1
            if best >= 0 and able[best] >= threshold:
                hit[row, at], free[best] = True, False
            elif (overlap[crowd] >= threshold).any():
                ignore[row, at] = True
    return hit, ignore
