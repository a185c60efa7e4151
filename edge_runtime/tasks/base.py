"""The seam to tasks: raw input to tensors, and tensors to an answer. A task knows no engine.

Runs nothing: `edge_runtime.predict` puts a task and a session together.
"""

from typing import Any, Protocol, TypeAlias, TypeVar

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Classification, Detections, Embedding
from edge_runtime.contract.tensors import Tensors

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)

Undo: TypeAlias = Any
"""What `postprocess` must know of `preprocess`; only the task that made it looks inside."""


class Task(Protocol[In_contra, Out_co]):
    """What a model does. Its methods may be called from several threads at once."""

    def preprocess(self, x: In_contra) -> tuple[Tensors, Undo]:
        """Make the model's input.

        Args:
            x: The raw input; it is only read.

        Returns:
            The tensors, valid until the same thread calls `preprocess` again, and what `postprocess` needs to
            know of them. Copy a tensor that has to live longer.

        Raises:
            InputError: The input is not what this task takes.
        """
        ...

    def postprocess(self, y: Tensors, undo: Undo) -> Out_co:
        """Make the answer of the model's output.

        Args:
            y: One array for each output of the model.
            undo: What `preprocess` gave with the input.

        Raises:
            BundleError: The output is not what the task's declaration says.
            EngineError: The output is not a number.
        """
        ...


VisionTask: TypeAlias = Task[Picture, Detections | Classification | Embedding]
"""A task that looks at pictures."""
