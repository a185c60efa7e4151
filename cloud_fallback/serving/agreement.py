"""Whether two versions of a model gave the same answer, as far as somebody who uses it would notice.

Pure. Says nothing of which one is right.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from edge_runtime.contract.result import Values
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.protocol.answers import result_of
from edge_runtime.routing import agreement

CLOSE = 0.01
"""Of the larger one's greatest magnitude, how much two tensors may differ."""


def agree(given: Any, shadow: Any) -> bool:
    """Tell whether a shadow's answer is that of the version it shadows.

    Tensors must all be close. What a task found must say the same as the device's audits have it: the same
    best class, the same objects, spans or text, the same direction of a vector.

    Args:
        given: The value of the answer that the caller got, or its tensors.
        shadow: The same of the shadow.
    """
    if isinstance(given, Mapping) and isinstance(shadow, Mapping):
        return _close(cast(Tensors, given), cast(Tensors, shadow))
    if isinstance(given, Values) and isinstance(shadow, Values):
        return _close(given.tensors, shadow.tensors)
    return agreement.agree(result_of(cast(object, given)), result_of(cast(object, shadow)))


def _close(given: Tensors, shadow: Tensors) -> bool:
    return given.keys() == shadow.keys() and all(_near(given[name], shadow[name]) for name in given)


def _near(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fiub" or one.size == 0:
        return bool(np.array_equal(one, other))
    a, b = one.astype(np.float64), other.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return bool(np.array_equal(a, b, equal_nan=True))
    return bool(np.abs(a - b).max() <= CLOSE * max(np.abs(a).max(), np.abs(b).max()))
