"""Head `detr`: object queries, each with logits of all classes and a box as fractions of the input.

Suppresses nothing: the model learnt to give one query an object.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.task import DetrHead
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.activation import sigmoid, softmax
from edge_runtime.tasks.geometry import Size
from edge_runtime.tasks.heads.base import Candidates, corners
from edge_runtime.tasks.outputs import assign_outputs


class DetrDecoder:
    """See the module."""

    def __init__(self, head: DetrHead, outputs: Sequence[TensorSpec], labels: int) -> None:
        found = assign_outputs({"logits": head.logits, "boxes": head.boxes}, outputs)
        self._logits, self._boxes = found["logits"], found["boxes"]
        self._softmax = head.activation == "softmax"
        self._classes = labels + self._softmax
        self._logits.require(self._logits.spec.shape, (1, None, self._classes))
        self._boxes.require(self._boxes.spec.shape, (1, None, 4))

    def decode(self, tensors: Tensors, canvas: Size, min_score: float) -> Candidates:
        """Find the candidates; see `Decoder.decode`."""
        logits, boxes = self._logits.read(tensors), self._boxes.read(tensors)
        self._logits.require(logits.shape, (1, None, self._classes))
        self._boxes.require(boxes.shape, (1, logits.shape[1], 4))
        self._logits.finite(logits)
        scores = self._scores(logits[0])
        best = scores.max(axis=1)
        kept = np.flatnonzero(best >= min_score)
        classes = scores[kept].argmax(axis=1).astype(np.int32)
        boxes = boxes[0, kept]
        self._boxes.finite(boxes)
        return Candidates(corners(boxes, canvas), best[kept], classes)

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(queries, labels); the last column of a softmax is 'no object'."""
        return softmax(logits)[:, :-1] if self._softmax else sigmoid(logits)
