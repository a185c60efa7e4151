"""JSON in and out, strictly: UTF-8, no NaN and no infinity, no endless nesting.

Uses orjson where it is installed and the standard library where it is not; both refuse the same documents.
Knows no document's meaning.
"""

import json
from typing import Any, NoReturn, TypeGuard, cast

import numpy as np

from edge_runtime.contract.errors import EdgeRuntimeError, InputError
from edge_runtime.contract.tensors import Array

try:
    import orjson
except ImportError:  # only the extra `web` brings it
    orjson = None

Document = dict[str, Any]

_DEPTH = 1024
"""Nested arrays and objects at most, as orjson has it."""


def read(body: bytes | memoryview, what: str = "body") -> Any:
    """Read a JSON document.

    Args:
        body: UTF-8.
        what: What to call it in an error.

    Raises:
        InputError: It is no JSON, or not strictly.
    """
    try:
        return orjson.loads(body) if orjson is not None else parse_plainly(bytes(body))
    except (ValueError, RecursionError) as error:  # both libraries' errors are ValueErrors
        start = bytes(body[:40])
        shown = f"{start!r}{'…' if len(body) > 40 else ''}" if len(body) else "nothing"
        reason = "too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise InputError(
            f"{what} is no JSON ({reason})", expected="strict JSON in UTF-8", got=shown
        ) from error


def parse_plainly(body: bytes) -> Any:
    """Parse with the standard library what orjson would, and refuse what it would.

    Raises:
        ValueError: It is no strict JSON.
        RecursionError: It is nested too deep.
    """
    document = json.loads(body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    if body.count(b"[") + body.count(b"{") > _DEPTH:
        _check_depth(document)
    if b"\\ud" in body.lower():
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is a UnicodeEncodeError
    return document


def read_object(body: bytes | memoryview, what: str = "body") -> Document:
    """Read a JSON document that is an object.

    Raises:
        InputError: It is no JSON, or no object.
    """
    document = read(body, what)
    if not is_object(document):
        raise InputError(what, expected="a JSON object", got=kind_of(document))
    return document


def is_object(value: object) -> TypeGuard[Document]:
    """Tell whether a JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Tell whether a JSON value is an array."""
    return isinstance(value, list)


def write(document: Any) -> bytes:
    """Write a document in the fewest bytes; NumPy arrays become arrays."""
    if orjson is not None:
        return orjson.dumps(document, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    return write_plainly(document)


def write_plainly(document: Any) -> bytes:
    """Write with the standard library."""
    return json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
    ).encode()


def kind_of(value: object) -> str:
    """Name what a JSON value is, shortly and without its content if it is long, for a message."""
    if value is None:
        return "null"
    if is_object(value):
        return "an object"
    if is_array(value):
        return f"an array of {len(value)}"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not np.isfinite(number):
        raise ValueError("number is infinity")
    return number


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if is_object(value):
                below += value.values()
            elif is_array(value):
                below += value
        if not below:
            return
        level = below
    raise ValueError("depth limit exceeded")


def _plain(value: object) -> Any:
    if isinstance(value, np.ndarray):  # strings, layouts other than C's, or no orjson
        return cast(Array, value).tolist()
    if isinstance(value, np.generic):
        return cast(Any, value.item())
    raise EdgeRuntimeError(f"a {type(value).__name__} cannot be written as JSON")
