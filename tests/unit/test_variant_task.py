"""A variant whose layout, head or output is not the bundle's: the device follows what the variant says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from edge_runtime.bundle import MANIFEST, digest, open_bundle
from edge_runtime.cli.app import app
from edge_runtime.cli.receipts import with_receipts
from edge_runtime.contract.bundle import BundleManifest, Latency, Receipt
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Classification
from edge_runtime.local_model import open_model, this_device
from tests.unit.test_task_embedding import write_tokenizer


def picture_model(path: Path) -> None:
    """Takes NHWC, and gives the mean of each colour as its second output."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["all"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("ReduceMean", ["image"], ["colours"], axes=[1, 2], keepdims=0),
        ],
        "means",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 3])],
        [
            helper.make_tensor_value_info("all", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("colours", TensorProto.FLOAT, [1, 3]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def text_model(path: Path) -> None:
    """One number a token."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input_ids"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["real", "last"], ["out"]),
        ],
        "numbers",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, None])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, None, 1])],
        [onnx.numpy_helper.from_array(np.array([2]), "last")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def write_bundle(root: Path, task: dict[str, Any], **more: Any) -> Path:
    root.mkdir(exist_ok=True)
    tokenizer = root / "tokenizer.json"
    files = {
        name: dict(zip(("sha256", "size_bytes"), digest(root / name), strict=True)) | {"path": name}
        for name in ("model.onnx", "tokenizer.json")
        if (root / name).exists()
    }
    variant = {"id": "it", "format": "onnx", "precision": "fp32", **files["model.onnx"], **more}
    manifest = {
        "name": "x",
        "version": "1",
        "licence": "MIT",
        "source": "a test",
        "task": task,
        "variants": [variant],
    }
    if tokenizer.exists():
        manifest["tokenizer"] = files["tokenizer.json"]
    (root / MANIFEST).write_text(json.dumps(manifest))
    return root


NCHW = {"kind": "classification", "input": {"layout": "nchw"}, "labels": ["r", "g", "b"], "output": "logits"}


def test_the_variants_own_input_and_output_count(tmp_path: Path) -> None:
    picture_model(tmp_path / "model.onnx")
    device = this_device("auto")
    bundle = open_bundle(write_bundle(tmp_path, NCHW, input={"layout": "nhwc"}, output="colours"))
    model = open_model(bundle, device, engine="onnxruntime")
    found = model.predictor.predict(Picture.from_bgr(np.full((20, 20, 3), (9, 200, 4), np.uint8)))
    model.predictor.close()
    assert isinstance(found, Classification)
    assert found.labels[int(found.classes[0])] == "g"
    with pytest.raises(BundleError):
        open_model(open_bundle(write_bundle(tmp_path, NCHW)), device, engine="onnxruntime")


@pytest.mark.parametrize("kind", ["embedding", "tensors"])
def test_bench_measures_models_of_every_kind(tmp_path: Path, kind: str) -> None:
    text_model(tmp_path / "model.onnx")
    write_tokenizer(tmp_path / "tokenizer.json")
    write_bundle(tmp_path, {"kind": kind})
    done = CliRunner().invoke(
        app, ["bench", str(tmp_path), "--engine", "onnxruntime", "--runs", "2", "--json"]
    )
    assert done.exit_code == 0, done.output
    (cost,) = json.loads(done.stdout)["costs"]
    assert cost["runs"] == 2
    assert not cost["problem"]


def test_a_new_receipt_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    text_model(tmp_path / "model.onnx")
    manifest = BundleManifest.model_validate_json(
        (write_bundle(tmp_path, {"kind": "tensors"}) / MANIFEST).read_bytes()
    )

    def receipt(machine: str, ms: float, **more: Any) -> Receipt:
        latency = Latency(p50_ms=ms, p95_ms=ms, threads=1, runs=1)
        return Receipt(
            variant="it", engine="litert", machine=machine, measured_at="2026-01-01", latency=latency, **more
        )

    first = with_receipts(manifest, [receipt("a", 1, parity={"cosine.y": 1.0}), receipt("b", 2)])
    both = with_receipts(first, [receipt("a", 3)]).receipts
    assert [(one.machine, one.latency.p50_ms) for one in both if one.latency] == [("a", 3), ("b", 2)]
    assert both[0].parity == {"cosine.y": 1.0}
