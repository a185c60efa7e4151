"""A head that is known reads as one that is not: the same tensors and wishes, or the same error."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.protocol import v2
from edge_runtime.protocol.v2_heads import Heads

INPUTS = (TensorSpec("x", "float32", (None, 2)), TensorSpec("n", "int64", (None,)))
OUTPUTS = (TensorSpec("y", "float32", (None, 2)),)


def read(reader: Any, body: bytes, length: int | None) -> object:
    try:
        got = reader(body, length, inputs=INPUTS, outputs=OUTPUTS)
    except EdgeRuntimeError as error:
        return type(error), str(error)
    tensors = {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in got.tensors.items()}
    return got.id, tensors, got.wanted.names, got.parameters, got.priority, got.timeout_s


@st.composite
def asked(draw: st.DrawFn) -> tuple[bytes, int | None]:
    rows = draw(st.integers(0, 3))
    floats = st.floats(width=32, allow_nan=True)
    x = np.array(draw(st.lists(floats, min_size=2 * rows, max_size=2 * rows)), np.float32).reshape(rows, 2)
    n = np.arange(draw(st.sampled_from([rows, 1])), dtype=np.int64)
    said = v2.encode_request(
        {"x": x, "n": n},
        outputs=draw(st.sampled_from([None, ["y"], ["z"]])),
        id=draw(st.sampled_from(["", "a"])),
        parameters=draw(st.sampled_from([{}, {"own": 1}, {"timeout": 5}, {"timeout": -1}])),
        binary=True,
    )
    cut = draw(st.sampled_from([0, 0, 0, 1, 4]))
    body = said.body[: len(said.body) - cut] + draw(st.sampled_from([b"", b"", b"\0\0\0\0"]))
    return body, said.header_length


@given(st.lists(asked(), min_size=1, max_size=12))
def test_known_heads_read_as_unknown_ones(requests: list[tuple[bytes, int | None]]) -> None:
    heads = Heads()
    for body, length in requests:
        for _ in range(2):
            assert read(heads.decode_request, body, length) == read(v2.decode_request, body, length)


def test_what_a_caller_does_with_its_parameters_is_its_own() -> None:
    heads = Heads()
    one = v2.encode_request(
        {"x": np.ones((1, 2), np.float32), "n": np.zeros(1, np.int64)}, parameters={"a": 1}
    )
    for _ in range(3):
        got = heads.decode_request(one.body, one.header_length, inputs=INPUTS, outputs=OUTPUTS)
        assert got.parameters == {"a": 1}
        dict(got.parameters).pop("a")
        assert isinstance(got.parameters, dict)
        got.parameters.clear()
