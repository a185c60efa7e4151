"""Head `yolo`: raw predictions, one box with the scores of all classes for each cell of the model's grids.

Takes the two layouts in use: attributes first, `(1, 4 + classes, n)`, and boxes first, `(1, n, 5 + classes)`.
Decodes no anchors and no strides: exporters put that into the model.
"""

from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.result import Boxes, ClassIds, Scores
from edge_runtime.contract.task import YoloHead
from edge_runtime.contract.tensors import Array, Tensors, TensorSpec
from edge_runtime.tasks.geometry import Size
from edge_runtime.tasks.heads.base import Candidates, corners
from edge_runtime.tasks.nms import suppress
from edge_runtime.tasks.outputs import assign_outputs


class YoloDecoder:
    """See the module."""

    def __init__(
        self, head: YoloHead, outputs: Sequence[TensorSpec], labels: int, wanted: Sequence[int] = ()
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
        self._rows = [] if head.class_agnostic else [4 + index for index in wanted]
        self._output = assign_outputs({"output": head.output}, outputs)["output"]
        shape = self._output.spec.shape
        if None not in shape or len(shape) != 3:
            self._attributes_first(shape)

    def decode(self, tensors: Tensors, canvas: Size, min_score: float) -> Candidates:
        """Find the candidates; see `Decoder.decode`."""
        output = self._output.read(tensors)
        first = self._attributes_first(output.shape)
        attributes = output[0] if first else output[0].T
        find = self._with_objectness if self._head.objectness else self._class_scores
        boxes, scores, classes = find(attributes, min_score)
        self._output.finite(boxes)
        boxes = corners(boxes, canvas if self._head.coordinates == "normalized" else None)
        kept = suppress(boxes, scores, None if self._head.class_agnostic else classes, self._head.nms_iou)
        return Candidates(boxes[kept], scores[kept], classes[kept])

    def _class_scores(self, attributes: Array, min_score: float) -> tuple[Boxes, Scores, ClassIds]:
        """Filter before anything else: of thousands of cells a few dozen have a score."""
        scores = attributes[self._rows] if self._rows else attributes[4:]
        kept = np.flatnonzero(self._output.probabilities(scores.max(axis=0)) >= min_score)
        picked = attributes[:, kept]
        classes = picked[4:].argmax(axis=0)
        best = np.take_along_axis(picked[4:], classes[None], axis=0)[0]
        return picked[:4].T, self._output.probabilities(best), classes.astype(np.int32)

    def _with_objectness(self, attributes: Array, min_score: float) -> tuple[Boxes, Scores, ClassIds]:
        """A score is objectness × class, so objectness alone already rules most cells out."""
        objectness = self._output.probabilities(attributes[4])
        picked = attributes[:, np.flatnonzero(objectness >= min_score)]
        scores = self._output.probabilities(picked[5:]) * picked[4]
        classes = scores.argmax(axis=0).astype(np.int32)
        best = scores.max(axis=0)
        kept = np.flatnonzero(best >= min_score)
        return picked[:4, kept].T, best[kept], classes[kept]

    def _attributes_first(self, shape: Sequence[int | None]) -> bool:
        """Tell the layout from the shape; where both fit, from what exporters of this kind of model do."""
        wide = self._labels + (5 if self._head.objectness else 4)
        first, last = (None, None) if len(shape) != 3 else shape[1:]
        if len(shape) != 3 or shape[0] not in {1, None} or wide not in {first, last}:
            raise self._misfit(shape, wide)
        return not self._head.objectness if first == last else first == wide

    def _misfit(self, shape: Sequence[int | None], wide: int) -> Exception:
        other = wide + (-1 if self._head.objectness else 1)
        do = "Give as many labels as the model has classes"
        if other in shape:
            do += f", or set `objectness: {str(not self._head.objectness).lower()}` in the head"
        expected = f"(1, {wide}, n) or (1, n, {wide}) for {self._labels} labels"
        return self._output.misfit(expected, shape, do)
