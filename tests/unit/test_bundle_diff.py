"""What changed between two bundles: measures, operators, labels, and the bytes an update sends."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.bundle.delta import Method, can_compress, update_of
from converters.bundle.diff import Kind, compare
from converters.bundle.operators import operators
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import BundleError, ConversionError
from tests.conformance.graphs import Graph, Node, Value, to_onnx, to_tflite
from tests.simulators.bundles import built, receipt, small_bundle, small_variants, task

GRAPH = Graph(
    values={name: Value("float32", (1, 4)) for name in ("x", "a", "b", "y")},
    inputs=("x",),
    outputs=("y",),
    nodes=(Node("Add", ("x", "one"), "a"), Node("Relu", ("a",), "b"), Node("Mul", ("b", "b"), "y")),
    constants={"one": np.ones((1, 4), np.float32)},
)
SHORT = replace(
    GRAPH,
    nodes=(Node("Add", ("x", "one"), "a"), Node("Relu", ("a",), "y")),
    values={name: Value("float32", (1, 4)) for name in ("x", "a", "y")},
)


def onnx_bytes(graph: Graph) -> bytes:
    return to_onnx(graph).SerializeToString()


def test_a_bundle_against_itself(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "shop", tmp_path / "steps", receipts=[receipt("onnx-fp32")])
    diff = compare(bundle, bundle)
    assert (diff.about, diff.labels_added, diff.labels_removed, diff.labels_moved) == ({}, (), (), False)
    assert {change.kind for change in diff.variants} == {Kind.SAME}
    assert all(change.update is not None and change.update.size_bytes == 0 for change in diff.variants)
    assert all(change.operators == {} and change.notes == () for change in diff.variants)


def test_everything_that_can_change(tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    first = [
        built(steps / "1", "onnx-fp32", Format.ONNX, model=onnx_bytes(SHORT)),
        *[one for one in small_variants(steps) if one.id == "openvino-fp32"],
    ]
    old = small_bundle(
        tmp_path / "old",
        steps,
        variants=first,
        receipts=[
            receipt("onnx-fp32", top1=0.9, p50_ms=9, machine="elsewhere"),
            receipt("onnx-fp32", top1=0.9, p50_ms=5),
        ],
        spec=task("person", "car", "dog"),
    )
    second = [
        built(steps / "2", "onnx-fp32", Format.ONNX, model=onnx_bytes(GRAPH)),
        built(steps / "2", "tflite-fp32", Format.TFLITE, model=to_tflite(GRAPH)),
    ]
    new = small_bundle(
        tmp_path / "new",
        steps,
        version="2.0.0",
        variants=second,
        receipts=[receipt("onnx-fp32", top1=0.95, p50_ms=4)],
        spec=task("car", "person", "bus", min_score=0.5),
    )
    diff = compare(old, new)
    assert (diff.old, diff.new) == ("shop 1.2.3", "shop 2.0.0")
    assert diff.about == {"version": ("1.2.3", "2.0.0"), "task.min_score": (0.25, 0.5)}
    assert (diff.labels_added, diff.labels_removed, diff.labels_moved) == (("bus",), ("dog",), True)
    onnx, tflite, openvino = diff.variants
    assert (onnx.kind, tflite.kind, openvino.kind) == (Kind.CHANGED, Kind.ADDED, Kind.REMOVED)
    # Latency is that of the receipt from the same machine.
    assert onnx.measures["latency.p50_ms"] == (5, 4)
    assert onnx.measures["accuracy.top1"] == (0.9, 0.95)
    assert onnx.operators == {"Mul": (None, 1)}
    assert onnx.update is not None
    assert 0 < onnx.update.size_bytes <= onnx.update.whole_bytes == len(onnx_bytes(GRAPH))
    assert tflite.operators == {"ADD": (None, 1), "RELU": (None, 1), "MUL": (None, 1)}
    assert (openvino.size_bytes, openvino.update) == ((106, None), None)


def test_latency_of_other_machines_is_not_compared(tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    old = small_bundle(tmp_path / "old", steps, receipts=[receipt("onnx-fp32", machine="a Pi")])
    new = small_bundle(tmp_path / "new", steps, receipts=[receipt("onnx-fp32", p50_ms=1)])
    change = next(one for one in compare(old, new).variants if one.id == "onnx-fp32")
    assert "latency.p50_ms" not in change.measures
    assert change.measures["parity.cosine.scores"] == (0.999, 0.999)
    (note,) = change.notes
    assert "onnxruntime on a Pi, now with onnxruntime on a desk" in note


def test_what_no_library_can_read_is_said_and_stops_nothing(tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    old = small_bundle(tmp_path / "old", steps, variants=[built(steps, "x", Format.ONNX, model=b"one")])
    new = small_bundle(tmp_path / "new", steps, variants=[built(steps, "x", Format.ONNX, model=b"two")])
    (change,) = compare(old, new).variants
    assert all("is no readable onnx file" in note for note in change.notes)


def test_operators_of_each_format(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx_bytes(GRAPH))
    assert operators(model, Format.ONNX) == {"Add": 1, "Relu": 1, "Mul": 1}
    (tmp_path / "model.tflite").write_bytes(to_tflite(GRAPH))
    assert operators(tmp_path / "model.tflite", Format.TFLITE) == {"ADD": 1, "RELU": 1, "MUL": 1}
    (tmp_path / "ir").mkdir()
    openvino.save_model(openvino.convert_model(str(model)), tmp_path / "ir" / "model.xml")
    found = operators(tmp_path / "ir", Format.OPENVINO)
    assert (found["ReLU"], found["Parameter"], found["Result"]) == (1, 1, 1)
    with pytest.raises(ConversionError, match="a ort file cannot be read"):
        operators(model, Format.ORT)
    with pytest.raises(BundleError, match="is no readable tflite file"):
        operators(model, Format.TFLITE)


def test_operators_of_a_core_ml_program(tmp_path: Path) -> None:
    model = pytest.importorskip("coremltools.proto.Model_pb2").Model()
    block = model.mlProgram.functions["main"].block_specializations["CoreML5"]
    for kind in ("const", "conv", "relu", "conv"):
        block.operations.add().type = kind
    file = tmp_path / "model.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    file.parent.mkdir(parents=True)
    file.write_bytes(model.SerializeToString())
    assert operators(tmp_path / "model.mlpackage", Format.COREML) == {"conv": 2, "relu": 1}


def test_a_missing_library_is_named_by_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConversionError, match=r"pip install 'edge-runtime\[convert\]'"):
        operators(tmp_path / "model.onnx", Format.ONNX)


def weights(seed: int, size: int = 300_000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def test_a_small_change_is_a_small_update(tmp_path: Path) -> None:
    pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    assert can_compress()
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(weights(1))
    # The beginning grew and a part in the middle is new: what is the same is at another place now.
    new.write_bytes(b"a longer head" * 50 + weights(1)[:200_000] + weights(2, 5000) + weights(1)[205_000:])
    update = update_of(old, new)
    assert update.methods == {Method.PATCH}
    assert 5000 < update.size_bytes < 8000
    assert update.whole_bytes == new.stat().st_size
    assert update_of(None, new).methods == {Method.WHOLE}
    new.write_bytes(bytes(100_000))
    assert update_of(None, new).methods == {Method.COMPRESSED}
    assert update_of(new, new).size_bytes == 0


def test_folders_are_sent_file_by_file(tmp_path: Path) -> None:
    for name, data in (("old", b"1"), ("new", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.xml").write_bytes(data)
        (tmp_path / name / "model.bin").write_bytes(weights(3))
    update = update_of(tmp_path / "old", tmp_path / "new")
    assert (update.size_bytes, update.methods) == (1, {Method.NONE, Method.WHOLE})
    assert update_of(None, tmp_path / "new").whole_bytes == 300_001


def test_without_zstd_files_are_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not can_compress()
    (tmp_path / "old").write_bytes(bytes(1000))
    (tmp_path / "new").write_bytes(bytes(1001))
    update = update_of(tmp_path / "old", tmp_path / "new")
    assert (update.size_bytes, update.methods) == (1001, {Method.WHOLE})
