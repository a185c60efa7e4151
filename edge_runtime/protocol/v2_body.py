"""The body of a v2 request or answer: JSON, and behind it the tensors that are binary data.

Source: Triton Inference Server, "Binary tensor data extension". Knows neither side of the wire, `v2` does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from edge_runtime.contract.errors import InputError, TooLargeError
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.protocol import datatypes, json_document
from edge_runtime.protocol.json_document import Document, is_array, is_object, kind_of
from edge_runtime.protocol.limits import Limits

_ALIGN = 8
_REFUSED = {
    "classification": "Ask for the output itself, or use /v1/predict",
    "shared_memory_region": "Send the tensor in the body",
    "sequence_id": "Send the state as tensors",
}


class Encoded(NamedTuple):
    """A body, and how many bytes of it are JSON; None: all of them."""

    body: bytes
    header_length: int | None


class Binary:
    """The tensors behind the JSON, handed out in order."""

    def __init__(self, raw: memoryview) -> None:
        self.raw = raw
        self.at = 0

    def take(self, tensor: str, size: object) -> memoryview:
        """Hand out the next tensor's bytes.

        Raises:
            InputError: There are fewer.
        """
        if type(size) is not int or size < 0:
            raise InputError(
                f"binary_data_size of tensor '{tensor}'",
                expected="a whole number from 0 on",
                got=kind_of(size),
            )
        left = len(self.raw) - self.at
        if size > left:
            raise InputError(
                f"binary data of tensor '{tensor}'",
                expected=f"{kind_of(size)} bytes",
                got=f"{left}, the body ends",
            )
        self.at += size
        return self.raw[self.at - size : self.at]


def split(body: bytes, header_length: int | None) -> tuple[Document, Binary]:
    """Part a body into its JSON and what is behind it.

    Raises:
        InputError: It is not as the protocol says.
    """
    whole = memoryview(body)
    length = len(body) if header_length is None else header_length
    if not 0 <= length <= len(body):
        raise InputError(
            "length of the JSON", expected=f"0 to {len(body)}, the body's bytes", got=str(length)
        )
    head = body if length == len(body) else whole[:length]
    return json_document.read_object(head, "inference request" if length else "body"), Binary(whole[length:])


def read_tensors(document: Document, key: str, binary: Binary, limits: Limits) -> dict[str, Array]:
    """Read the tensors that a document lists under a key, with their bytes.

    Raises:
        InputError: It is not as the protocol says.
    """
    given = document.get(key)
    if not is_array(given):
        raise InputError(f"'{key}'", expected="an array of tensors", got=kind_of(given))
    described = given
    if len(described) > limits.tensors:
        raise TooLargeError(f"'{key}'", expected=f"at most {limits.tensors} tensors", got=str(len(described)))
    tensors: dict[str, Array] = {}
    left = limits.elements
    for entry in described:
        name = read_name(entry, key)
        if name in tensors:
            raise InputError(f"'{key}'", expected="every tensor once", got=f"'{name}' twice")
        tensors[name] = _tensor(name, entry, binary, left)
        left -= tensors[name].size
    if binary.at != len(binary.raw):
        raise InputError(
            "binary data", expected=f"{binary.at} bytes, as the tensors say", got=f"{len(binary.raw)} bytes"
        )
    return tensors


def _tensor(name: str, entry: Document, binary: Binary, most: int) -> Array:
    datatype = datatypes.check_datatype(name, entry.get("datatype"))
    shape = datatypes.check_shape(name, entry.get("shape"), most)
    parameters = read_parameters(entry, f"tensor '{name}'")
    if "binary_data_size" not in parameters:
        if "data" not in entry:
            raise InputError(
                f"tensor '{name}'", expected="'data', or 'binary_data_size' and bytes", got="neither"
            )
        return datatypes.from_json(name, datatype, shape, entry["data"])
    if "data" in entry:
        raise InputError(f"tensor '{name}'", expected="'data' or 'binary_data_size'", got="both")
    size = parameters["binary_data_size"]
    if type(size) is int:
        datatypes.check_size(name, datatype, shape, size)
    return datatypes.from_bytes(name, datatype, shape, binary.take(name, size))


def read_name(entry: object, key: str) -> str:
    """Read the name of a listed tensor.

    Raises:
        InputError: It is not as the protocol says.
    """
    if not is_object(entry):
        raise InputError(f"'{key}'", expected="objects with a name", got=kind_of(entry))
    name = entry.get("name")
    if not isinstance(name, str):
        raise InputError(f"a name in '{key}'", expected="a text", got=kind_of(name))
    if not 0 < len(name) <= 256:
        raise InputError(f"a name in '{key}'", expected="1 to 256 characters", got=str(len(name)))
    return name


def read_parameters(document: Document, owner: str) -> dict[str, Any]:
    """Read parameters: a fresh dict of plain values, none of which asks for what is not done here.

    Raises:
        InputError: It is not as the protocol says.
    """
    given = document.get("parameters")
    if given is None:
        return {}
    if not is_object(given):
        raise InputError(f"parameters of the {owner}", expected="an object", got=kind_of(given))
    parameters = given
    for key, value in parameters.items():
        if key in _REFUSED:
            raise InputError(
                f"parameter '{key}' of the {owner}",
                expected="none of that name",
                got=kind_of(value),
                do=_REFUSED[key],
            )
        if not isinstance(value, str | int | float | bool):
            raise InputError(
                f"parameter '{key[:80]}' of the {owner}",
                expected="a text, a number, true or false",
                got=kind_of(value),
            )
    return dict(parameters)


def read_text(document: Document, key: str) -> str:
    """Read a text; empty where there is none.

    Raises:
        InputError: It is not as the protocol says.
    """
    value = document.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"'{key}'", expected="a text", got=kind_of(value))
    return value


def join(document: Document, key: str, tensors: Tensors, is_binary: Callable[[str], bool]) -> Encoded:
    """Write a document, the tensors under a key of it, and behind it those that are binary data.

    Raises:
        EngineError: A tensor cannot be carried.
    """
    described: list[Document] = []
    raw: list[Any] = []
    for name, array in tensors.items():
        entry: Document = {
            "name": name,
            "datatype": datatypes.datatype_of(array),
            "shape": list(array.shape),
        }
        if is_binary(name):
            content = datatypes.to_bytes(array)
            entry["parameters"] = {
                "binary_data_size": len(content) if isinstance(content, bytes) else content.nbytes
            }
            raw.append(content)
        else:
            entry["data"] = datatypes.to_json(name, array)
        described.append(entry)
    document[key] = described
    head = json_document.write(document)
    if not raw:
        return Encoded(head, None)
    head += b" " * (-len(head) % _ALIGN)  # so that a reader's views lie on even addresses
    return Encoded(b"".join((head, *raw)), len(head))
