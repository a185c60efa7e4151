"""Non-maximum suppression: of boxes that overlap too much, only the best stays. Exact; knows no model."""

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import Boxes, ClassIds, Scores

_BLOCK = 256
"""Boxes compared at a time, so that memory stays small however many a low threshold lets through."""


def suppress(boxes: Boxes, scores: Scores, classes: ClassIds | None, max_iou: float) -> NDArray[np.intp]:
    """Choose the boxes that stay: greedily, best score first, the earlier of equals first.

    Args:
        boxes: (n, 4) float32 xyxy.
        scores: (n,) float32.
        classes: (n,) int32: only boxes of one class suppress each other; None: all do.
        max_iou: A box goes when its intersection over union with a better one that stays is more than this.

    Returns:
        (k,) indices of the boxes that stay, best first.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) < 2:
        return order
    x1, y1, x2, y2 = boxes[order].T
    kinds = np.zeros_like(x1) if classes is None else classes[order].astype(np.float32)
    columns = np.stack((x1, y1, x2, y2, (x2 - x1) * (y2 - y1), kinds))
    if len(order) <= _BLOCK:
        return order[_survivors(_overlap(columns, columns, max_iou))]
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        if len(kept):
            beaten = _overlap(columns[:, kept], columns[:, block], max_iou).any(axis=0)
            block = block[~beaten]
        rivals = columns[:, block]
        kept = np.concatenate((kept, block[_survivors(_overlap(rivals, rivals, max_iou))]))
    return order[kept]


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32], max_iou: float) -> NDArray[np.bool_]:
    """Tell which boxes of one class overlap too much.

    Args:
        a: (6, n): x1, y1, x2, y2, area, class.
        b: (6, m), likewise.
        max_iou: As for `suppress`.

    Returns:
        (n, m).
    """
    left, top, right, bottom, area, kind = a[:, :, None]
    width = np.minimum(right, b[2]) - np.maximum(left, b[0])
    height = np.minimum(bottom, b[3]) - np.maximum(top, b[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    return (shared > np.float32(max_iou) * (area + b[4] - shared)) & (kind == b[5])


def _survivors(rivals: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Walk down the boxes, best first; each that still stands knocks out those after it.

    A row of the matrix is one whole number, a bit a box: a walk over a few hundred of them takes no arrays.

    Args:
        rivals: (n, n): whether two boxes overlap too much; a box does with itself.

    Returns:
        (n,): whether a box stays.
    """
    alive = np.ones(len(rivals), np.bool_)
    fighting = np.flatnonzero(rivals.sum(axis=1) > 1)
    if not len(fighting):
        return alive
    rows = np.packbits(rivals[fighting], axis=1, bitorder="little")
    beaten = 0
    for index, row in zip(fighting.tolist(), rows, strict=True):
        if beaten >> index & 1:
            alive[index] = False
        else:
            beaten |= int.from_bytes(row.tobytes(), "little") & ~((2 << index) - 1)
    return alive
