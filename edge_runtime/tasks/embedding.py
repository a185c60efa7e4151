"""Embedding: a text in, a vector out, as the model's declaration says. Runs no model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import Embedding
from edge_runtime.contract.task import EmbeddingSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.outputs import assign_outputs
from edge_runtime.tasks.text import TextTensors, Tokens


class EmbeddingTask:
    """A text encoder, by declaration."""

    def __init__(
        self,
        spec: EmbeddingSpec,
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
        self._check(self._output.spec.shape, None)

    def preprocess(self, x: str) -> tuple[Tensors, Tokens]:
        """Make the model's input of a text; see `Task.preprocess`."""
        return self._text.fill(x)

    def postprocess(self, y: Tensors, undo: Tokens) -> Embedding:
        """Make one vector of the model's output; see `Task.postprocess`."""
        output = self._output.read(y)
        self._check(output.shape, len(undo.mask))
        self._output.finite(output)
        vector = self._pooled(output[0], undo.mask).astype(np.float32)
        if self._spec.normalize:
            vector /= max(float(np.linalg.norm(vector)), 1e-12)
        return Embedding(vector, int(undo.mask.sum()), undo.truncated)

    def _check(self, shape: Sequence[int | None], length: int | None) -> None:
        wanted = (1, None) if self._spec.pooling == "none" else (1, length, None)
        if len(shape) != len(wanted):
            have = "one vector" if len(shape) == 2 else "a vector for each token"
            do = (
                f"The model gives {have}: correct `pooling` or `output` in the task"
                if len(shape) in {2, 3}
                else ""
            )
            raise self._output.misfit("(1, size)" if len(wanted) == 2 else "(1, length, size)", shape, do)
        self._output.require(shape, wanted)

    def _pooled(self, output: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        match self._spec.pooling:
            case "none":
                return output
            case "cls":
                return output[mask.argmax()]  # the first token that is none of the padding
            case "mean":
                return output[mask].mean(axis=0)
