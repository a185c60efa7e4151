"""One tensor in the forms of Open Inference Protocol v2: raw bytes, or JSON's arrays.

Sources: KServe, "Open Inference Protocol"; Triton Inference Server, "Binary tensor data extension". BYTES
tensors are text here, as `TensorSpec` says: arrays of `str`, UTF-8 on the wire. Knows no request.
"""

import itertools
import math
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_runtime.contract.errors import EngineError, InputError, TooLargeError
from edge_runtime.contract.tensors import Array, format_shape
from edge_runtime.contract.wire import V2_DATATYPES
from edge_runtime.protocol.json_document import is_array, kind_of

TEXT = "BYTES"
_DTYPES: dict[str, np.dtype[Any]] = {
    v2: np.dtype(name).newbyteorder("<") for name, v2 in V2_DATATYPES.items() if v2 != TEXT
}
# By `<f4` and the like: NumPy keeps those, and makes `float32` anew each time.
_NAMES: dict[str, str] = {np.dtype(name).str: v2 for name, v2 in V2_DATATYPES.items() if v2 != TEXT}
_LENGTH = struct.Struct("<I")
_DIMENSIONS = 32
_SWAP = sys.byteorder == "big"


def datatype_of(array: Array) -> str:
    """Give the v2 name of an array's dtype.

    Raises:
        EngineError: The protocol has none.
    """
    name = _NAMES.get(array.dtype.str)
    if name is None and array.dtype.kind in "OU":
        return TEXT
    if name is None:
        raise EngineError("a tensor's dtype", expected=", ".join(V2_DATATYPES), got=str(array.dtype))
    return name


def check_datatype(tensor: str, datatype: object) -> str:
    """Refuse a datatype that is not carried.

    Args:
        tensor: Its name, for the message.
        datatype: As it came.

    Raises:
        InputError: It is BF16, or no datatype at all.
    """
    if datatype == "BF16":
        raise InputError(
            f"tensor '{tensor}'",
            expected="a datatype that NumPy has",
            got="BF16",
            do="Send it as FP32; the model's own type is in its metadata",
        )
    if not isinstance(datatype, str) or (datatype not in _DTYPES and datatype != TEXT):
        known = ", ".join(V2_DATATYPES.values())
        raise InputError(f"datatype of tensor '{tensor}'", expected=f"one of {known}", got=kind_of(datatype))
    return datatype


def check_shape(tensor: str, shape: object, most: int) -> tuple[int, ...]:
    """Refuse a shape that is none, or has too many elements.

    Args:
        tensor: Its name, for the message.
        shape: As it came.
        most: Elements at most.

    Raises:
        InputError: It is no list of lengths.
        TooLargeError: Too many elements.
    """
    if not is_array(shape):
        raise InputError(f"shape of tensor '{tensor}'", expected="an array of lengths", got=kind_of(shape))
    lengths = shape
    for length in lengths:
        if type(length) is not int or length < 0:
            raise InputError(
                f"shape of tensor '{tensor}'", expected="whole numbers from 0 on", got=kind_of(length)
            )
    if len(lengths) > _DIMENSIONS:
        raise InputError(
            f"shape of tensor '{tensor}'", expected=f"at most {_DIMENSIONS} axes", got=str(len(lengths))
        )
    # A zero beside an absurd length has no elements, and yet no array has that shape.
    if math.prod(lengths) > most or max(lengths, default=0) > most:
        raise TooLargeError(f"tensor '{tensor}'", expected=f"at most {most} elements", got=_brief(lengths))
    return tuple(lengths)


def check_size(tensor: str, datatype: str, shape: Sequence[int], size_bytes: int) -> None:
    """Refuse raw bytes that are more or fewer than the shape says; texts tell their own lengths.

    Raises:
        InputError: It does not add up.
    """
    if datatype == TEXT:
        return
    wanted = math.prod(shape) * _DTYPES[datatype].itemsize
    if size_bytes != wanted:
        raise InputError(
            f"binary data of tensor '{tensor}'",
            expected=f"{wanted} bytes for {datatype} {format_shape(shape)}",
            got=f"{size_bytes} bytes",
        )


def from_bytes(tensor: str, datatype: str, shape: tuple[int, ...], raw: memoryview) -> Array:
    """Read a tensor from its raw bytes, without a copy where the bytes lie on an even address.

    Args:
        tensor: Its name, for the message.
        datatype: Checked.
        shape: Checked.
        raw: Row-major, little-endian; texts each behind their length, a little-endian uint32.

    Returns:
        Read-only, over `raw`; texts as an object array of `str`.

    Raises:
        InputError: The bytes do not fit the shape, or are not what the datatype says.
    """
    if datatype == TEXT:
        return _objects(_texts(tensor, shape, raw), shape)
    check_size(tensor, datatype, shape, len(raw))
    array: Array = np.frombuffer(raw, _DTYPES[datatype])
    if datatype == "BOOL" and len(raw) and array.view(np.uint8).max() > 1:
        raise InputError(
            f"binary data of tensor '{tensor}'", expected="bytes 0 and 1", got=str(array.view(np.uint8).max())
        )
    if _SWAP or not array.flags.aligned:
        array = array.astype(array.dtype.newbyteorder("="))
    return array.reshape(shape)


def from_json(tensor: str, datatype: str, shape: tuple[int, ...], data: object) -> Array:
    """Read a tensor from JSON's arrays, flat in row-major order or nested as the shape is.

    Args:
        tensor: Its name, for the message.
        datatype: Checked.
        shape: Checked.
        data: As it came.

    Returns:
        An array of its own; texts as an object array of `str`.

    Raises:
        InputError: It does not fit the shape or the datatype.
    """
    flat = _flat(tensor, shape, data)
    wanted, types = _ELEMENTS[_DTYPES[datatype].kind if datatype != TEXT else "O"]
    if strange := set(map(type, flat)) - types:
        odd = next(value for value in flat if type(value) in strange)
        raise InputError(f"data of tensor '{tensor}'", expected=f"{wanted} ({datatype})", got=kind_of(odd))
    if datatype == TEXT:
        return _objects(flat, shape)
    dtype = _DTYPES[datatype].newbyteorder("=")
    if dtype.kind in "iu" and flat:
        bounds = np.iinfo(dtype)
        low, high = min(flat), max(flat)
        if low < bounds.min or high > bounds.max:
            raise InputError(
                f"data of tensor '{tensor}'",
                expected=f"{datatype} from {bounds.min} to {bounds.max}",
                got=kind_of(low if low < bounds.min else high),
            )
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype)
    except OverflowError:  # a whole number of 310 digits for a float
        array = np.full(1, np.inf, dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(
            f"data of tensor '{tensor}'", expected=f"numbers that fit {datatype}", got="larger ones"
        )
    return array.reshape(shape)


def to_bytes(array: Array) -> Array | bytes:
    """Give the raw bytes of a tensor: the array itself where it lies as the wire wants it.

    Returns:
        Something whose buffer is row-major and little-endian.
    """
    if array.dtype.kind in "OU":
        parts: list[bytes] = []
        for value in array.ravel().tolist():
            text = value if isinstance(value, bytes) else str(value).encode()
            parts += (_LENGTH.pack(len(text)), text)
        return b"".join(parts)
    plain = np.ascontiguousarray(array)
    return plain.astype(plain.dtype.newbyteorder("<")) if _SWAP else plain


def to_json(tensor: str, array: Array) -> Array | list[Any]:
    """Give the flat elements of a tensor as `json_document.write` takes them.

    Raises:
        EngineError: There are numbers that JSON cannot say.
    """
    if array.dtype.kind in "OU":
        return [
            v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in array.ravel().tolist()
        ]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EngineError(
            f"tensor '{tensor}'", expected="numbers", got="NaN or infinity", do="Ask for it as binary data"
        )
    return np.ascontiguousarray(array).reshape(-1)


_ELEMENTS: dict[str, tuple[str, set[type]]] = {
    "b": ("true or false", {bool}),
    "i": ("whole numbers", {int}),
    "u": ("whole numbers", {int}),
    "f": ("numbers", {int, float}),
    "O": ("texts", {str}),
}


def _flat(tensor: str, shape: tuple[int, ...], data: object) -> list[Any]:
    if not is_array(data):
        raise InputError(f"data of tensor '{tensor}'", expected="an array", got=kind_of(data))
    flat = data
    count = math.prod(shape)
    if flat and is_array(flat[0]):
        level: list[Any] = [flat]
        for length in shape:
            for part in level:
                if not is_array(part) or len(part) != length:
                    raise InputError(
                        f"data of tensor '{tensor}'",
                        expected=f"nested as {format_shape(shape)}",
                        got=f"{kind_of(part)} where {length} are due",
                    )
            level = list(itertools.chain.from_iterable(level))
        flat = level
    if len(flat) != count:
        raise InputError(
            f"data of tensor '{tensor}'", expected=f"{count} for {format_shape(shape)}", got=f"{len(flat)}"
        )
    return flat


def _texts(tensor: str, shape: tuple[int, ...], raw: memoryview) -> list[str]:
    count, end, at = math.prod(shape), len(raw), 0
    if count * _LENGTH.size > end:
        raise InputError(
            f"binary data of tensor '{tensor}'",
            expected=f"{count} texts, each behind 4 bytes of length",
            got=f"{end} bytes",
        )
    texts: list[str] = []
    for index in range(count):
        size = _LENGTH.unpack_from(raw, at)[0] if at + _LENGTH.size <= end else end
        at += _LENGTH.size
        if at + size > end:
            raise InputError(
                f"binary data of tensor '{tensor}'",
                expected=f"text {index} and its length whole",
                got=f"{max(end - at, 0)} bytes left",
            )
        try:
            texts.append(str(raw[at : at + size], "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(
                f"text {index} of tensor '{tensor}'",
                expected="UTF-8",
                got=f"byte 0x{error.object[error.start]:02x} at {error.start}",
            ) from error
        at += size
    if at != end:
        raise InputError(
            f"binary data of tensor '{tensor}'", expected=f"{at} bytes for {count} texts", got=f"{end} bytes"
        )
    return texts


def _objects(values: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _brief(lengths: list[int]) -> str:
    shown = format_shape(lengths)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
