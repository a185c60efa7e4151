"""The v2 protocol: what is refused, and in which words; what stands on the wire, byte by byte."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.errors import EngineError, InputError, RemoteError, TooLargeError
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.protocol import v2
from edge_runtime.protocol.limits import Limits

INPUTS = (TensorSpec("x", "float32", (None, 2)),)
OUTPUTS = (TensorSpec("y", "float32", (None, 2)), TensorSpec("z", "int64", (1,)))
GOOD: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}


def body(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def decode(content: bytes, length: int | None = None, limits: Limits | None = None) -> v2.InferRequest:
    return v2.decode_request(content, length, inputs=INPUTS, outputs=OUTPUTS, limits=limits or Limits())


def binary(raw: bytes, **change: Any) -> tuple[bytes, int]:
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": len(raw)}}
    head = body(entry | change)
    return head + raw, len(head)


def x(**change: Any) -> bytes:
    return body({key: value for key, value in (GOOD | change).items() if value is not ...})


RAW = np.float32([1, 2]).tobytes()

WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "no json": ((b"{",), "strict JSON"),
    "nothing": ((b"",), "strict JSON"),
    "an array": ((b"[1]",), "a JSON object"),
    "no utf-8": ((b'{"inputs": "\xff"}',), "UTF-8"),
    "nan in json": ((x().replace(b"2.5", b"NaN"),), "strict JSON"),
    "infinity in json": ((x().replace(b"2.5", b"-Infinity"),), "strict JSON"),
    "a number over every float": ((x().replace(b"2.5", b"1e999"),), "strict JSON"),
    "a depth bomb": ((b"[" * 5000,), "strict JSON"),
    "a deep document": ((b'{"inputs":' + b"[" * 2000 + b"]" * 2000 + b"}",), "strict JSON"),
    "no inputs": ((b"{}",), "an array of tensors"),
    "inputs of another kind": ((b'{"inputs": 3}',), "an array of tensors"),
    "an input that is no object": ((body(3),), "objects with a name"),
    "an input without a name": ((x(name=...),), "a text"),
    "an empty name": ((x(name=""),), "1 to 256 characters"),
    "no input at all": ((body(),), "x"),
    "another name": ((x(name="w"),), "x"),
    "one too many": ((body(GOOD, GOOD | {"name": "w"}),), "x"),
    "the same twice": ((body(GOOD, GOOD),), "every tensor once"),
    "another datatype": ((x(datatype="INT32", data=[1, 2]),), "FP32 (?, 2)"),
    "no datatype": ((x(datatype=...),), "one of BOOL"),
    "a datatype nobody knows": ((x(datatype="FP31"),), "one of BOOL"),
    "a datatype that is an object": ((x(datatype={}),), "one of BOOL"),
    "bf16": ((x(datatype="BF16"),), "a datatype that NumPy has"),
    "another shape": ((x(shape=[2, 1]),), "FP32 (?, 2)"),
    "another rank": ((x(shape=[2]),), "FP32 (?, 2)"),
    "no shape": ((x(shape=...),), "an array of lengths"),
    "a negative length": ((x(shape=[-1, 2]),), "whole numbers from 0 on"),
    "a length that is true": ((x(shape=[True, 2]),), "whole numbers from 0 on"),
    "a length with a point": ((x(shape=[1.0, 2]),), "whole numbers from 0 on"),
    "too many axes": ((x(shape=[1] * 40),), "at most 32 axes"),
    "too few elements": ((x(data=[1]),), "2 for (1, 2)"),
    "too many elements": ((x(data=[1, 2, 3]),), "2 for (1, 2)"),
    "nested otherwise": ((x(data=[[1], [2]]),), "nested as (1, 2)"),
    "ragged": ((x(shape=[2, 2], data=[[1, 2], [3]]),), "nested as (2, 2)"),
    "nested too deep": ((x(data=[[[1], [2]]]),), "numbers (FP32)"),
    "no data": ((x(data=...),), "'data', or 'binary_data_size' and bytes"),
    "data that is a number": ((x(data=3),), "an array"),
    "texts for numbers": ((x(data=["1", "2"]),), "numbers (FP32)"),
    "true for a number": ((x(data=[True, 2]),), "numbers (FP32)"),
    "null for a number": ((x(data=[None, 2]),), "numbers (FP32)"),
    "a number over float32": ((x(data=[1, 1e39]),), "numbers that fit FP32"),
    "a whole number over float32": ((x(data=[1, 10**300]),), "FP32"),
    "nan in binary": (binary(np.float32([1, np.nan]).tobytes()), "numbers"),
    "infinity in binary": (binary(np.float32([np.inf, 1]).tobytes()), "numbers"),
    "binary cut off": ((binary(RAW)[0][:-1], binary(RAW)[1]), "8 bytes"),
    "bytes after the binary": ((binary(RAW)[0] + b"!", binary(RAW)[1]), "8 bytes, as the tensors say"),
    "bytes that nobody mentions": ((x() + b"!!", len(x())), "0 bytes, as the tensors say"),
    "a size that is not the shape's": (binary(RAW[:4]), "8 bytes for FP32 (1, 2)"),
    "a negative size": (binary(RAW, parameters={"binary_data_size": -8}), "8 bytes for FP32 (1, 2)"),
    "a size that is a text": (binary(RAW, parameters={"binary_data_size": "8"}), "a whole number"),
    "binary and data": (binary(RAW, data=[1, 2]), "'data' or 'binary_data_size'"),
    "a header over the body": ((x(), 10_000), "the body's bytes"),
    "a negative header": ((x(), -1), "the body's bytes"),
    "shared memory": ((x(data=..., parameters={"shared_memory_region": "r"}),), "none of that name"),
    "a stateful sequence": ((body(GOOD, parameters={"sequence_id": 3}),), "none of that name"),
    "parameters that are an array": ((body(GOOD, parameters=[]),), "an object"),
    "a parameter that is an array": ((body(GOOD, parameters={"k": []}),), "a text, a number, true or false"),
    "a priority that is a text": ((body(GOOD, parameters={"priority": "high"}),), "a whole number"),
    "a timeout that is a text": ((body(GOOD, parameters={"timeout": "1s"}),), "microseconds"),
    "a timeout that is negative": ((body(GOOD, parameters={"timeout": -1}),), "microseconds"),
    "binary output that is a number": ((body(GOOD, parameters={"binary_data_output": 1}),), "true or false"),
    "an id that is a number": ((body(GOOD, id=3),), "a text"),
    "outputs that are an object": ((body(GOOD, outputs={}),), "an array of outputs"),
    "an output nobody gives": ((body(GOOD, outputs=[{"name": "w"}]),), "y, z"),
    "an output twice": ((body(GOOD, outputs=[{"name": "y"}] * 2),), "every output once"),
    "an output that is a text": ((body(GOOD, outputs=["y"]),), "objects with a name"),
    "an output's form that is a text": (
        (body(GOOD, outputs=[{"name": "y", "parameters": {"binary_data": "no"}}]),),
        "true or false",
    ),
    "classification": (
        (body(GOOD, outputs=[{"name": "y", "parameters": {"classification": 3}}]),),
        "none of that name",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_what_was_expected(case: str) -> None:
    arguments, expected = WRONG[case]
    with pytest.raises(InputError) as caught:
        decode(*arguments)
    assert expected in (caught.value.expected or "")
    assert caught.value.got
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        (x(shape=[2**62, 2**62, 2**62]), Limits()),
        (x(shape=[0, 2**60]), Limits()),
        (x(shape=[3, 2], data=[1] * 6), Limits(elements=5)),
        (body(GOOD, GOOD | {"name": "w"}), Limits(elements=3)),
        (body(*[GOOD | {"name": str(i)} for i in range(5)]), Limits(tensors=4)),
        (x(), Limits(body_bytes=20)),
    ],
)
def test_too_much_is_too_large(content: bytes, limits: Limits) -> None:
    with pytest.raises(TooLargeError) as caught:
        decode(content, None, limits)
    assert "at most" in (caught.value.expected or "")
    assert caught.value.got


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("UINT8", [256], "UINT8 from 0 to 255"),
        ("UINT8", [-1], "UINT8 from 0 to 255"),
        ("INT8", [128], "INT8 from -128 to 127"),
        ("INT64", [2**63], "INT64 from"),
        ("UINT64", [-1], "UINT64 from 0"),
        ("INT32", [1.5], "whole numbers (INT32)"),
        ("INT32", [True], "whole numbers (INT32)"),
        ("BOOL", [1], "true or false (BOOL)"),
        ("BYTES", [1], "texts (BYTES)"),
        ("FP16", [70000], "numbers that fit FP16"),
    ],
)
def test_values_outside_a_datatype(datatype: str, data: list[Any], expected: str) -> None:
    entry = {"name": "x", "datatype": datatype, "shape": [1], "data": data}
    with pytest.raises(InputError) as caught:
        v2.decode_request(body(entry), None)
    assert expected in (caught.value.expected or "")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (struct.pack("<I", 3) + b"ab", "text 0 and its length whole"),
        (struct.pack("<I", 2**32 - 1) + b"ab", "text 0 and its length whole"),
        (struct.pack("<I", 1) + b"a" + b"xx", "5 bytes for 1 texts"),
        (b"\x01\x00", "1 texts, each behind 4 bytes of length"),
        (struct.pack("<I", 2) + b"\xc3\x28", "UTF-8"),
    ],
)
def test_texts_in_binary(raw: bytes, expected: str) -> None:
    content, length = binary(raw, datatype="BYTES", shape=[1])
    with pytest.raises(InputError) as caught:
        v2.decode_request(content, length)
    assert expected in (caught.value.expected or "")
    assert caught.value.got


def test_a_bool_is_0_or_1() -> None:
    content, length = binary(b"\x00\x07", datatype="BOOL", shape=[2])
    with pytest.raises(InputError, match="bytes 0 and 1, got 7"):
        v2.decode_request(content, length)


def test_tables_may_have_missing_values_where_they_are_allowed() -> None:
    content, length = binary(np.float32([1, np.nan]).tobytes())
    assert np.isnan(decode(content, length, Limits(infinite=True)).tensors["x"][0, 1])


def test_numbers_are_views_of_the_body() -> None:
    sent = v2.encode_request({"x": np.float32([[1, 2]])})
    array = v2.decode_request(*sent).tensors["x"]
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize("value", [b"-1", b"+1", "٣".encode(), b"1.5", b"", b"11", b"9" * 30])
def test_the_header_of_the_length(value: bytes) -> None:
    with pytest.raises(InputError, match="0 to 10, the body's bytes"):
        v2.header_length_of(value.decode("latin-1"), 10)


def test_the_wire_of_an_answer() -> None:
    """As Triton's documentation of the extension shows it."""
    tensors = {"y": np.int8([[1, -1]]), "z": np.array(["é"], object), "n": np.float32([0.5])}
    found = v2.encode_response(tensors, model="m", version="1", wanted=v2.Wanted(None, True, {"n": False}))
    assert found.header_length is not None
    assert json.loads(found.body[: found.header_length]) == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": "y", "datatype": "INT8", "shape": [1, 2], "parameters": {"binary_data_size": 2}},
            {"name": "z", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
            {"name": "n", "datatype": "FP32", "shape": [1], "data": [0.5]},
        ],
    }
    assert found.body[found.header_length :] == b"\x01\xff" + b"\x02\x00\x00\x00\xc3\xa9"


def test_nan_has_no_form_in_json_but_one_in_binary() -> None:
    nan = {"y": np.float32([np.nan])}
    with pytest.raises(EngineError, match="Ask for it as binary data"):
        v2.encode_response(nan, model="m", version="1")
    sent = v2.encode_response(nan, model="m", version="1", wanted=v2.Wanted(binary=True))
    assert np.isnan(v2.decode_response(*sent).tensors["y"]).all()


def test_a_dtype_without_a_name() -> None:
    with pytest.raises(EngineError, match="complex64"):
        v2.encode_response({"y": np.complex64([1])}, model="m", version="1")


@pytest.mark.parametrize("content", [b"<html>", b"{}", b'{"outputs": [{"name": "y"}]}', b'{"outputs": 1}'])
def test_an_answer_of_something_else(content: bytes) -> None:
    with pytest.raises(RemoteError, match="the server's answer") as caught:
        v2.decode_response(content, None)
    assert not caught.value.retryable
