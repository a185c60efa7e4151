"""What a model file tells unloaded: the size of its parameters, their precision, files beside it, and more.

Loads no model and no vendor library: reads the few fields of ONNX, TFLite and safetensors files that it
needs. Whether the file is sound is for the step to say that loads it.
"""

import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TypeAlias

from converters.quantize.wide import Operator, by_operators, by_weights
from edge_runtime.contract.bundle import Precision

Bytes: TypeAlias = bytes | mmap.mmap | memoryview


@dataclass(slots=True)
class Header:
    """What a file says of its parameters.

    Args:
        by_type: Type of number -> how many numbers the parameters have of it.
        beside: Names of further files that hold some of them, relative to the file's folder.
        precision: What the model is; None: a float32 model, or not known.
        opset: Version of the standard operators of an ONNX model; 0: another format.
        wide: Whether the model's activations are, by `quantize.wide`.
    """

    by_type: dict[str, int] = field(default_factory=dict[str, int])
    beside: set[str] = field(default_factory=set[str])
    precision: Precision | None = None
    opset: int = 0
    wide: bool = False

    @property
    def float_bytes(self) -> int:
        """What the parameters would take as float32."""
        return 4 * sum(self.by_type.values())


_ONNX_TYPES = {1: "float32", 2: "uint8", 3: "int8", 10: "float16", 11: "float64", 16: "bfloat16"}
_TFLITE_TYPES = {0: "float32", 1: "float16", 3: "uint8", 7: "int16", 9: "int8", 17: "int4"}
_TFLITE_OPERATORS = {
    0: "ADD", 22: "RESHAPE", 25: "SOFTMAX", 39: "TRANSPOSE", 40: "MEAN", 75: "SQRT", 76: "RSQRT",
    126: "BATCH_MATMUL",
}  # fmt: skip
"""Codes of the operators that `quantize.wide` looks for (BuiltinOperator of schema.fbs)."""
_SAFETENSORS_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I8": "int8"}


def read_onnx(path: Path) -> Header:
    """Read an ONNX file's operators, and its initializers' shapes and types (onnx.proto of the ONNX project).

    Raises:
        ValueError: The file ends in the middle of a field, or is no protobuf message.
    """
    header = Header()
    operators: list[Operator] = []
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for number, place in _messages(content, 0, len(content)):
            if number == 7:
                for inner, part in _messages(content, *place):
                    if inner == 1:
                        operators.append(_read_operator(content, part))
                    elif inner == 5:
                        _read_tensor(content, part, header)
            elif number == 8:
                domain = dict(_fields(content, *place))
                name = domain.get(1)
                if name is None or (isinstance(name, tuple) and name[0] == name[1]):
                    header.opset = int(str(domain.get(2, 0)))
    kinds = header.by_type
    most = max(kinds, key=lambda kind: kinds[kind], default="float32")
    header.precision = {"int8": Precision.INT8, "uint8": Precision.INT8, "float16": Precision.FP16}.get(most)
    header.wide = by_operators(operators)
    return header


_Span: TypeAlias = tuple[int, int]


def _read_operator(content: Bytes, place: _Span) -> Operator:
    texts: dict[int, list[str]] = {1: [], 2: [], 4: [""]}
    for number, (begin, end) in _messages(content, *place):
        if number in texts:
            texts[number].append(bytes(content[begin:end]).decode(errors="replace"))
    return Operator(texts[4][-1], tuple(filter(None, texts[1])), tuple(texts[2]))


def _read_tensor(content: Bytes, place: _Span, header: Header) -> None:
    count, kind = 1, ""
    for number, value in _fields(content, *place):
        if number == 1 and isinstance(value, int):
            count *= value
        elif number == 1 and isinstance(value, tuple):
            for dimension in _packed(content, *value):
                count *= dimension
        elif number == 2 and isinstance(value, int):
            kind = _ONNX_TYPES.get(value, "")
        elif number == 13 and isinstance(value, tuple):
            pair = {inner: bytes(content[at[0] : at[1]]) for inner, at in _messages(content, *value)}
            if pair.get(1) == b"location":
                header.beside.add(pair.get(2, b"").decode())
    if kind:
        header.by_type[kind] = header.by_type.get(kind, 0) + count


def _messages(content: Bytes, begin: int, end: int) -> Iterator[tuple[int, _Span]]:
    for number, value in _fields(content, begin, end):
        if isinstance(value, tuple):
            yield number, value


def _fields(content: Bytes, begin: int, end: int) -> Iterator[tuple[int, int | _Span]]:
    """Walk over the fields of a protobuf message: a number each with its value, or where its bytes are."""
    at = begin
    while at < end:
        key, at = _varint(content, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field without a number")
        if wire == 0:
            value, at = _varint(content, at, end)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(content, at, end)
        elif wire in {1, 5}:
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at + length > end:
            raise ValueError(f"the file ends {at + length - end} bytes too early")
        if wire == 2:
            yield number, (at, at + length)
        at += length


def _packed(content: Bytes, begin: int, end: int) -> Iterator[int]:
    while begin < end:
        value, begin = _varint(content, begin, end)
        yield value


def _varint(content: Bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("the file ends in the middle of a number")


def read_tflite(path: Path) -> Header:
    """Read the operators, and the tensors' types, of a TFLite file (schema.fbs of TensorFlow Lite).

    Raises:
        ValueError: An offset points outside the file.
    """
    content = path.read_bytes()
    header = Header()
    moving: dict[str, int] = {}
    operators: list[Operator] = []
    try:
        model = _Table(content, 0)
        # Field 0 has the code; 3 has it too in newer files, for codes above 127, which none of ours is.
        codes = [_Table(content, place).number(0, "<b") for place in model.tables(1)]
        full = [_Table(content, place).length(0) > 0 for place in model.tables(4)]
        for graph in model.tables(2):
            for place in _Table(content, graph).tables(0):
                tensor = _Table(content, place)
                kind = _TFLITE_TYPES.get(tensor.number(1, "<b"), "")
                into = header.by_type if full[tensor.number(2, "<I")] else moving
                if kind:
                    into[kind] = into.get(kind, 0) + prod(max(1, length) for length in tensor.numbers(0))
            for place in _Table(content, graph).tables(3):
                operator = _Table(content, place)
                name = _TFLITE_OPERATORS.get(codes[operator.number(0, "<I")], "")
                inputs, outputs = (tuple(map(str, operator.numbers(field))) for field in (1, 2))
                operators.append(Operator(name, inputs, outputs))
    except (IndexError, struct.error) as error:
        raise ValueError(f"an offset points outside the file ({error})") from error
    header.precision = _tflite_precision(header.by_type, moving)
    header.wide = by_operators(operators)
    return header


def _tflite_precision(held: dict[str, int], moving: dict[str, int]) -> Precision | None:
    most = max(held, key=lambda kind: held[kind], default="float32")
    flowing = max(moving, key=lambda kind: moving[kind], default="float32")
    if most in {"int8", "uint8"}:
        by_flow = {"int8": Precision.INT8, "uint8": Precision.INT8, "int16": Precision.INT16X8}
        return by_flow.get(flowing, Precision.INT8_DYNAMIC)
    return {"float16": Precision.FP16, "int4": Precision.INT4}.get(most)


class _Table:
    """A table of a flatbuffer, at the place that the offset stored at `reference` points to."""

    def __init__(self, content: bytes, reference: int) -> None:
        self._content = content
        self._at = reference + self._read("<I", reference)
        self._index = self._at - self._read("<i", self._at)
        self._fields = (self._read("<H", self._index) - 4) // 2

    def number(self, field: int, form: str) -> int:
        place = self._place(field)
        return self._read(form, place) if place else 0

    def length(self, field: int) -> int:
        place = self._place(field)
        return self._read("<I", place + self._read("<I", place)) if place else 0

    def tables(self, field: int) -> list[int]:
        """Where the references to the tables of a vector are."""
        return self._entries(field)

    def numbers(self, field: int) -> list[int]:
        return [self._read("<i", place) for place in self._entries(field)]

    def _entries(self, field: int) -> list[int]:
        place = self._place(field)
        if not place:
            return []
        vector = place + self._read("<I", place)
        return [vector + 4 + 4 * index for index in range(self._read("<I", vector))]

    def _place(self, field: int) -> int:
        offset = self._read("<H", self._index + 4 + 2 * field) if field < self._fields else 0
        return self._at + offset if offset else 0

    def _read(self, form: str, place: int) -> int:
        return int(struct.unpack_from(form, self._content, place)[0])


def read_safetensors(path: Path) -> Header:
    """Read the header of a safetensors file.

    Raises:
        ValueError: It is none.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > 100_000_000:
            raise ValueError(f"a header of {length} bytes")
        entries = json.loads(stream.read(length))
    header = Header()
    for name, entry in entries.items():
        if name != "__metadata__":
            kind = _SAFETENSORS_TYPES.get(entry["dtype"], "float32")
            header.by_type[kind] = header.by_type.get(kind, 0) + prod(entry["shape"])
    header.wide = by_weights({name: len(one["shape"]) for name, one in entries.items() if "shape" in one})
    return header
