"""What goes into and comes out of a model: named arrays and their specifications.

Does not convert, quantize or copy tensors; tasks do the first, engines the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import InputError

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantization: `real = scale * (stored - zero_point)`.

    Args:
        scale: One value for the whole tensor, or one for each slice along `axis`.
        zero_point: As many as `scale`.
        axis: The axis the values belong to; None when they are for the whole tensor.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Args:
        name: The name the model file gives it.
        dtype: NumPy dtype name, e.g. `float32`, `uint8`; `str` for text.
        shape: One entry an axis; None where the model takes any length.
        quantization: How stored integers become real numbers; None when they are what they are.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantization: Quantization | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {format_shape(self.shape)}"

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether an array of this shape fits, dynamic axes taking any length."""
        if len(shape) != len(self.shape):
            return False
        for want, have in zip(self.shape, shape, strict=True):  # a loop: each request comes here
            if want is not None and want != have:
                return False
        return True


def format_shape(shape: Sequence[int | None]) -> str:
    """Write a shape for a person: `(1, ?, 4)`."""
    inner = ", ".join("?" if axis is None else str(axis) for axis in shape)
    return f"({inner})"


def check_tensors(tensors: Tensors, specs: Sequence[TensorSpec]) -> None:
    """Refuse tensors whose names, dtypes or shapes a model does not take.

    Args:
        tensors: What the caller offers.
        specs: What the model declares.

    Raises:
        InputError: Names the tensor, what was expected and what came.
    """
    names = [spec.name for spec in specs]
    if set(tensors) != set(names):
        raise InputError(
            "input names do not match the model",
            expected=", ".join(names),
            got=", ".join(tensors) or "none",
        )
    for spec in specs:
        array = tensors[spec.name]
        if array.dtype != np.dtype(spec.dtype) or not spec.accepts(array.shape):
            raise InputError(
                f"input '{spec.name}'",
                expected=f"{spec.dtype} {format_shape(spec.shape)}",
                got=f"{array.dtype} {format_shape(array.shape)}",
            )
