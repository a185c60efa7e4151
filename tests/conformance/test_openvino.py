"""What only OpenVINO has: folders of IR, reduced precision, and a library that would call home."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import Graph, Node, Value, layer, to_onnx

from edge_runtime.contract.errors import BundleError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.openvino import _properties
from edge_runtime.engines.registry import load_engine

pytestmark = pytest.mark.skipif(
    load_engine("openvino").available() is not None, reason="openvino is not installed"
)

# Runs in a child: tells every attempt to reach a network, from before openvino is imported until after a run.
WATCH = """
import sys
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.gethostbyname"):
        print("NETWORK", event, arguments, flush=True)
sys.addaudithook(watch)
import pathlib, time
import numpy as np
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.openvino import _properties
from edge_runtime.engines.registry import load_engine
session = load_engine("openvino").open(pathlib.Path(sys.argv[1]), options=EngineOptions())
session.run({"x": np.zeros((4, 16), np.float32)})
session.close()
from openvino.tools import ovc
print("TELEMETRY", type(ovc.telemetry).__module__)
"""

LONG_SUM = Graph(
    {"x": Value("float32", (1, 100_000)), "y": Value("float32", (1, 100_000))},
    ("x",),
    ("y",),
    [Node("Add", ("x", "c"), "y")],
    {"c": np.arange(100_000, dtype=np.float32)[None]},
)
"""Its constant is long enough to stay where it was read, or mapped."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(to_onnx(layer(rows=4)).SerializeToString())
    return file


def test_nothing_is_reported_over_the_network(model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(model)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stdout
    assert done.stdout.split() == ["TELEMETRY", "openvino.tools.ovc.telemetry_stub"]


def test_a_folder_has_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "ir"
    folder.mkdir()
    with pytest.raises(BundleError, match=r"one \.xml.*0 \.xml"):
        load_engine("openvino").open(folder, options=EngineOptions())
    (folder / "a.xml").write_text("<net/>")
    (folder / "b.xml").write_text("<net/>")
    with pytest.raises(BundleError, match=r"2 \.xml"):
        load_engine("openvino").open(folder, options=EngineOptions())


def test_float32_is_not_rounded_unless_it_may_be(model: Path) -> None:
    x = np.random.default_rng(3).normal(size=(4, 16)).astype(np.float32)
    weights = layer(rows=4).constants["w"]
    wanted = np.maximum(x.astype(np.float64) @ weights, 0)
    engine = load_engine("openvino")
    exact = engine.open(model, options=EngineOptions())
    rough = engine.open(model, options=EngineOptions(half_precision=True))
    np.testing.assert_allclose(exact.run({"x": x})["y"], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rough.run({"x": x})["y"], wanted, rtol=0.1, atol=0.1)
    exact.close()
    rough.close()


def test_callers_at_the_same_time_do_not_wait_for_each_other() -> None:
    properties = _properties("CPU", EngineOptions(threads=2, callers=3))
    assert properties["NUM_STREAMS"] == 3
    assert properties["INFERENCE_NUM_THREADS"] == 6
    assert properties["ENABLE_CPU_PINNING"] is False


def test_compiled_models_are_kept_where_asked(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    load_engine("openvino").open(model, options=EngineOptions(cache=folder)).close()
    assert list(folder.iterdir())


def test_a_file_replaced_on_disk_does_not_change_the_model(model: Path, tmp_path: Path) -> None:
    import openvino

    model.write_bytes(to_onnx(LONG_SUM).SerializeToString())
    openvino.save_model(openvino.Core().read_model(model), tmp_path / "m.xml", compress_to_fp16=False)
    session = load_engine("openvino").open(tmp_path / "m.xml", options=EngineOptions())
    x = {"x": np.zeros((1, 100_000), np.float32)}
    before = session.run(x)["y"]
    (tmp_path / "m.bin").write_bytes(b"\0" * (tmp_path / "m.bin").stat().st_size)
    np.testing.assert_array_equal(session.run(x)["y"], before)
    session.close()
