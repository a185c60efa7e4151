"""Text classification: a text in, the best classes out, as the model's declaration says. Runs no model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import TextClassification
from edge_runtime.contract.task import TextClassificationSpec
from edge_runtime.contract.tensors import Tensors
from edge_runtime.tasks.activation import sigmoid, softmax
from edge_runtime.tasks.text import Tokens
from edge_runtime.tasks.text_task import TextTask


class TextClassificationTask(TextTask[TextClassificationSpec]):
    """A classifier of texts, by declaration. Scores of windows are averaged by the tokens each adds."""

    def postprocess(self, y: Tensors, undo: Tokens) -> TextClassification:
        """Make the best classes of the model's output; see `Task.postprocess`."""
        output = self._output.read(y)
        self._check(output.shape, undo.mask.shape)
        scores = undo.weights @ self._scores(output)
        best = np.argsort(-scores, kind="stable")[: self._spec.top_k]
        return TextClassification(
            best.astype(np.int32),
            scores[best],
            self._spec.labels,
            undo.count,
            undo.truncated,
            len(undo.mask),
        )

    def _check(self, shape: Sequence[int | None], rows: tuple[int, int | None]) -> None:
        self._output.require(shape, (rows[0], len(self._spec.labels)))

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        self._output.finite(logits)
        match self._spec.activation:
            case "softmax":
                return softmax(logits)
            case "sigmoid":
                return sigmoid(logits)
            case "none":
                return self._output.probabilities(logits)
