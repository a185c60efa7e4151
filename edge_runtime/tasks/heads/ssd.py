"""Head `ssd`: boxes, classes, scores and a count, as TFLite_Detection_PostProcess gives them.

Suppresses nothing: the model has done it.
"""

from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.task import SsdHead
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.geometry import Size
from edge_runtime.tasks.heads.base import Candidates, class_indices, to_pixels
from edge_runtime.tasks.outputs import assign_outputs

_YXYX_TO_XYXY = [1, 0, 3, 2]


class SsdDecoder:
    """See the module."""

    def __init__(self, head: SsdHead, outputs: Sequence[TensorSpec]) -> None:
        roles = {"boxes": head.boxes, "classes": head.classes, "scores": head.scores, "count": head.count}
        found = assign_outputs(roles, outputs, optional=frozenset({"count"}))
        self._head = head
        self._boxes, self._classes, self._scores = (found[role] for role in ("boxes", "classes", "scores"))
        self._count = found.get("count")
        self._boxes.require(self._boxes.spec.shape, (1, None, 4))
        self._classes.require(self._classes.spec.shape, (1, None))
        self._scores.require(self._scores.spec.shape, (1, None))

    def decode(self, tensors: Tensors, canvas: Size, min_score: float) -> Candidates:
        """Find the candidates; see `Decoder.decode`."""
        boxes, classes = self._boxes.read(tensors), self._classes.read(tensors)
        scores = self._scores.read(tensors)
        self._boxes.require(boxes.shape, (1, None, 4))
        slots = boxes.shape[1]
        self._classes.require(classes.shape, (1, slots))
        self._scores.require(scores.shape, (1, slots))
        used = self._used(tensors, slots)
        scores = self._scores.probabilities(scores[0, :used])
        kept = np.flatnonzero(scores >= min_score)
        boxes = boxes[0, kept]
        self._boxes.finite(boxes)
        if self._head.order == "yxyx":
            boxes = boxes[:, _YXYX_TO_XYXY]
        if self._head.coordinates == "normalized":
            boxes = to_pixels(boxes, canvas)
        indices = class_indices(self._classes, classes[0, kept], self._head.class_offset)
        return Candidates(boxes, scores[kept], indices)

    def _used(self, tensors: Tensors, slots: int) -> int:
        """How many slots the model filled; what the others hold is undefined."""
        if self._count is None:
            return slots
        count = self._count.read(tensors)
        self._count.finite(count)
        if count.size != 1 or not 0 <= count.flat[0] <= slots:
            raise self._count.misfit(
                f"one number up to {slots}", str(count.tolist()), "Correct the task's head"
            )
        return int(count.flat[0])
