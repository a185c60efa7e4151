"""Head `yolo-distances`: for each cell, distributions of the distances to the sides of a box, and scores.

The expectation of a distribution is the distance (X. Li et al.: *Generalized Focal Loss*, 2020). A model that
makes boxes itself does so for all its cells; here only those with a score are worth it.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import Boxes, Scores
from edge_runtime.contract.task import DistancesHead
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.activation import sigmoid
from edge_runtime.tasks.geometry import Size
from edge_runtime.tasks.heads.base import Candidates
from edge_runtime.tasks.nms import suppress
from edge_runtime.tasks.outputs import assign_outputs

Floats = NDArray[np.float32]

_AWAY = np.array([[-1], [-1], [1], [1]], np.float32)
"""Left and top lie before a cell's centre, right and bottom behind it."""


class DistancesDecoder:
    """See the module."""

    def __init__(
        self, head: DistancesHead, outputs: Sequence[TensorSpec], labels: int, wanted: Sequence[int] = ()
    ) -> None:
        """Bind the declaration to a model.

        Args:
            head: The declaration.
            outputs: What the model gives.
            labels: How many classes it has.
            wanted: Classes that are kept afterwards; candidates of others may be left out. Empty: all.

        Raises:
            BundleError: Declaration and model do not belong together.
        """
        self._head = head
        self._labels = labels
        # Where boxes of all classes suppress each other, those of the others are needed too.
        self._rows = [] if head.class_agnostic else list(wanted)
        found = assign_outputs({"distances": head.distances, "scores": head.scores}, outputs)
        self._distances, self._scores = found["distances"], found["scores"]
        self._scores.require(self._scores.spec.shape, (1, labels, None))
        self._require_bins(self._distances.spec.shape)
        self._grids: dict[Size, tuple[Floats, Floats]] = {}

    def decode(self, tensors: Tensors, canvas: Size, min_score: float) -> Candidates:
        """Find the candidates; see `Decoder.decode`."""
        distances, scores = self._distances.read(tensors), self._scores.read(tensors)
        self._scores.require(scores.shape, (1, self._labels, distances.shape[-1]))
        self._require_bins(distances.shape)
        kept = self._above(scores[0][self._rows] if self._rows else scores[0], min_score)
        picked = scores[0][:, kept]
        classes = picked.argmax(axis=0).astype(np.int32)
        best = self._probability(np.take_along_axis(picked, classes[None], axis=0)[0])
        boxes = self.boxes(distances[0], kept, canvas)
        order = suppress(boxes, best, None if self._head.class_agnostic else classes, self._head.nms_iou)
        return Candidates(boxes[order], best[order], classes[order])

    def boxes(self, distances: Floats, cells: NDArray[np.intp], canvas: Size) -> Boxes:
        """Make the boxes of some cells.

        Args:
            distances: (4 * bins, n) float32, the logits of all cells.
            cells: (k,) which.
            canvas: (height, width) of the model's input.

        Returns:
            (k, 4) float32 xyxy, pixels of the model's input.

        Raises:
            BundleError: The grids have not n cells.
            EngineError: A distance is not a number.
        """
        centres, strides = self._grid(canvas)
        self._distances.require((1, *distances.shape), (1, None, len(strides)))
        logits = distances.reshape(4, -1, len(strides))[:, :, cells]
        self._distances.finite(logits)
        sides = _expected(logits) * strides[cells]
        sides *= _AWAY
        sides += centres[:, cells]
        return np.ascontiguousarray(sides.T)

    def _above(self, scores: Floats, min_score: float) -> NDArray[np.intp]:
        """Find the cells with a score, before anything else is calculated; logits are compared as such."""
        highest = scores.max(axis=0)
        if self._head.activation == "none":
            return np.flatnonzero(self._scores.probabilities(highest) >= min_score)
        self._scores.finite(highest)
        if min_score <= 0 or min_score >= 1:
            return np.flatnonzero(sigmoid(highest) >= min_score)
        return np.flatnonzero(highest >= math.log(min_score / (1 - min_score)))

    def _probability(self, scores: Scores) -> Scores:
        return sigmoid(scores) if self._head.activation == "sigmoid" else self._scores.probabilities(scores)

    def _require_bins(self, shape: Sequence[int | None]) -> None:
        """Refuse distances that are no distributions; a side needs two bins at least."""
        self._distances.require(shape, (1, None, None))
        width = shape[1]
        if width is not None and (width < 8 or width % 4):
            raise self._distances.misfit(
                "(1, 4 * bins, n)", shape, "Declare the head that this model has: `yolo` makes boxes itself"
            )

    def _grid(self, canvas: Size) -> tuple[Floats, Floats]:
        """Give the cells' centres as (4, n) x y x y and their strides (n,), both in pixels."""
        if canvas not in self._grids:
            if len(self._grids) > 8:  # a model of any size, fed with pictures of many shapes
                self._grids.clear()
            centres: list[Floats] = []
            strides: list[Floats] = []
            for stride in self._head.strides:
                rows, columns = (-(-side // stride) for side in canvas)
                y, x = np.mgrid[:rows, :columns].astype(np.float32).reshape(2, -1)
                centres.append((np.stack((x, y, x, y)) + np.float32(0.5)) * np.float32(stride))
                strides.append(np.full(rows * columns, stride, np.float32))
            self._grids[canvas] = np.concatenate(centres, axis=1), np.concatenate(strides)
        return self._grids[canvas]


def _expected(logits: Floats) -> Floats:
    """Give the expectation of distributions.

    Args:
        logits: (4, bins, n).

    Returns:
        (4, n) float32, in [0, bins - 1].
    """
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    positions = np.arange(logits.shape[1], dtype=np.float32)
    mean: Floats = np.einsum("ijk,j->ik", weights, positions)
    return mean / weights.sum(axis=1)
