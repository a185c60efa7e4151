"""Classification: pictures in, the best classes out, as the model's declaration says. Runs no model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Classification
from edge_runtime.contract.task import ClassificationSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.activation import sigmoid, softmax
from edge_runtime.tasks.geometry import Placement
from edge_runtime.tasks.outputs import assign_outputs
from edge_runtime.tasks.pixels import ImageTensor


class ClassificationTask:
    """A classifier, by declaration."""

    def __init__(
        self,
        spec: ClassificationSpec,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        min_score: float | None = None,
    ) -> None:
        """Bind the declaration to a model.

        Args:
            spec: The declaration.
            inputs: What the model takes.
            outputs: What the model gives.
            min_score: Classes below are left out; None: the best `top_k` whatever their score.

        Raises:
            BundleError: Declaration and model do not belong together.
        """
        self._spec = spec
        self._min_score = min_score
        self._image = ImageTensor(spec.input, inputs)
        self._output = assign_outputs({"output": spec.output}, outputs)["output"]
        self._check(self._output.spec.shape)

    def preprocess(self, x: Picture) -> tuple[Tensors, Placement]:
        """Make the model's input; see `Task.preprocess`."""
        tensor, placement = self._image.fill(x)
        return {self._image.name: tensor}, placement

    def postprocess(self, y: Tensors, undo: Placement) -> Classification:
        """Make the best classes of the model's output; see `Task.postprocess`."""
        output = self._output.read(y)
        self._check(output.shape)
        scores = self._scores(output.reshape(-1))
        best = np.argsort(-scores, kind="stable")[: self._spec.top_k]
        if self._min_score is not None:
            best = best[scores[best] >= self._min_score]
        return Classification(best.astype(np.int32), scores[best], self._spec.labels)

    def _check(self, shape: Sequence[int | None]) -> None:
        """One score a label; some exporters leave the 1 × 1 of the last pooling."""
        classes = len(self._spec.labels)
        self._output.require(shape, (1, classes), (1, classes, 1, 1), (1, 1, 1, classes))

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        self._output.finite(logits)
        match self._spec.activation:
            case "softmax":
                return softmax(logits)
            case "sigmoid":
                return sigmoid(logits)
            case "none":
                return self._output.probabilities(logits)
