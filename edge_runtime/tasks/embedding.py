"""Embedding: a text in, a vector out, as the model's declaration says. Runs no model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import Embedding
from edge_runtime.contract.task import EmbeddingSpec
from edge_runtime.contract.tensors import Tensors
from edge_runtime.tasks.text import Tokens
from edge_runtime.tasks.text_task import TextTask


class EmbeddingTask(TextTask[EmbeddingSpec]):
    """A text encoder, by declaration. Vectors of windows are averaged by the tokens each adds."""

    def postprocess(self, y: Tensors, undo: Tokens) -> Embedding:
        """Make one vector of the model's output; see `Task.postprocess`."""
        output = self._output.read(y)
        self._check(output.shape, undo.mask.shape)
        self._output.finite(output)
        vector = (undo.weights @ self._pooled(output, undo.mask)).astype(np.float32, copy=False)
        if self._spec.normalize:
            vector /= max(float(np.linalg.norm(vector)), 1e-12)
        return Embedding(vector, undo.count, undo.truncated)

    def _check(self, shape: Sequence[int | None], rows: tuple[int, int | None]) -> None:
        wanted = (rows[0], None) if self._spec.pooling == "none" else (*rows, None)
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
        """Make one vector a window, `(windows, size)`."""
        match self._spec.pooling:
            case "none":
                return output
            case "cls":
                return output[np.arange(len(mask)), mask.argmax(axis=1)]  # the first that is no padding
            case "mean":
                return np.stack([row[some].mean(axis=0) for row, some in zip(output, mask, strict=True)])
