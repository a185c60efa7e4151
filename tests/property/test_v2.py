"""Every tensor survives the wire in every form, and no body but a right one is anything but an InputError."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge_runtime.contract.errors import InputError, RemoteError
from edge_runtime.contract.wire import V2_DATATYPES
from edge_runtime.protocol import json_document, v2
from edge_runtime.protocol.v2 import Wanted

NUMBERS = [name for name in V2_DATATYPES if name != "str"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray:
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    kind = draw(st.sampled_from([*NUMBERS, "str"]))
    if kind == "str":
        array = np.empty(math.prod(shape), object)
        array[:] = draw(st.lists(TEXT, min_size=math.prod(shape), max_size=math.prod(shape)))
        return array.reshape(shape)
    if kind.startswith("float"):
        return draw(npst.arrays(kind, shape, elements={"allow_nan": False, "allow_infinity": False}))
    return draw(npst.arrays(kind, shape))


def same(found: np.ndarray, sent: np.ndarray) -> bool:
    return found.dtype == sent.dtype and found.shape == sent.shape and found.tolist() == sent.tolist()


@given(st.dictionaries(st.sampled_from("abcde"), tensors(), min_size=1), st.booleans(), st.data())
def test_a_request_arrives_as_it_was_sent(
    given: dict[str, np.ndarray], binary: bool, data: st.DataObject
) -> None:
    """Views, strides and bytes on odd addresses included."""
    strided = {
        name: array[::-1] if array.ndim and data.draw(st.booleans()) else array
        for name, array in given.items()
    }
    sent = v2.encode_request(
        strided, outputs=["y"], id="7", parameters={"k": 1.5}, priority=2, timeout_s=0.25, binary=binary
    )
    found = v2.decode_request(*sent)
    assert list(found.tensors) == list(strided)
    assert all(same(found.tensors[name], array) for name, array in strided.items())
    assert (found.id, found.parameters, found.priority, found.timeout_s) == ("7", {"k": 1.5}, 2, 0.25)
    assert found.wanted == Wanted(("y",), binary)
    assert all(array.flags.aligned for array in found.tensors.values())


@given(st.dictionaries(st.sampled_from("abcde"), tensors()), st.sets(st.sampled_from("abcde")), st.booleans())
def test_an_answer_arrives_as_it_was_sent(given: dict[str, np.ndarray], named: set[str], usual: bool) -> None:
    """Every mix of outputs in JSON and in binary."""
    wanted = Wanted(None, usual, dict.fromkeys(named, not usual))
    sent = v2.encode_response(
        given, model="m", version="3", id="a", parameters={"route": "local"}, wanted=wanted
    )
    found = v2.decode_response(*sent)
    assert all(same(found.tensors[name], array) for name, array in given.items())
    assert (found.id, found.model, found.version, found.parameters) == ("a", "m", "3", {"route": "local"})
    assert (sent.header_length is None) == (not any(wanted.is_binary(name) for name in given))


@given(tensors())
def test_nested_arrays_are_the_same_as_flat_ones(array: np.ndarray) -> None:
    if array.ndim == 0:
        return
    nested = {"name": "x", "datatype": v2_name(array), "shape": list(array.shape), "data": array.tolist()}
    body = json.dumps({"inputs": [nested]}).encode()
    assert same(v2.decode_request(body, None).tensors["x"], array)


def v2_name(array: np.ndarray) -> str:
    return "BYTES" if array.dtype == object else V2_DATATYPES[array.dtype.name]


SAMPLE = v2.encode_request(
    {
        "ids": np.arange(6, dtype=np.int64).reshape(2, 3),
        "mask": np.ones((2, 3), bool),
        "text": np.array(["naïve", "café"], object),
        "x": np.linspace(0, 1, 5, dtype=np.float32),
    },
    outputs=["y"],
    id="a",
    parameters={"k": "v"},
)
IN_JSON = v2.encode_request({"x": np.float32([[1, 2], [3, 4]]), "t": np.array(["é"], object)}, binary=False)


@given(st.data(), st.sampled_from([SAMPLE, IN_JSON]))
def test_what_is_cut_off_is_an_input_error(data: st.DataObject, sent: v2.Encoded) -> None:
    length = data.draw(st.integers(0, len(sent.body) - 1))
    with pytest.raises(InputError) as caught:
        v2.decode_request(sent.body[:length], sent.header_length)
    assert caught.value.expected
    assert caught.value.got


@given(st.data(), st.sampled_from([SAMPLE, IN_JSON]))
def test_damage_is_an_input_error_or_other_tensors(data: st.DataObject, sent: v2.Encoded) -> None:
    body = bytearray(sent.body)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(body) - 1))
        how = data.draw(st.sampled_from(["set", "insert", "delete"]))
        if how == "delete":
            del body[place : place + data.draw(st.integers(1, 9))]
        elif how == "insert":
            body[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            body[place] = data.draw(st.integers(0, 255))
        if not body:
            break
    header = data.draw(st.one_of(st.just(sent.header_length), st.none(), st.integers(-3, len(body) + 3)))
    try:
        found = v2.decode_request(bytes(body), header)
    except InputError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.tensors.values())


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
KEYS = ("id", "inputs", "outputs", "parameters", "name", "shape", "datatype", "data", "binary_data_size")


@given(
    st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.one_of(st.sampled_from("xy"), JSON),
                        "datatype": st.one_of(st.sampled_from([*V2_DATATYPES.values(), "BF16"]), JSON),
                        "shape": st.one_of(st.lists(st.integers(-1, 2**70), max_size=3), JSON),
                    },
                    optional={
                        "data": st.one_of(st.lists(st.integers(), max_size=4), JSON),
                        "parameters": st.one_of(st.just({"binary_data_size": 8}), JSON),
                    },
                )
            )
        },
        optional={"id": JSON, "parameters": JSON, "outputs": JSON},
    ),
    st.binary(max_size=16),
)
def test_any_document_is_read_or_an_input_error(document: dict[str, Any], tail: bytes) -> None:
    head = json.dumps(document).encode()
    try:
        v2.decode_request(head + tail, len(head))
    except InputError:
        return


@given(JSON)
def test_any_answer_is_read_or_a_remote_error(document: Any) -> None:
    try:
        v2.decode_response(json.dumps(document).encode(), None)
    except RemoteError as error:
        assert error.expected


@given(st.one_of(JSON.map(lambda value: json.dumps(value, allow_nan=True).encode()), st.binary(max_size=40)))
def test_both_json_libraries_refuse_and_read_the_same(body: bytes) -> None:
    def outcome(parse: Any) -> Any:
        try:
            return parse(body)
        except (InputError, ValueError, RecursionError):
            return "refused"

    plain = outcome(json_document.parse_plainly)
    if not has_long_number(plain):
        assert outcome(json_document.read) == plain


@given(JSON)
def test_both_json_libraries_write_what_reads_the_same(value: Any) -> None:
    if not has_long_number(value):
        assert json_document.read(json_document.write_plainly(value)) == value
        assert json_document.read(json_document.write(value)) == value


def has_long_number(value: Any) -> bool:
    """Whole numbers over 64 bits are floats to orjson; no datatype takes either."""
    if isinstance(value, dict):
        return any(map(has_long_number, value.values()))
    if isinstance(value, list):
        return any(map(has_long_number, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**64
