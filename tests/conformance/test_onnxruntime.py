"""What only ONNX Runtime has: providers that load and take nothing, and outputs that are no tensors."""

from pathlib import Path

import onnx
import pytest
from graphs import PAIR, to_onnx
from onnx import TensorProto, helper

from edge_runtime.contract.errors import BundleError, EngineError
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
