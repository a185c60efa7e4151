"""Softmax and sigmoid, safe for large logits. Nothing else."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits into probabilities that sum to 1 along the last axis."""
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: NDArray[np.float32] = powers.sum(axis=-1, keepdims=True)
    return powers / total


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn each logit into a probability of its own."""
    # As a tanh it overflows nowhere: 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2.
    scores: NDArray[np.float32] = np.tanh(logits / 2)
    scores += 1
    scores /= 2
    return scores
