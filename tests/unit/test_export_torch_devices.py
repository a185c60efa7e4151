"""torch modules become Core ML and TFLite models that answer as torch does, or one sentence says why not."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.environments import prepare
from converters.export import torch_coreml, torch_litert
from converters.export.torch_net import Net
from converters.step import MODEL_FILES
from converters.toolchain import TOOLS
from converters.verify.mil import MilSession
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.litert import LiteRt
from tests.simulators import tiny_models
from tests.simulators.torch_cases import (
    CLASSIFIER,
    DETECTOR,
    ENCODER,
    IDS,
    MASK,
    MODULES,
    ONE,
    OUTPUTS,
    PICTURE,
    answers,
    assert_close,
    normalised,
    picture,
    quietly,
)

Step = Callable[..., dict[str, Any]]


def to_coreml(options: Mapping[str, Any], out: Path) -> tuple[dict[str, Any], Session]:
    out.mkdir(exist_ok=True)
    facts = torch_coreml.export({}, out, options, quietly)
    return facts, MilSession(out / MODEL_FILES["coreml"])


def test_core_ml_answers_as_torch(tmp_path: Path) -> None:
    facts, session = to_coreml(DETECTOR | {"precision": "fp32", "labels": ["person", "dog"]}, tmp_path)
    pixels = picture(16, 24).astype(np.float32)
    found = session.run({"image": pixels})
    for name, wanted in zip(OUTPUTS, answers(tiny_models.Detector(), pixels), strict=True):
        assert_close(found[name], wanted)
    assert facts["precision"] == "fp32" and facts["layout"] == "nchw"
    import coremltools

    spec = coremltools.utils.load_spec(str(tmp_path / "model.mlpackage"))
    told = dict(spec.description.metadata.userDefined)
    assert told["classes"] == "person,dog"
    assert not any("date" in key for key in told)


def test_core_ml_in_float16_takes_float32_and_pixels(tmp_path: Path) -> None:
    facts, session = to_coreml(CLASSIFIER | {"fold": True, "minimum_target": "iOS17"}, tmp_path)
    pixels = picture(16, 24, channels_last=True).astype(np.uint8)
    assert [str(spec) for spec in (*session.inputs, *session.outputs)] == [
        "image float32 (1, 16, 24, 3)",
        "output float32 (1, 5)",
    ]
    found = session.run({"image": pixels.astype(np.float32)})["output"]
    assert_close(found, *answers(tiny_models.Classifier(), normalised(pixels)), relative=5e-3)
    assert facts["input"]["scale"] == 1


def test_core_ml_gets_simpler_operators_for_those_it_lacks(tmp_path: Path) -> None:
    options = {"source": {"module": f"{MODULES}:Rare", "inputs": ONE}, "precision": "fp32"}
    _, session = to_coreml(options, tmp_path)
    x = np.array([[1, -2, 3]], np.float32)
    assert session.run({"x": x})["output"].tolist() == [[2, 1.5, 4]]


def test_core_ml_takes_texts_as_int32(tmp_path: Path) -> None:
    facts, session = to_coreml(ENCODER | {"precision": "fp32"}, tmp_path)
    ids, mask = IDS[1:], MASK[1:]
    found = session.run({"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int32)})
    assert_close(found["output"], *answers(tiny_models.Encoder(), ids, mask))
    assert "int64 became int32: input_ids, attention_mask" in facts["warnings"]


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    for out in ("one", "two"):
        to_coreml(CLASSIFIER, tmp_path / out)
    one, two = (
        {
            file.relative_to(tmp_path / out): file.read_bytes()
            for file in (tmp_path / out).rglob("*")
            if file.is_file()
        }
        for out in ("one", "two")
    )
    assert one == two and len(one) == 3


def test_an_operator_without_translation_is_named_with_its_layer(tmp_path: Path) -> None:
    options = {"source": {"module": f"{MODULES}:Exotic", "inputs": [PICTURE]}}
    with pytest.raises(ConversionError) as caught:
        torch_coreml.export({}, tmp_path, options, quietly)
    assert caught.value.operator == "aten.special_bessel_j0.default"
    assert caught.value.layer == "odd"
    assert str(caught.value).startswith(
        "coremltools cannot translate operator 'aten.special_bessel_j0.default'"
    )


@pytest.mark.install
def test_tflite_answers_as_torch(tmp_path: Path, repository: Path) -> None:
    # In the tool's own environment, made on first use; all in one process, as it takes long to start.
    cases = {
        "plain": CLASSIFIER,
        "folded": CLASSIFIER | {"fold": True},
        "detector": DETECTOR,
        "encoder": ENCODER,
    }
    code = (
        "import json, pathlib, sys\n"
        "from converters.export import torch_litert\n"
        "facts = {}\n"
        "for name, options in json.load(sys.stdin).items():\n"
        "    out = pathlib.Path(name); out.mkdir()\n"
        "    facts[name] = torch_litert.export({}, out, options, lambda *_: None)\n"
        "pathlib.Path('facts.json').write_text(json.dumps(facts))\n"
    )
    launch = prepare(TOOLS["litert-torch"], tell=quietly)
    subprocess.run(
        [*launch.command, "-c", code],
        input=json.dumps(cases).encode(),
        cwd=tmp_path,
        env=dict(launch.environment) | {"PYTHONPATH": str(repository)},
        check=True,
        capture_output=True,
    )
    facts = json.loads((tmp_path / "facts.json").read_text())

    def run(name: str, **tensors: Any) -> list[Any]:
        session = LiteRt().open(tmp_path / name / "model.tflite", options=EngineOptions())
        found = session.run({facts[name]["inputs"][key]: tensor for key, tensor in tensors.items()})
        return [found[output] for output in facts[name]["outputs"].values()]

    pixels = picture(16, 24, channels_last=True).astype(np.uint8)
    planes = normalised(pixels)
    last = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    wanted = answers(tiny_models.Classifier(), planes)
    assert_close(*run("plain", image=last), *wanted)
    assert_close(*run("folded", image=pixels), *wanted)
    for found, want in zip(run("detector", image=last), answers(tiny_models.Detector(), planes), strict=True):
        assert_close(found, want)
    ids, mask = IDS[1:], MASK[1:]
    found = run("encoder", input_ids=ids.astype(np.int32), attention_mask=mask.astype(np.int32))
    assert_close(*found, *answers(tiny_models.Encoder(), ids, mask))
    assert facts["plain"]["layout"] == "nhwc" and facts["folded"]["folded"]
    assert list(facts["detector"]["outputs"]) == list(OUTPUTS)


@pytest.mark.parametrize("step", [torch_litert.export, torch_coreml.export])
def test_fixed_shapes_only(step: Step, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="fixed shapes: expected `dynamic: false`"):
        step({}, tmp_path, ENCODER | {"dynamic": True}, quietly)


def test_a_stretched_operand_goes_to_its_operator_as_it_is() -> None:
    import torch

    class Stretching(torch.nn.Module):
        def forward(self, x: Any) -> dict[str, Any]:
            largest = x.amax(-1, keepdim=True)
            return {"product": x * largest.expand_as(x), "pair": torch.cat([x, largest.expand_as(x)], -1)}

    net = Net(Stretching().eval(), {"x": torch.arange(12.0).reshape(3, 4)}, ("product", "pair"), {})
    found = torch_litert.without_expansions(net)
    # Joining two tensors stretches none of them: there it stays.
    assert sum("expand" in str(node.target) for node in found.graph.nodes) == 1
    for name, tensor in net.module(**net.examples).items():
        assert torch.equal(found(**net.examples)[name], tensor)


@pytest.mark.parametrize(("window", "ceil", "whole"), [(8, True, True), (4, True, False), (2, False, False)])
def test_a_pooling_larger_than_the_picture_is_its_mean(window: int, *, ceil: bool, whole: bool) -> None:
    import torch

    class Pooling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = torch.nn.AvgPool2d(window, ceil_mode=ceil)

        def forward(self, x: Any) -> dict[str, Any]:
            return {"mean": self.pool(x)}

    module = Pooling().eval()
    net = Net(module, {"x": torch.arange(32.0).reshape(1, 2, 4, 4)}, ("mean",), {})
    before = module(**net.examples)["mean"]
    torch_litert.pool_as_a_whole(net)
    assert isinstance(module.pool, torch.nn.AdaptiveAvgPool2d) is whole
    assert torch.equal(module(**net.examples)["mean"], before)
