"""Preprocessing inside the graph gives what the device's own preprocessing gives outside of it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from converters.export.fold import fold
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.task import ClassificationSpec
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.make import make_task

RNG = np.random.default_rng(3)
PICTURE = Picture.from_bgr(RNG.integers(0, 256, (30, 50, 3), np.uint8))
IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PLANES = "float[1, 3, 16, 24] image"
# A padded convolution first; one behind a slice; one behind the transpose of an NHWC model; a grouped one.
BODIES = {
    "conv": (PLANES, "c = Conv<pads = [1, 1, 1, 1]>(image, w)"),
    "slice": (
        PLANES,
        "a = Slice(image, zero, end, axis, two) b = Slice(image, one, end, axis, two)"
        " s = Concat<axis = 1>(a, b) c = Conv(s, w6)",
    ),
    "nhwc": (
        "float[1, 16, 24, 3] image",
        "t = Transpose<perm = [0, 3, 1, 2]>(image) c = Conv<pads = [1, 1, 1, 1]>(t, w)",
    ),
    "nhwc-mean": ("float[1, 16, 24, 3] image", "t = Transpose<perm = [0, 3, 1, 2]>(image) c = Relu(t)"),
    "grouped": (PLANES, "c = Conv<pads = [1, 1, 1, 1], group = 3>(image, wg)"),
    "shared": (
        PLANES,
        "a = Conv<pads = [1, 1, 1, 1]>(image, w) b = Conv<pads = [1, 1, 1, 1]>(a, w) c = Add(a, b)",
    ),
}


def save(folder: Path, body: str) -> None:
    value, nodes = BODIES[body]
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> net ({value}) => (float[1, 3] scores) {{
        {nodes} p = GlobalAveragePool(c) scores = Flatten(p) }}"""
    )
    stored = {
        "w": RNG.normal(size=(3, 3, 3, 3)).astype(np.float32),
        "w6": RNG.normal(size=(3, 6, 3, 3)).astype(np.float32),
        "wg": RNG.normal(size=(3, 1, 3, 3)).astype(np.float32),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "end": np.array([2**31]),
        "axis": np.array([2]),
    }
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in stored.items() if k in used)
    onnx.save(model, folder / "model.onnx")


def scores(folder: Path, image: dict[str, Any]) -> Array:
    """What the engine answers to what the device's own task makes of the picture."""
    spec = ClassificationSpec.model_validate(
        {"kind": "classification", "input": image, "labels": ["a", "b", "c"]}
    )
    session = load_engine("onnxruntime").open(folder / "model.onnx", options=EngineOptions())
    tensors, _ = make_task(spec, session.inputs, session.outputs).preprocess(PICTURE)
    answer = session.run(tensors)["scores"]
    session.close()
    return answer


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("numbers", [{}, {"scale": 1 / 255}, IMAGENET], ids=["raw", "scale", "imagenet"])
@pytest.mark.parametrize("body", BODIES)
def test_the_answer_stays(tmp_path: Path, body: str, numbers: dict[str, Any], colour: str) -> None:
    (tmp_path / "out").mkdir()
    save(tmp_path, body)
    image = {"layout": "nhwc" if body.startswith("nhwc") else "nchw", "colour": "bgr", **numbers}
    facts = fold({"model": tmp_path}, tmp_path / "out", {"input": image, "colour": colour}, lambda *_: None)
    assert (facts["layout"], facts["folded"]) == ("nhwc", True)
    made = onnx.load(tmp_path / "out/model.onnx")
    onnx.checker.check_model(made, full_check=True)
    taken = made.graph.input[0].type.tensor_type
    assert (taken.elem_type, [axis.dim_value for axis in taken.shape.dim]) == (2, [1, 16, 24, 3])
    inside: Any = facts["input"]
    assert inside["colour"] == colour
    want = scores(tmp_path, image)
    np.testing.assert_allclose(
        scores(tmp_path / "out", inside), want, rtol=1e-4, atol=1e-4 * np.abs(want).max()
    )


def test_what_costs_nothing(tmp_path: Path) -> None:
    """Scale and colours go into the first convolution; a mean cannot, for padding is zero there."""
    (tmp_path / "out").mkdir()
    save(tmp_path, "conv")
    for numbers, operators in (
        ({"scale": 1 / 255}, ["Transpose", "Cast", "Conv"]),
        (IMAGENET, ["Transpose", "Cast", "Add", "Conv"]),
    ):
        options = {"input": {"layout": "nchw", "colour": "bgr", **numbers}, "colour": "rgb"}
        facts = fold({"model": tmp_path}, tmp_path / "out", options, lambda *_: None)
        nodes = onnx.load(tmp_path / "out/model.onnx").graph.node
        assert [node.op_type for node in nodes][: len(operators)] == operators
        assert facts["into_weights"] is True


def test_nothing_to_fold(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    save(tmp_path, "conv")
    options = {"input": {"layout": "nchw"}}
    fold({"model": tmp_path}, tmp_path / "out", options, lambda *_: None)
    with pytest.raises(ConversionError, match="expected float32 or float16, got uint8"):
        fold({"model": tmp_path / "out"}, tmp_path, {"input": {"layout": "nhwc"}}, lambda *_: None)
    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[1, 9] x) => (float[1, 9] y) { y = Exp(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "model.onnx")
    with pytest.raises(ConversionError, match="takes no picture"):
        fold({"model": tmp_path}, tmp_path / "out", {"input": {"layout": "nhwc"}}, lambda *_: None)
