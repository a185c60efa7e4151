"""How real numbers become 8 bits: activations by a range, weights by channel. Pure; knows no model."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edge_runtime.contract.tensors import Array

Range: TypeAlias = tuple[float, float]
"""Lowest and highest value."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How numbers become 8 bits.

    Args:
        activation: `uint8` is 2 to 3 times faster on x86, `int8` is what Arm kernels and TensorRT take.
        symmetric: Zero is stored as zero, as TensorRT demands; costs a bit for what is never negative.
        reduce_range: Weights of 7 bits: x86 processors without VNNI add pairs of products in 16 bits, which
            overflow with 8 (onnxruntime documentation, Quantize ONNX models, "U8S8").
    """

    activation: Literal["uint8", "int8"] = "uint8"
    symmetric: bool = False
    reduce_range: bool = False

    @property
    def levels(self) -> tuple[int, int]:
        """Lowest and highest stored activation."""
        if self.activation == "uint8":
            return 0, 255
        return (-127, 127) if self.symmetric else (-128, 127)

    def affine(self, span: Range) -> tuple[np.float32, int]:
        """Give scale and zero point for values in a range, widened to hold zero."""
        low, high = min(span[0], 0.0), max(span[1], 0.0)
        first, last = self.levels
        if self.symmetric:
            low, high = -max(-low, high), max(-low, high)
        scale = np.float32(max((high - low) / (last - first), np.finfo(np.float32).tiny * 4))
        zero = 0 if self.symmetric else int(np.clip(np.rint(first - low / float(scale)), first, last))
        return scale, zero


def quantized_weights(values: Array, axis: int, limit: int) -> tuple[Array, Array]:
    """Quantize weights by channel, symmetrically.

    Args:
        values: Float, any shape.
        axis: Of the channels.
        limit: Highest stored value: 127, or 64 for seven bits.

    Returns:
        int8 of the same shape, and `(channels,)` float32 scales.
    """
    others = tuple(index for index in range(values.ndim) if index != axis)
    largest = np.abs(values).max(axis=others).astype(np.float64)
    scale = np.maximum(largest / limit, np.finfo(np.float32).tiny * 4).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = -1
    stored = np.clip(np.rint(values / scale.reshape(shape)), -limit, limit).astype(np.int8)
    return stored, scale
