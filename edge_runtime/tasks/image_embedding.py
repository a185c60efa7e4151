"""Image embedding: a picture in, a vector out, as the model's declaration says. Runs no model."""

from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Embedding
from edge_runtime.contract.task import ImageEmbeddingSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.geometry import Placement
from edge_runtime.tasks.outputs import assign_outputs
from edge_runtime.tasks.pixels import ImageTensor


class ImageEmbeddingTask:
    """An encoder of pictures, by declaration."""

    def __init__(
        self, spec: ImageEmbeddingSpec, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        """Bind the declaration to a model.

        Args:
            spec: The declaration.
            inputs: What the model takes.
            outputs: What the model gives.

        Raises:
            BundleError: Declaration and model do not belong together.
        """
        self._spec = spec
        self._image = ImageTensor(spec.input, inputs)
        self._output = assign_outputs({"output": spec.output}, outputs)["output"]
        self._check(self._output.spec.shape)

    def preprocess(self, x: Picture) -> tuple[Tensors, Placement]:
        """Make the model's input; see `Task.preprocess`."""
        tensor, placement = self._image.fill(x)
        return {self._image.name: tensor}, placement

    def postprocess(self, y: Tensors, undo: Placement) -> Embedding:
        """Make the vector of the model's output; see `Task.postprocess`."""
        output = self._output.read(y)
        self._check(output.shape)
        self._output.finite(output)
        vector = output.reshape(-1).astype(np.float32)
        if self._spec.normalize:
            vector /= max(float(np.linalg.norm(vector)), 1e-12)
        return Embedding(vector, tokens=0, truncated=False)

    def _check(self, shape: Sequence[int | None]) -> None:
        """One vector; some exporters leave the 1 × 1 of the last pooling."""
        self._output.require(shape, (1, None), (1, None, 1, 1), (1, 1, 1, None))
