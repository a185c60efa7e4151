"""Tensors: the model's own arrays in and out, as real numbers. Runs no model, interprets nothing."""

from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.contract.errors import BundleError, InputError
from edge_runtime.contract.result import Values
from edge_runtime.contract.task import TensorsSpec
from edge_runtime.contract.tensors import Array, Tensors, TensorSpec, check_tensors
from edge_runtime.tasks.names import plain_name
from edge_runtime.tasks.outputs import Output


class TensorsTask:
    """A model without a task of its own: tables, signals, anything."""

    def __init__(
        self, spec: TensorsSpec, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        """Bind the declaration to a model.

        Args:
            spec: The declaration.
            inputs: What the model takes.
            outputs: What the model gives.

        Raises:
            BundleError: There are labels, and the first output has another number of columns.
        """
        self._inputs = inputs
        self._outputs = [Output("output", tensor) for tensor in outputs]
        self._labels = spec.labels
        columns = outputs[0].shape[-1] if outputs and outputs[0].shape else None
        if spec.labels and columns not in {None, len(spec.labels)}:
            raise BundleError(
                f"output '{outputs[0].name}'",
                expected=f"{len(spec.labels)} columns, one a label",
                got=str(columns),
                do="Correct the labels in the task",
            )

    def preprocess(self, x: Tensors) -> tuple[Tensors, None]:
        """Make the model's input.

        Args:
            x: Real numbers by the name of the input, batch axis included; for a model of one input the name
                does not matter. They are rounded to what the model stores where it is quantized.

        Raises:
            InputError: A name, a dtype or a shape is not what the model takes.
        """
        if not isinstance(x, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - callers read JSON
            raise InputError("input", expected="tensors by name", got=type(x).__name__)
        given = {plain_name(name): array for name, array in x.items()}
        if len(self._inputs) == 1 and len(given) == 1:
            given = {plain_name(self._inputs[0].name): next(iter(given.values()))}
        wanted = [plain_name(tensor.name) for tensor in self._inputs]
        if set(given) != set(wanted):
            raise InputError("input names", expected=", ".join(wanted), got=", ".join(x) or "none")
        tensors = {
            tensor.name: _stored(given[name], tensor)
            for name, tensor in zip(wanted, self._inputs, strict=True)
        }
        check_tensors(tensors, self._inputs)
        return tensors, None

    def postprocess(self, y: Tensors, undo: None) -> Values:
        """Make real numbers of the model's outputs; see `Task.postprocess`."""
        tensors: dict[str, Array] = {}
        for output in self._outputs:
            stored = np.dtype(output.spec.dtype).kind in "iu" and output.spec.quantization is None
            tensors[output.spec.name] = y[output.spec.name] if stored else output.read(y)
            output.finite(tensors[output.spec.name])
        return Values(tensors, self._labels)


def _stored(real: Array, tensor: TensorSpec) -> Array:
    """Turn real numbers into what the model stores; refuse what would lose more than rounding does."""
    dtype = np.dtype(tensor.dtype)
    if real.dtype == dtype:
        return real
    if real.dtype.kind not in "fiub":
        raise InputError(f"input '{tensor.name}'", expected=tensor.dtype, got=str(real.dtype))
    if dtype.kind == "f":
        return real.astype(dtype)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    found = tensor.quantization
    if limits and found is not None and len(found.scale) == 1 and real.dtype.kind == "f":
        stored = np.rint(real / found.scale[0] + found.zero_point[0])
        return np.clip(stored, limits.min, limits.max).astype(dtype)
    lossless = real.astype(dtype)
    if not np.array_equal(lossless, real):
        raise InputError(
            f"input '{tensor.name}'",
            expected=f"numbers that {dtype} can hold",
            got=f"other {real.dtype} numbers",
        )
    return lossless
