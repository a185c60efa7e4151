"""What only ONNX Runtime has: providers that load and take nothing, and outputs that are no tensors."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import PAIR, to_onnx
from onnx import TensorProto, helper

from edge_runtime.contract.errors import BundleError, EngineError, InputError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine

pytestmark = pytest.mark.skipif(
    load_engine("onnxruntime").available() is not None, reason="onnxruntime is not installed"
)
IDLE = "AzureExecutionProvider"
"""In every wheel for the CPU; loads, and takes no ordinary operation."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(to_onnx(PAIR).SerializeToString())
    return file


def test_a_provider_that_takes_no_part_is_no_provider(model: Path) -> None:
    engine = load_engine("onnxruntime")
    if IDLE not in engine.providers():
        pytest.skip(f"this build has no {IDLE}")
    with pytest.raises(EngineError, match="would run on the CPU"):
        engine.open(model, options=EngineOptions(providers=(IDLE,)))
    session = engine.open(model, options=EngineOptions(providers=(IDLE,), allow_fallback=True))
    assert session.provider == "CPUExecutionProvider"
    session.close()


def test_an_absent_provider_says_what_there_is(model: Path) -> None:
    engine = load_engine("onnxruntime")
    if "CUDAExecutionProvider" in engine.providers():
        pytest.skip("this build has CUDA")
    with pytest.raises(EngineError, match=r"CPUExecutionProvider.*edge-runtime\[onnx-gpu\]"):
        engine.open(model, options=EngineOptions(providers=("CUDAExecutionProvider",)))


def test_the_cpu_named_last_is_no_silent_fallback(model: Path) -> None:
    engine = load_engine("onnxruntime")
    session = engine.open(model, options=EngineOptions(providers=("Moonbeam", "CPUExecutionProvider")))
    assert session.provider == "CPUExecutionProvider"
    session.close()


def test_an_output_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = tmp_path / "sequence.onnx"
    onnx.save(model, file)
    with pytest.raises(BundleError, match=r"'y'.*seq"):
        load_engine("onnxruntime").open(file, options=EngineOptions())


@pytest.fixture
def lookup(tmp_path: Path) -> Path:
    """Looks ids up in a table of five rows, and adds three places and a mask to them."""
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("ids", "mask")
    )
    y = helper.make_tensor_value_info("y", TensorProto.INT64, None)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["found"]),
        helper.make_node("Add", ["found", "places"], ["placed"]),
        helper.make_node("Add", ["placed", "mask"], ["y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.arange(5), "table"),
        onnx.numpy_helper.from_array(np.arange(3), "places"),
    ]
    graph = helper.make_graph(nodes, "lookup", [ids, mask], [y], constants)
    file = tmp_path / "lookup.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@pytest.mark.parametrize(
    ("ids", "mask", "said"),
    [
        ((1, 3), (1, 2), "one length of 'length' in ids, mask, got ids (1, 3), mask (1, 2)"),
        ((2, 3), (1, 3), "one length of 'batch' in ids, mask, got ids (2, 3), mask (1, 3)"),
        ((1, 7), (1, 7), "got Attempting to broadcast an axis by a dimension other than 1"),
        ((1, 0), (1, 0), "got Can broadcast 0 by 0 or 1. 3 is invalid."),
    ],
)
def test_lengths_that_do_not_fit_are_the_callers_fault(
    lookup: Path, ids: tuple[int, int], mask: tuple[int, int], said: str
) -> None:
    session = load_engine("onnxruntime").open(lookup, options=EngineOptions())
    with pytest.raises(InputError) as told:
        session.run({"ids": np.zeros(ids, np.int64), "mask": np.zeros(mask, np.int64)})
    assert said in str(told.value) and "/" not in str(told.value)
    session.close()


def test_an_id_beyond_the_table_is_the_callers_fault(lookup: Path) -> None:
    session = load_engine("onnxruntime").open(lookup, options=EngineOptions())
    ids = np.array([[1, 99, 2]])
    with pytest.raises(InputError, match="idx=99 must be within the inclusive range") as told:
        session.run({"ids": ids, "mask": ids})
    assert "/" not in str(told.value)
    cause = told.value.__cause__
    assert cause is not None and cause.__traceback__ is None  # or a kept error would keep the model
    np.testing.assert_array_equal(
        session.run({"ids": ids % 5, "mask": ids})["y"], ids % 5 + [[0, 1, 2]] + ids
    )
    session.close()


def test_a_closed_session_does_not_tell_where_its_file_is(lookup: Path) -> None:
    session = load_engine("onnxruntime").open(lookup, options=EngineOptions())
    session.close()
    with pytest.raises(EngineError, match=r"lookup\.onnx is closed") as told:
        session.run({})
    assert str(lookup.parent) not in str(told.value)
