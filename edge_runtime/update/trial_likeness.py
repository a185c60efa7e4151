"""Do two answers say the same? For a trial, which compares the new version's with the old one's. Pure."""

from typing import Any

import numpy as np

from edge_runtime.contract.result import Detections
from edge_runtime.contract.tensors import Array

SAME_BOX_IOU = 0.5
"""Two boxes of one class that overlap so much are one object."""
FOUND_AGAIN = 0.8
"""Of the objects that one of two answers is sure of, the other must have so many."""


def found_again(mine: Detections, theirs: Detections, least_score: float) -> tuple[int, int]:
    """Count the objects that one answer is sure of, and those of them that the other has too.

    Args:
        mine: The answer whose objects are counted.
        theirs: The other one; its objects may have any score.
        least_score: From which an object is sure.

    Returns:
        How many are sure, and how many of them were found.
    """
    names = [theirs.labels[int(index)] for index in theirs.classes]
    sure = [at for at, score in enumerate(mine.scores) if score >= least_score]
    found = 0
    for at in sure:
        label = mine.labels[int(mine.classes[at])]
        same = theirs.boxes[[each == label for each in names]]
        found += bool(len(same)) and float(_iou(mine.boxes[at], same).max()) >= SAME_BOX_IOU
    return len(sure), found


def same_objects(one: Detections, other: Detections, least_score: float) -> bool:
    """Say whether two answers show the same: each has nearly all that the other is sure of.

    Args:
        one: An answer.
        other: The other.
        least_score: From which an object is sure.
    """
    counts = [found_again(a, b, least_score) for a, b in ((one, other), (other, one))]
    sure, found = sum(count[0] for count in counts), sum(count[1] for count in counts)
    return found >= FOUND_AGAIN * sure


def _iou(box: Array, others: Array) -> Any:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / np.maximum(areas - shared, 1e-9)
