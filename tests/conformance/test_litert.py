"""What only LiteRT has: quantization, the delegate that takes a graph or not, interpreters of one caller."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from graphs import PICTURE, Graph, Node, Value, cast_graph, layer, to_tflite

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Quantization
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.litert import LiteRtSession
from edge_runtime.engines.registry import load_engine

pytestmark = pytest.mark.skipif(
    load_engine("litert").available() is not None, reason="litert is not installed"
)

QUANTIZED = Graph(
    {"x": Value("int8", (1, 4)), "y": Value("int8", (1, 4))}, ("x",), ("y",), [Node("Relu", ("x",), "y")]
)


def open_bytes(folder: Path, content: bytes, **options: object) -> LiteRtSession:
    file = folder / "model.tflite"
    file.write_bytes(content)
    session = load_engine("litert").open(file, options=EngineOptions(**options))  # type: ignore[arg-type]
    assert isinstance(session, LiteRtSession)
    return session


def test_quantization_is_told(tmp_path: Path) -> None:
    scales = {"x": (0.5, -3), "y": (0.5, -3)}
    session = open_bytes(tmp_path, to_tflite(QUANTIZED, scales))
    assert session.inputs[0].quantization == Quantization((0.5,), (-3,))
    assert session.outputs[0].quantization == Quantization((0.5,), (-3,))
    x = np.array([[-128, -4, -3, 127]], np.int8)
    # Zero is stored as -3, so everything below becomes -3.
    assert session.run({"x": x})["y"].tolist() == [[-3, -3, -3, 127]]
    session.close()


def test_a_tensor_without_quantization_has_none(tmp_path: Path) -> None:
    session = open_bytes(tmp_path, to_tflite(PICTURE))
    assert session.inputs[0].quantization is None
    session.close()


def test_the_delegate_that_takes_nothing_is_not_reported(tmp_path: Path) -> None:
    content = to_tflite(cast_graph("int32", "int64"))  # XNNPACK has no such cast
    assert open_bytes(tmp_path, content).provider == "CPU"
    with pytest.raises(EngineError, match="XNNPACK takes no part"):
        open_bytes(tmp_path, content, providers=("XNNPACK",))
    assert open_bytes(tmp_path, content, providers=("XNNPACK",), allow_fallback=True).provider == "CPU"


def test_the_builtin_kernels_can_be_asked_for(tmp_path: Path) -> None:
    content = to_tflite(layer(rows=4))
    assert open_bytes(tmp_path, content).provider == "XNNPACK"
    assert open_bytes(tmp_path, content, providers=("CPU",)).provider == "CPU"


def test_there_are_no_more_interpreters_than_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import interpreter as vendor

    made: list[object] = []
    original = vendor.Interpreter.__init__

    def counting(self: object, *args: object, **kwargs: object) -> None:
        made.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(vendor.Interpreter, "__init__", counting)
    session, start = open_bytes(tmp_path, to_tflite(layer(rows=4))), threading.Barrier(3)
    inputs = {"x": np.ones((4, 16), np.float32)}

    def work() -> None:
        start.wait(timeout=30)
        for _ in range(200):
            session.run(inputs)

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(work) for _ in range(3)]:
            done.result(timeout=60)
    assert 1 <= len(made) <= 3
    session.close()


def test_a_file_replaced_on_disk_does_not_change_the_model(tmp_path: Path) -> None:
    session = open_bytes(tmp_path, to_tflite(layer(rows=4)))
    inputs = {"x": np.ones((4, 16), np.float32)}
    before = session.run(inputs)["y"]
    (tmp_path / "model.tflite").write_bytes(b"")
    together = threading.Barrier(2)

    def work() -> np.ndarray:
        together.wait(timeout=30)
        for _ in range(50):
            answer = session.run(inputs)["y"]
        return answer

    with ThreadPoolExecutor(2) as threads:  # the second caller's interpreter is made now
        for answer in [threads.submit(work) for _ in range(2)]:
            np.testing.assert_array_equal(answer.result(timeout=30), before)
    session.close()


def test_another_file_with_the_right_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="TFL3"):
        open_bytes(tmp_path, b"PK\x03\x04" + b"\0" * 64)
