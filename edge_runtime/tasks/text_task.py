"""TextTask: what tasks that read texts share: a declaration, a tokenizer, one output. Runs no model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from edge_runtime.contract.task import EmbeddingSpec, TextClassificationSpec, TokenClassificationSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.outputs import assign_outputs
from edge_runtime.tasks.text import TextTensors, Tokens

_Spec = TypeVar("_Spec", EmbeddingSpec, TextClassificationSpec, TokenClassificationSpec)


class TextTask(ABC, Generic[_Spec]):
    """Binds a declaration to a model, and makes tensors of texts; what the output means is the subclass's."""

    def __init__(
        self,
        spec: _Spec,
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
        self._check(self._output.spec.shape, (1, None))

    def preprocess(self, x: str) -> tuple[Tensors, Tokens]:
        """Make the model's input of a text, a row for each window of it; see `Task.preprocess`."""
        return self._text.fill(x)

    @abstractmethod
    def _check(self, shape: Sequence[int | None], rows: tuple[int, int | None]) -> None:
        """Refuse an output of another shape.

        Args:
            shape: Of the output.
            rows: Windows, and tokens of each; None: any number.

        Raises:
            BundleError: It is not what the declaration says.
        """
