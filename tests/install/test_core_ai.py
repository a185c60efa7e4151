"""Core AI whole: of a torch module, an ONNX file and a folder of texts, measured by Apple's own runtime.

Its tool is made in an environment of its own, from a package index.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.export import torch_onnx
from edge_runtime.bundle import open_bundle
from tests.simulators import trained_texts as texts
from tests.simulators.conversions import RECIPE, call, furnish

pytestmark = [pytest.mark.install, pytest.mark.timeout(900)]
WANT = "want: {formats: [aimodel]}\n"
ONNX = "  path: model.onnx"
TORCH = """\
  module: tests.simulators.tiny_models:Classifier
  inputs: [{name: image, shape: [1, 3, 16, 24]}]"""
SOURCE: Any = {
    "module": "tests.simulators.tiny_models:Classifier",
    "inputs": [{"name": "image", "shape": [1, 3, 16, 24]}],
}
TEXTS = """\
name: words
source: {path: folder}
task: {kind: text-classification, input: {max_length: 16, pad: max_length}, labels: [bad, good]}
samples: {path: samples.txt, calibration: 8, verification: 8}
profiles: [iphone-recent]
"""


def convert(folder: Path, recipe: str) -> Any:
    """Convert, and give the receipt of the only variant."""
    (folder / "recipe.yaml").write_text(recipe + WANT, "utf-8")
    called = call(
        folder, folder / "recipe.yaml", "--out", folder / "bundle", "--cache", folder / "cache", "--json"
    )
    assert called.code == 0, called.err
    manifest = open_bundle(folder / "bundle").manifest
    assert [(one.id, one.profiles) for one in manifest.variants] == [("aimodel-fp32", ("iphone-recent",))]
    (receipt,) = manifest.receipts
    assert (receipt.engine, receipt.latency) == ("coreai-runtime", None)
    assert receipt.parity["agreement.top1"] == 1
    return receipt


@pytest.mark.parametrize("source", ["torch", "onnx"])
@pytest.mark.parametrize("fold", [False, True])
def test_pictures(source: str, fold: bool, tmp_path: Path) -> None:
    furnish(tmp_path)
    recipe = RECIPE.replace("[kiosk.yaml]", "[iphone-recent]")
    if source == "onnx":
        torch_onnx.export({}, tmp_path, {"source": SOURCE}, lambda share, doing: None)
        assert TORCH in recipe
        recipe = recipe.replace(TORCH, ONNX)
    receipt = convert(tmp_path, recipe + f"fold: {str(fold).lower()}\n")
    assert min(value for key, value in receipt.parity.items() if key.startswith("cosine.")) > 0.9999


def test_texts(tmp_path: Path) -> None:
    texts.save_classifier(tmp_path / "folder")
    dice = np.random.default_rng(21)
    lines = [texts.review(dice)[0] for _ in range(16)]
    (tmp_path / "samples.txt").write_text("\n".join(lines) + "\n", "utf-8")
    receipt = convert(tmp_path, TEXTS)
    assert receipt.parity["cosine.logits"] > 0.9999
