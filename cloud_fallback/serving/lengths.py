"""Lengths: tokens of texts brought to few lengths, so that texts of different lengths can run together.

A task makes tensors as long as its text. Here they are filled up, with nothing that counts, to the next of a
few lengths, a quarter longer at most; what comes back is cut to what was there before. Only for models that
mask what does not count, and only where a text was seen to get the same answer either way.
"""

from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.names import plain_name
from edge_runtime.tasks.text import IDS, MASK, TYPES

_SHORTEST = 8


def common_length(length: int) -> int:
    """Give the next length that others have too: 8, 10, … 16, 20, … 32, 40, … 64, 80 and so on."""
    if length <= _SHORTEST:
        return _SHORTEST
    step = 1 << max(1, (length - 1).bit_length() - 3)
    return -(-length // step) * step


def can_be_longer(inputs: Sequence[TensorSpec]) -> bool:
    """Tell whether a model takes tokens of any length, and a mask of those that count."""
    names = {plain_name(spec.name) for spec in inputs}
    free = all(len(spec.shape) == 2 and spec.shape[1] is None for spec in inputs)
    return free and {IDS, MASK} <= names <= {IDS, MASK, TYPES}


def filled_up(tensors: Tensors, length: int) -> Tensors:
    """Fill tokens up with zeros, which the mask says do not count.

    Args:
        tensors: (rows, tokens) each.
        length: That each shall have; at least as many as it has.
    """
    more = length - next(iter(tensors.values())).shape[1]
    if not more:
        return tensors
    return {name: np.pad(array, ((0, 0), (0, more))) for name, array in tensors.items()}


def cut(outputs: Tensors, length: int, filled: int) -> Tensors:
    """Take away again what belongs to the filling.

    Args:
        outputs: Of the model; where they have a row for each token, that is the second axis.
        length: Before filling.
        filled: After it.
    """
    if length == filled:
        return outputs
    return {
        name: array[:, :length] if array.ndim > 2 and array.shape[1] == filled else array
        for name, array in outputs.items()
    }
