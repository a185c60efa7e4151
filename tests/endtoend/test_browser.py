"""Variants for browsers in a real Chromium: the numbers of a device, receipts, and files that changed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from converters.browser import session as web
from converters.browser.manifest import LOADER, MANIFEST, WebManifest
from converters.browser.pack import pack
from converters.browser.session import WebSession, missing
from converters.bundle.writer import BuiltVariant, write
from converters.quantize import onnx_int4
from converters.quantize.onnx_ranges import open_session
from converters.verify.runners import BROWSERS, runners
from device_profiles.loader import load_profile
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Format, Precision, Receipt
from edge_runtime.contract.errors import BundleError, ConfigError, EngineError, InputError, StorageError
from edge_runtime.contract.task import TaskSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.likeness import cosine
from tests.conformance.graphs import PAIR, cast_graph, layer, to_onnx, to_tflite
from tests.unit import quantize_nets as nets
from tests.unit.test_verify_receipts import LABELS, Bench, table, table_model

pytestmark = pytest.mark.browser
TASK: dict[str, Any] = {"kind": "tensors", "labels": LABELS}
ENGINES = {"onnxruntime-web": (Format.ONNX, "onnxruntime"), "litertjs": (Format.TFLITE, "litert")}


@pytest.fixture(scope="module", autouse=True)
def browser() -> None:
    why = missing("litertjs")
    if why:
        pytest.skip(why)


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    """A classifier of three numbers, as ONNX and as TFLite; the first was seen to work in a browser."""
    steps = tmp_path / "steps"
    variants: list[BuiltVariant] = []
    for kind, content in ((Format.ONNX, table_model()), (Format.TFLITE, to_tflite(table()))):
        folder = steps / kind
        folder.mkdir(parents=True)
        (folder / f"model.{kind}").write_bytes(content)
        variants.append(BuiltVariant(f"{kind}-fp32", kind, Precision.FP32, folder, ("browser-wasm",)))
    receipt = Receipt(
        variant="onnx-fp32", engine="onnxruntime-web", machine="a desk", measured_at="2026-01-01T00:00:00Z"
    )
    return write(
        tmp_path / "bundle",
        name="shop",
        version="1.2.3",
        licence="Apache-2.0",
        source="made for a test",
        task=TypeAdapter[TaskSpec](TaskSpec).validate_python(TASK),
        variants=variants,
        receipts=[receipt],
    )


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def opened() -> Iterator[list[WebSession]]:
    """Sessions to close after the test."""
    sessions: list[WebSession] = []
    yield sessions
    for session in sessions:
        session.close()


def test_a_page_gives_the_numbers_of_a_device(engine: str, tmp_path: Path, opened: list[WebSession]) -> None:
    kind, host = ENGINES[engine]
    model = tmp_path / f"model.{kind}"
    model.write_bytes(to_onnx(PAIR).SerializeToString() if kind is Format.ONNX else to_tflite(PAIR))
    session = {"onnxruntime-web": web.open_onnx, "litertjs": web.open_litert}[engine](model)
    opened.append(session)
    device = load_engine(host).open(model, options=EngineOptions())
    assert (session.inputs, session.outputs) == (device.inputs, device.outputs)
    dice = np.random.default_rng(0)
    for _ in range(3):
        given = {name: dice.normal(size=(2, 5)).astype(np.float32) for name in ("left", "right")}
        mine, theirs = session.run(given), device.run(given)
        for name in ("sum", "product"):
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-6)
    assert len(session.times_ms(given, 4)) == 4
    with pytest.raises(InputError, match="input 'left'"):
        session.run({**given, "left": np.zeros((2, 4), np.float32)})
    session.close()
    session.close()
    device.close()
    with pytest.raises(EngineError, match="closed"):
        session.run(given)


def test_open_axes_and_a_page_that_crashes(tmp_path: Path, opened: list[WebSession]) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(to_onnx(layer(None)).SerializeToString())
    opened.append(web.open_onnx(model))
    for rows in (1, 3):
        assert opened[0].run({"x": np.ones((rows, 16), np.float32)})["y"].shape == (rows, 8)
    opened[0]._page._browser.kill()
    with pytest.raises(EngineError, match="page crashed"):
        opened[0].run({"x": np.zeros((1, 16), np.float32)})


def test_receipts_of_a_browser(engine: str, tmp_path: Path) -> None:
    kind, _ = ENGINES[engine]
    bench = Bench(tmp_path)
    bench.model("source", table_model())
    bench.samples(TASK, [0, 1, 2, 0], x=np.random.default_rng(0).random((4, 3), np.float32))
    content = table_model() if kind is Format.ONNX else to_tflite(table())
    model = bench.model("model", content, kind)
    twin = model if kind is Format.ONNX else None
    (receipt,), facts = bench.measure(model, task=TASK, format=str(kind), engines=[engine], fp32=twin)
    assert facts["not_verified"] == []
    assert receipt.engine == engine
    assert receipt.machine.endswith("WASM, 1 thread")
    assert "Chrom" in receipt.machine
    assert receipt.parity["cosine.y"] == pytest.approx(1)
    assert receipt.parity["agreement.top1"] == 1
    assert receipt.latency is not None
    assert (receipt.latency.times_fp32 is None) == (twin is None)
    assert receipt.peak_memory_bytes is None or receipt.peak_memory_bytes > 0


def test_a_browser_that_used_up_its_time_is_compared_with_fewer_samples(engine: str, tmp_path: Path) -> None:
    kind, _ = ENGINES[engine]
    bench = Bench(tmp_path)
    bench.model("source", table_model())
    bench.samples(TASK, [0, 1, 2, 0], x=np.random.default_rng(0).random((4, 3), np.float32))
    model = bench.model("model", table_model() if kind is Format.ONNX else to_tflite(table()), kind)
    (receipt,), facts = bench.measure(
        model, task=TASK, format=str(kind), engines=[engine], browser_seconds=1e-9
    )
    assert receipt.parity["samples"] == 1
    assert receipt.latency is None
    assert set(receipt.accuracy) >= {"top1", "source.top1"}
    (warning,) = facts["warnings"]
    assert warning.startswith(f"{engine}: its 1e-09 s are used up: 1 of 4 samples were compared")
    assert "`browser_seconds` of the recipe" in warning


def test_weights_in_four_bits_run_in_a_browser(tmp_path: Path, opened: list[WebSession]) -> None:
    network = nets.chain(2, width=64)
    inputs = nets.lay(tmp_path, network, {"x": nets.vectors(4, 64)})
    (tmp_path / "int4").mkdir()
    onnx_int4.convert({"model": inputs["model"]}, tmp_path / "int4", {}, lambda share, doing: None)
    x = nets.vectors(1, 64)[0][None]
    (want,) = open_session(network).run(None, {"x": x})
    opened.append(web.open_onnx(tmp_path / "int4" / "model.onnx"))
    assert cosine(np.asarray(want), opened[0].run({"x": x})["y"]) > 0.98


def test_packed_files_run_and_changed_ones_do_not(
    bundle: ModelBundle, tmp_path: Path, opened: list[WebSession]
) -> None:
    out = tmp_path / "lite"
    made = pack(bundle, load_profile("browser-wasm"), out, variant="tflite-fp32")
    assert WebManifest.model_validate_json((out / MANIFEST).read_bytes()) == made
    assert sorted(one.name for one in out.iterdir()) == [LOADER, MANIFEST, "model.tflite"]
    opened.append(WebSession(out / "model.tflite", made.engine, made))
    assert opened[0].run({"x": np.array([[3, 0, 0]], np.float32)})["y"].argmax() == 0
    out = tmp_path / "onnx"
    made = pack(bundle, load_profile("browser-wasm"), out, variant="onnx-fp32")
    content = bytearray((out / "model.onnx").read_bytes())
    content[-1] ^= 1
    (out / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="digest is not the manifest's"):
        WebSession(out / "model.onnx", made.engine, made)


def test_what_is_packed(bundle: ModelBundle, tmp_path: Path) -> None:
    profile = load_profile("browser-wasm")
    best = pack(bundle, profile, tmp_path / "best")
    assert (best.engine, best.variant, best.task.kind) == ("litertjs", "tflite-fp32", "tensors")
    assert [(one.name, one.status) for one in best.backends] == [("wasm", "declared, not verified")]
    seen = pack(bundle, profile, tmp_path / "seen", variant="onnx-fp32")
    assert [(one.name, one.status) for one in seen.backends] == [("wasm", "verified")]
    assert seen.files[0].sha256 == bundle.manifest.variants[0].sha256
    again = tmp_path / "again"
    pack(bundle, profile, again)
    assert (again / MANIFEST).read_bytes() == (tmp_path / "best" / MANIFEST).read_bytes()
    with pytest.raises(StorageError, match="not empty"):
        pack(bundle, profile, again)
    with pytest.raises(BundleError, match="has no variant"):
        pack(bundle, load_profile("browser-webgpu"), tmp_path / "gpu")
    with pytest.raises(ConfigError, match="not a browser's"):
        pack(bundle, load_profile("raspberry-pi-5"), tmp_path / "pi")


def test_what_a_page_cannot_run(tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(to_tflite(cast_graph("int8", "float32")))
    with pytest.raises(
        EngineError, match=r"input 'x': expected float32 or int32 or uint8, got int8\. Convert"
    ):
        web.open_litert(model)


def test_without_chromium_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_CHROMIUM", "/nowhere/chromium")
    found, absent = runners("onnx", ["onnxruntime-web"])
    assert found == ()
    assert absent == (
        "onnxruntime-web: no Chromium. Install chromium, or set EDGE_RUNTIME_CHROMIUM to its path",
    )
    assert not any(runner.in_browser for runner in runners("onnx")[0])
    assert shutil.which("/nowhere/chromium") is None
    assert set(BROWSERS) == set(ENGINES)
