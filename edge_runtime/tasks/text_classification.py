"""Text classification: a text in, the best classes out, as the model's declaration says. Runs no model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import TextClassification
from edge_runtime.contract.task import TextClassificationSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.activation import sigmoid, softmax
from edge_runtime.tasks.outputs import assign_outputs
from edge_runtime.tasks.text import TextTensors, Tokens


class TextClassificationTask:
    """A classifier of texts, by declaration. Scores of windows are averaged by the tokens each adds."""

    def __init__(
        self,
        spec: TextClassificationSpec,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        tokenizer: Path,
    ) -> None:
        """Bind the declaration to a model.

        Args:
            spec: The declaration.
            inputs: What the model takes.
            outputs: What the model gives.
            tokenizer: The bundle's `tokenizer.json`.

        Raises:
            BundleError: Declaration, tokenizer and model do not belong together.
            EngineError: The library `tokenizers` is missing.
        """
        self._spec = spec
        self._text = TextTensors(spec.input, inputs, tokenizer)
        self._output = assign_outputs({"output": spec.output}, outputs)["output"]
        self._check(self._output.spec.shape, 1)

    def preprocess(self, x: str) -> tuple[Tensors, Tokens]:
        """Make the model's input of a text, a row for each window of it; see `Task.preprocess`."""
        return self._text.fill(x)

    def postprocess(self, y: Tensors, undo: Tokens) -> TextClassification:
        """Make the best classes of the model's output; see `Task.postprocess`."""
        output = self._output.read(y)
        self._check(output.shape, len(undo.mask))
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

    def _check(self, shape: Sequence[int | None], windows: int) -> None:
        self._output.require(shape, (windows, len(self._spec.labels)))

    def _scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        self._output.finite(logits)
        match self._spec.activation:
            case "softmax":
                return softmax(logits)
            case "sigmoid":
                return sigmoid(logits)
            case "none":
                return self._output.probabilities(logits)
