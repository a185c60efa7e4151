"""How summaries and heatmaps lie on the disk: compressed, and read back with doubt. Opens no file."""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_runtime.analytics.storesummary import DaySummary, from_document, to_document
from edge_runtime.contract.errors import StorageError

_SHAPE = struct.Struct("<HH")
_TENTHS = 10
"""Heat is kept in tenths of a second: a frame at 10 a second still counts."""


def pack_summary(summary: DaySummary) -> bytes:
    """Pack a day's summary."""
    return zlib.compress(json.dumps(to_document(summary), separators=(",", ":")).encode(), 9)


def unpack_summary(packed: bytes) -> DaySummary:
    """Read a packed summary.

    Raises:
        StorageError: It is damaged.
    """
    try:
        document = json.loads(zlib.decompress(packed))
        return from_document(cast("Mapping[str, Any]", document))
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise StorageError("the summary of a day", expected="one that is whole", got=str(error)) from error


def pack_heat(grid: NDArray[np.float32]) -> bytes:
    """Pack a heatmap, (rows, columns) float32 seconds."""
    rows, columns = grid.shape
    tenths = np.rint(np.clip(grid * np.float32(_TENTHS), 0, 2**32 - 256)).astype("<u4")
    return _SHAPE.pack(rows, columns) + zlib.compress(tenths.tobytes(), 9)


def pack_slots(looked: Sequence[bool]) -> bytes:
    """Pack in which slots of a day a camera looked."""
    return np.packbits(np.array(looked, np.bool_)).tobytes()


def unpack_slots(packed: bytes) -> list[bool]:
    """Read packed slots; some more than there were, which are False."""
    return np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.bool_).tolist()


def unpack_heat(packed: bytes) -> NDArray[np.float32]:
    """Read a packed heatmap, (rows, columns) float32 seconds.

    Raises:
        StorageError: It is damaged.
    """
    try:
        shape = _SHAPE.unpack_from(packed)
        tenths = np.frombuffer(zlib.decompress(packed[_SHAPE.size :]), "<u4").reshape(shape)
    except (struct.error, zlib.error, ValueError) as error:
        raise StorageError("the heatmap of a day", expected="one that is whole", got=str(error)) from error
    return (tenths / _TENTHS).astype(np.float32)
