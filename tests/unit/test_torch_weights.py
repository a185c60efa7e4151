"""Weights of torch modules: every packing that is met, and what is wrong with a file, in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from converters.export.torch_source import load
from converters.recipe import Source
from edge_runtime.contract.errors import ConversionError
from tests.simulators import tiny_models

State = dict[str, torch.Tensor]
PICTURE = {"name": "image", "shape": [1, 3, 16, 24]}
SOURCE: dict[str, Any] = {
    "module": "tests.simulators.tiny_models:Classifier",
    "arguments": {"classes": 3},
    "inputs": [PICTURE],
}


def loaded(file: Path, **source: Any) -> torch.nn.Module:
    return load(Source.model_validate(SOURCE | source), {"source": file}).module


def packed_safely(state: State, file: Path) -> Path:
    save_file(state, file.with_suffix(".safetensors"))
    return file.with_suffix(".safetensors")


def packed(wrap: Callable[[State], Any]) -> Callable[[State, Path], Path]:
    def pack(state: State, file: Path) -> Path:
        torch.save(wrap(state), file)
        return file

    return pack


@pytest.mark.parametrize(
    "pack",
    [
        packed(lambda state: state),
        packed(lambda state: {"epoch": 3, "model": {"state_dict": state}}),
        packed(lambda state: {f"module.{key}": tensor for key, tensor in state.items()}),
        packed(lambda state: {key: t.double() for key, t in state.items() if "batches" not in key}),
        packed_safely,
    ],
)
def test_packings(pack: Callable[[State, Path], Path], tmp_path: Path) -> None:
    module = tiny_models.Classifier(classes=3).eval()
    with torch.no_grad():
        module.head.bias += 10
    found = loaded(pack(module.state_dict(), tmp_path / "weights.pth"))
    picture = torch.rand(1, 3, 16, 24)
    assert torch.allclose(found(picture)["output"], module(picture), atol=1e-6)


def without_bias(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if key != "head.bias"} | {"tail": torch.ones(1)}


def diverged(state: State) -> State:
    return state | {"features.3.bias": torch.full((16,), torch.nan)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_bias, r"do not belong to Classifier.*1 missing \(head.bias\) and 1 too many \(tail\)"),
        (diverged, r"weight 'features.3.bias': expected numbers, got 16 NaN"),
        (lambda state: state | {"head.bias": torch.zeros(7)}, r"expected \(3,\), got \(7,\)"),
        (lambda state: {"epoch": 3}, r"a state dict: names with tensors"),
        (lambda state: tiny_models.Classifier(3), r"can run any code.*a pickle of tests.*--trust-source"),
    ],
)
def test_what_is_refused(change: Callable[[State], Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(change(dict(tiny_models.Classifier(classes=3).state_dict())), file)
    with pytest.raises(ConversionError, match=says):
        loaded(file)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("weights.pth", "a file that torch.save wrote"),
        ("weights.safetensors", "expected safetensors"),
        ("missing.pth", "expected a file, got nothing"),
    ],
)
def test_damaged_files(name: str, says: str, tmp_path: Path) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(ConversionError, match=says):
        loaded(tmp_path / name)


def test_a_program_is_loaded_only_with_trust(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    file.write_bytes(b"no program")
    for trust, says in ((False, "can run any code when it is loaded"), (True, "that this torch can read")):
        with pytest.raises(ConversionError, match=says):
            load(Source(path=file, trust=trust), {"source": file})


def test_a_trusted_pickle_is_a_module(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(tiny_models.Classifier(3), file)
    net = load(Source.model_validate({"path": file, "inputs": [PICTURE], "trust": True}), {"source": file})
    assert net.module(torch.rand(1, 3, 16, 24))["output"].shape == (1, 3)
    with pytest.raises(ConversionError, match=r"a state dict for .*Classifier, got a whole module"):
        loaded(file, trust=True)
