"""How much an array is like another: cosine, largest difference, signal to noise. Judges nothing."""

import numpy as np

from edge_runtime.contract.tensors import Array

MOST_DB = 200.0
"""What `sqnr_db` gives for equal arrays, where the ratio is infinite."""
_HUGE = float(np.finfo(np.float32).max)
"""Stands for infinity, which JSON does not have."""


def cosine(reference: Array, other: Array) -> float:
    """Give the cosine of the angle between two arrays, taken as vectors.

    Args:
        reference: Any shape, real numbers.
        other: The same shape.

    Returns:
        In [-1, 1]; 1 where both are zero, 0 where one of them is, or where one is no number: an answer of
        zeros, or of NaN, is like nothing.
    """
    a, b = _flat(reference), _flat(other)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    # Scaled first, so that squares neither overflow nor vanish.
    size_a, size_b = float(np.abs(a).max(initial=0)), float(np.abs(b).max(initial=0))
    if not size_a or not size_b:
        return float(size_a == size_b)
    a, b = a / size_a, b / size_b
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


def max_abs(reference: Array, other: Array) -> float:
    """Give the largest absolute difference; the largest float32 where one of the two is no number."""
    difference = np.abs(_flat(reference) - _flat(other))
    return float(difference.max(initial=0)) if np.isfinite(difference).all() else _HUGE


def sqnr_db(reference: Array, other: Array) -> float:
    """Give the signal to quantization noise ratio, 10 log10(sum(reference²) / sum(difference²)).

    Returns:
        Decibels in ±`MOST_DB`.
    """
    signal = _flat(reference)
    noise = signal - _flat(other)
    if not np.isfinite(noise).all():
        return -MOST_DB
    power, lost = float(signal @ signal), float(noise @ noise)
    if not lost:
        return MOST_DB
    return float(np.clip(10 * np.log10(power / lost), -MOST_DB, MOST_DB)) if power else -MOST_DB


def _flat(array: Array) -> Array:
    return np.asarray(array, np.float64).reshape(-1)
