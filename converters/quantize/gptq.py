"""Rounding of a weight matrix to few bits, each error made good by the weights that are still to come.

GPTQ: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
ICLR 2023, algorithm 1. Knows matrices only, no model and no file.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DAMPING = 0.01
"""Share of the mean of the diagonal added to it, as in the paper, so that the inverse exists."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix of `(inputs, outputs)` in blocks along the inputs: `weight = scale * (code - zero)`.

    Args:
        codes: (inputs, outputs) uint8.
        scales: (blocks, outputs) float32.
        zeros: (blocks, outputs) uint8.
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8]


def round_blocks(
    weights: NDArray[np.float32], block: int, bits: int, inputs: NDArray[np.float64] | None = None
) -> Blocks:
    """Round a matrix.

    Args:
        weights: (inputs, outputs).
        block: Inputs that share a scale and a zero.
        bits: Of a code.
        inputs: (inputs, inputs), the sum of x xᵀ over real inputs x; None: plain rounding to the nearest.
    """
    left = weights.astype(np.float64)
    count, outputs = left.shape
    factor = None if inputs is None else _factor(inputs)
    codes = np.empty((count, outputs), np.uint8)
    blocks = -(-count // block)
    scales, zeros = np.empty((blocks, outputs), np.float32), np.empty((blocks, outputs), np.uint8)
    for index, start in enumerate(range(0, count, block)):
        end = min(start + block, count)
        scale, zero = _affine(left[start:end], bits)
        scales[index], zeros[index] = scale, zero
        if factor is None:
            codes[start:end] = np.clip(np.rint(left[start:end] / scale) + zero, 0, 2**bits - 1)
            continue
        errors = np.empty((end - start, outputs))
        for row in range(start, end):
            code = np.clip(np.rint(left[row] / scale) + zero, 0, 2**bits - 1)
            codes[row] = code
            error = (left[row] - scale * (code - zero)) / factor[row, row]
            left[row + 1 : end] -= np.outer(factor[row, row + 1 : end], error)
            errors[row - start] = error
        left[end:] -= factor[start:end, end:].T @ errors
    return Blocks(codes, scales, zeros)


def _factor(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper Cholesky factor of the inverse."""
    damped = inputs + np.eye(len(inputs)) * max(_DAMPING * float(np.diag(inputs).mean()), 1e-12)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T, np.float64)


def _affine(values: NDArray[np.float64], bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and zero of each column, as they will be stored."""
    low, high = np.minimum(values.min(axis=0), 0), np.maximum(values.max(axis=0), 0)
    scale = np.maximum((high - low) / (2**bits - 1), np.finfo(np.float32).tiny * 4).astype(np.float32)
    return scale.astype(np.float64), np.clip(np.rint(-low / scale), 0, 2**bits - 1)
