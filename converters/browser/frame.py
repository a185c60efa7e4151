"""Messages between this process and the page: a JSON head and the bytes of its tensors. Knows no socket.

The length of the head as 4 bytes, little endian; the head; the tensors' bytes, one after the other.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from edge_runtime.contract.tensors import Array, Tensors


def pack(head: Mapping[str, object], tensors: Tensors | None = None) -> bytes:
    """Write a message."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (tensors or {}).items()}
    listed = [
        {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "bytes": array.nbytes}
        for name, array in arrays.items()
    ]
    text = json.dumps({**head, "tensors": listed}).encode()
    return b"".join((len(text).to_bytes(4, "little"), text, *(array.tobytes() for array in arrays.values())))


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a message; its arrays are the caller's own.

    Raises:
        ValueError: It is none.
    """
    start = 4 + int.from_bytes(content[:4], "little")
    head = cast("dict[str, Any]", json.loads(content[4:start]))
    listed = cast("Sequence[Mapping[str, Any]]", head.get("tensors") or ())
    arrays: dict[str, Array] = {}
    for one in listed:
        values = np.frombuffer(content[start : start + one["bytes"]], np.dtype(one["dtype"]))
        arrays[one["name"]] = values.reshape(one["shape"]).copy()
        start += one["bytes"]
    return head, arrays
