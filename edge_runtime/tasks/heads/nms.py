"""Head `nms`: rows of x1 y1 x2 y2 score, suppressed inside the model (YOLOX, MMDeploy, YOLOv10).

Suppresses nothing: the model has done it.
"""

from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.task import NmsHead
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.geometry import Size
from edge_runtime.tasks.heads.base import Candidates, class_indices
from edge_runtime.tasks.outputs import assign_outputs

_WITH_CLASS = 6


class NmsDecoder:
    """See the module."""

    def __init__(self, head: NmsHead, outputs: Sequence[TensorSpec]) -> None:
        roles = {"detections": head.detections, "classes": head.classes}
        found = assign_outputs(roles, outputs, optional=frozenset({"classes"}))
        self._offset = head.class_offset
        self._rows = found["detections"]
        self._classes = found.get("classes")
        self._check(self._rows.spec.shape)

    def _check(self, shape: Sequence[int | None]) -> None:
        if self._classes is None:
            self._rows.require(shape, (1, None, _WITH_CLASS))
        else:
            self._rows.require(shape, (1, None, 5), (1, None, _WITH_CLASS))

    def decode(self, tensors: Tensors, canvas: Size, min_score: float) -> Candidates:
        """Find the candidates; see `Decoder.decode`."""
        rows = self._rows.read(tensors)
        self._check(rows.shape)
        rows = rows[0]
        scores = self._rows.probabilities(rows[:, 4])
        kept = np.flatnonzero(scores >= min_score)
        boxes = rows[kept, :4]
        self._rows.finite(boxes)
        if self._classes is None or rows.shape[1] == _WITH_CLASS:
            classes = class_indices(self._rows, rows[kept, 5], self._offset)
        else:
            listed = self._classes.read(tensors)
            self._classes.require(listed.shape, (1, len(rows)))
            classes = class_indices(self._classes, listed[0, kept], self._offset)
        return Candidates(boxes, scores[kept], classes)
