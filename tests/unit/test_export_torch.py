"""torch modules become ONNX that answers as torch does, or one sentence says why not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from converters.export import torch_onnx
from converters.step import MODEL_FILES
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import ImageInput
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.onnxruntime import OnnxRuntime
from tests.simulators import tiny_models
from tests.simulators.torch_cases import (
    CLASSIFIER,
    DETECTOR,
    ENCODER,
    IDS,
    IMAGE,
    MASK,
    MODULES,
    ONE,
    OUTPUTS,
    PICTURE,
    TEXT,
    answers,
    assert_close,
    normalised,
    picture,
    quietly,
)


def to_onnx(options: Mapping[str, Any], out: Path, **files: Path) -> tuple[dict[str, Any], Session]:
    out.mkdir(exist_ok=True)
    facts = torch_onnx.export(files, out, options, quietly)
    return facts, OnnxRuntime().open(out / MODEL_FILES["onnx"], options=EngineOptions())


def test_a_classifier_answers_in_onnx_as_in_torch(tmp_path: Path) -> None:
    facts, session = to_onnx(CLASSIFIER | {"opset": 17}, tmp_path)
    pixels = picture(16, 24).astype(np.float32)
    assert_close(session.run({"image": pixels})["output"], *answers(tiny_models.Classifier(), pixels))
    model = onnx.load(tmp_path / "model.onnx")
    assert [entry.version for entry in model.opset_import if not entry.domain] == [17] == [facts["opset"]]
    assert facts["layout"] == "nchw" and facts["folded"] is False
    assert {"torch", "onnx", "onnxslim"} <= set(facts["tools"])
    assert facts["parity"]["rel"] < 1e-5
    assert "features.1/Conv" in {node.name for node in model.graph.node}  # a layer as the source calls it
    assert b"tiny_models.py" not in (tmp_path / "model.onnx").read_bytes()  # nor where it was made


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    for out in ("one", "two"):
        to_onnx(ENCODER, tmp_path / out)
    one, two = ((tmp_path / out / "model.onnx").read_bytes() for out in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_a_folded_classifier_takes_pixels(colour: str, tmp_path: Path) -> None:
    facts, session = to_onnx(CLASSIFIER | {"fold": True, "size": [32, 20], "colour": colour}, tmp_path)
    pixels = picture(32, 20, channels_last=True).astype(np.uint8)
    wanted = answers(tiny_models.Classifier(), normalised(pixels if colour == "rgb" else pixels[..., ::-1]))
    assert str(session.inputs[0]) == "image uint8 (1, 32, 20, 3)"
    assert_close(session.run({"image": pixels})["output"], *wanted)
    assert facts["folded"] is True
    assert ImageInput.model_validate(facts["input"]) == ImageInput(
        layout="nhwc", colour="bgr" if colour == "bgr" else "rgb", size=(32, 20)
    )


def test_open_axes_take_any_length(tmp_path: Path) -> None:
    facts, session = to_onnx(DETECTOR | {"dynamic": True}, tmp_path)
    assert list(facts["outputs"]) == list(OUTPUTS)
    for size in ((16, 24), (30, 18)):
        pixels = np.concatenate([picture(*size)] * 3).astype(np.float32)
        found = session.run({"image": pixels})
        for name, wanted in zip(OUTPUTS, answers(tiny_models.Detector(), pixels), strict=True):
            assert_close(found[name], wanted)
    shape = onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type.shape
    assert [axis.dim_param or axis.dim_value for axis in shape.dim] == ["batch", 3, "image_2", "image_3"]


def test_an_input_without_effect_is_left_out_and_a_tensor_may_go_out_twice(tmp_path: Path) -> None:
    two = [{"name": name, "shape": [1, 3]} for name in ("x", "y")]
    facts, session = to_onnx({"source": {"module": f"{MODULES}:Echo", "inputs": two}}, tmp_path)
    x = np.array([[1, -2, 3]], np.float32)
    assert [tensor.tolist() for tensor in session.run({"x": x}).values()] == [
        [[1, 0, 3]],
        [[1, 0, 3]],
        [[1, -2, 3]],
    ]
    assert facts["inputs"] == {"x": "x"} and list(facts["outputs"]) == ["output_0", "output_1", "output_2"]
    assert facts["warnings"] == ["the outputs do not depend on y: not an input any more"]


def test_texts_of_any_length(tmp_path: Path) -> None:
    _, session = to_onnx(ENCODER | {"dynamic": True}, tmp_path)
    for length in (7, 4):
        ids, mask = IDS[:, :length].copy(), MASK[:, :length].copy()
        found = session.run({"input_ids": ids, "attention_mask": mask})["output"]
        assert_close(found, *answers(tiny_models.Encoder(), ids, mask))


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        (
            {"module": "Moody", "inputs": ONE},
            {},
            r"cannot capture the module at layer 'gate' \(Gate\).*torch.where",
        ),
        ({"module": "Dice", "inputs": ONE}, {}, r"the same input in different ways"),
        ({"module": "Chatty", "inputs": ONE}, {}, r"output 'note': expected tensors.*got str"),
        (
            {"module": "Classifier", "inputs": [{"name": "image", "shape": [1, 4, 16, 24]}]},
            {},
            r"at layer 'features.0' \(Conv2d\).*got image \(1, 4, 16, 24\)",
        ),
        ({"module": "Classifier"}, {}, r"what the module takes: expected `inputs`"),
        (
            {"module": "Classifier", "arguments": {"klasses": 3}},
            {},
            r"expected Classifier\(classes: int = 5\)",
        ),
        ({"module": "Nobody"}, {}, r"has no 'Nobody' to call: expected .*Classifier"),
        ({"module": "Found", "arguments": {"boxes": 1, "scores": 2}}, {}, r"a torch.nn.Module, got Found"),
        (
            {"module": "Detector", "inputs": [PICTURE], "outputs": ["a"]},
            {},
            r"expected 3, one for each of boxes",
        ),
        (
            {"module": "Classifier", "inputs": [PICTURE | {"dynamic": [1]}]},
            {"dynamic": True},
            r"free axes \(image: 1\).*take it out of `dynamic`",
        ),
        (
            {"module": "Encoder", "inputs": TEXT},
            {"fold": True},
            r"preprocessing cannot be folded.*got input_ids int64 \(1, 7\)",
        ),
        (
            {"module": "Encoder", "inputs": TEXT},
            {"input": IMAGE, "size": [8, 8]},
            r"no picture that could get another size",
        ),
    ],
)
def test_what_cannot_be_exported(
    source: dict[str, Any], options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    told = source | {"module": f"{MODULES}:{source['module']}"}
    with pytest.raises(ConversionError, match=says):
        torch_onnx.export({}, tmp_path, {"source": told} | options, quietly)


def test_an_exported_program_brings_its_own_inputs(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    module = tiny_models.Classifier()
    with torch.no_grad():
        torch.export.save(torch.export.export(module.eval(), (torch.zeros(1, 3, 16, 24),)), file)
    source = {"path": "model.pt2", "trust": True, "outputs": ["logits"]}
    facts, session = to_onnx({"source": source, "input": IMAGE, "fold": True}, tmp_path / "out", source=file)
    pixels = picture(16, 24, channels_last=True).astype(np.uint8)
    assert_close(session.run({"picture": pixels})["logits"], *answers(module, normalised(pixels)))
    assert facts["outputs"] == {"logits": "logits"}


def test_a_module_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("import torch\ndef double():\n    return Twice()\nclass Twice(torch.nn.Module):\n"
                    "    def forward(self, x):\n        return {'twice': (x * 2, [x + 1])}\n")  # fmt: skip
    source = {"module": "net.py:double", "inputs": [{"name": "x", "shape": [2]}]}
    _, session = to_onnx({"source": source}, tmp_path / "out", module=file)
    found = session.run({"x": np.array([1, 2], np.float32)})
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "twice_0": [2, 4],
        "twice_1_0": [2, 3],
    }


def test_an_operator_without_translation_is_named_with_its_layer(tmp_path: Path) -> None:
    options = {"source": {"module": f"{MODULES}:Exotic", "inputs": [PICTURE]}}
    with pytest.raises(ConversionError) as caught:
        torch_onnx.export({}, tmp_path, options, quietly)
    assert caught.value.operator == "aten.special_bessel_j0.default"
    assert caught.value.layer == "odd"
    assert str(caught.value).startswith(
        "torch's ONNX exporter cannot translate operator 'aten.special_bessel_j0.default'"
    )
