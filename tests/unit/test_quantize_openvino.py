"""Quantization of OpenVINO models, run by the device's own engine."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from converters.export import onnx_openvino
from converters.quantize import openvino
from converters.step import MODEL_FILES
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.likeness import cosine
from tests.unit import quantize_nets as nets

pytestmark = pytest.mark.filterwarnings("ignore")  # NNCF's dependencies warn about themselves
XML = MODEL_FILES["openvino"]
PICTURE = np.random.default_rng(9).random(nets.PICTURE, np.float32)


def quiet(share: float, what: str) -> None:
    assert 0 <= share <= 1, what


def lay(folder: Path, model: onnx.ModelProto, rows: Any) -> dict[str, Path]:
    inputs = nets.lay(folder, model, rows)
    out = folder / "ir"
    out.mkdir()
    onnx_openvino.export(inputs, out, {}, quiet)
    return {**inputs, "model": out}


def step(inputs: Any, out: Path, **options: Any) -> dict[str, Any]:
    out.mkdir()
    return openvino.convert(inputs, out, options, quiet)


def run(folder: Path, **inputs: np.ndarray) -> np.ndarray:
    session = load_engine("openvino").open(folder / XML, options=EngineOptions())
    try:
        return next(iter(session.run(inputs).values()))
    finally:
        session.close()


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.99999), ("int8", 0.995)])
def test_a_classifier_answers_the_same_and_is_reproducible(
    precision: str, least: float, tmp_path: Path
) -> None:
    inputs = lay(tmp_path, nets.classifier(), {"pictures": nets.pictures(48)})
    for name in ("a", "b"):
        facts = step(inputs, tmp_path / name, precision=precision, task=nets.CLASSIFICATION)
        assert facts["precision"] == precision
        assert facts["outputs"] == {"scores": "scores"}
    for file in (XML, "model.bin"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    own, other = run(inputs["model"], picture=PICTURE), run(tmp_path / "a", picture=PICTURE)
    assert cosine(own, other) > least
    assert sys.modules["openvino_telemetry"] is None  # so that nothing is sent


def test_what_a_detector_does_with_its_predictions_stays_float(tmp_path: Path) -> None:
    inputs = lay(tmp_path, nets.detector(), {"pictures": nets.pictures(24)})
    facts = step(inputs, tmp_path / "a", precision="int8", task=nets.DETECTION)
    assert [layer["precision"] for layer in facts["layers"]] == ["int8"] * 5
    model = onnx_openvino.load().Core().read_model(tmp_path / "a" / XML)
    taken = {
        port.get_node().get_type_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() in {"Exp", "Sigmoid", "Concat"}
        for port in operation.input_values()
        if operation.output(0).get_shape()[1] != 32
    }
    assert "FakeQuantize" not in taken
    own, other = run(inputs["model"], picture=PICTURE), run(tmp_path / "a", picture=PICTURE)
    assert cosine(own[..., 4:], other[..., 4:]) > 0.995


def test_mixed_gives_layers_back_until_the_budget_holds(tmp_path: Path) -> None:
    inputs = lay(tmp_path, nets.detector(), {"pictures": nets.pictures(24)})
    whole = step(inputs, tmp_path / "a", precision="mixed", accuracy_drop=0.5, task=nets.DETECTION)
    assert whole["precision"] == "int8"
    loss = whole["judged"]["loss"]
    assert loss > 0
    facts = step(inputs, tmp_path / "b", precision="mixed", accuracy_drop=loss / 2, task=nets.DETECTION)
    assert facts["precision"] == "mixed"
    assert facts["judged"]["loss"] <= loss / 2
    assert {layer["precision"] for layer in facts["layers"]} == {"int8", "fp32"}


def test_a_budget_that_no_layer_keeps_is_told(tmp_path: Path) -> None:
    inputs = lay(tmp_path, nets.chain(2), {"x": nets.vectors(40)})
    with pytest.raises(ConversionError, match="can be in integers"):
        step(inputs, tmp_path / "a", precision="mixed", accuracy_drop=0, task=nets.TENSORS)


def test_unfit_inputs_are_one_line(tmp_path: Path) -> None:
    inputs = lay(tmp_path, nets.classifier(), {"pictures": [np.zeros((32, 32, 3), np.uint8)] * 4})
    options = {"precision": "int8", "task": nets.CLASSIFICATION}
    with pytest.raises(ConversionError, match="constant value"):
        step(inputs, tmp_path / "a", **options)
    with pytest.raises(ConversionError, match="without samples"):
        step({"model": inputs["model"]}, tmp_path / "b", **options)
    with pytest.raises(ConversionError, match="option 'precision'"):
        step(inputs, tmp_path / "c", precision="int4")
    with pytest.raises(ConversionError, match="samples: "):
        step(inputs, tmp_path / "d", precision="int8", task=nets.TENSORS)
    (inputs["model"] / XML).write_text("<net>")
    with pytest.raises(ConversionError, match=r"model\.xml"):
        step(inputs, tmp_path / "e", precision="fp16")


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    inputs = lay(tmp_path, nets.chain(3), {"x": nets.vectors(40)})
    step(inputs, tmp_path / "a", precision="int8", task=nets.TENSORS)
    with pytest.raises(ConversionError, match="is quantized already"):
        step({**inputs, "model": tmp_path / "a"}, tmp_path / "b", precision="fp16")
