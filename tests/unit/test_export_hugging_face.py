"""Hugging Face folders: encoders and classifiers of texts and pictures, and the folders that are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from converters.export import hugging_face
from converters.step import MODEL_FILES
from converters.verify.mil import MilSession
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.onnxruntime import OnnxRuntime

IDS = np.array([[3, 1, 4, 1, 5, 9], [6, 5, 3, 0, 0, 0]])
MASK = np.array([[1] * 6, [1] * 3 + [0] * 3])
TEXT: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 32,
}


def quietly(share: float, doing: str) -> None:
    """Progress that nobody watches."""


def saved(model: Any, folder: Path) -> Any:
    model.eval().save_pretrained(folder)
    return model


def bert(kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return getattr(transformers, f"Bert{kind}")(transformers.BertConfig(**TEXT, **more))


def answer(model: Any, **tensors: Any) -> Any:
    with torch.no_grad():
        return model(**{name: torch.from_numpy(tensor) for name, tensor in tensors.items()})[0].numpy()


@pytest.fixture
def encoder(tmp_path: Path) -> Any:
    return saved(bert("Model"), tmp_path / "folder")


def test_an_encoder_takes_texts_of_any_length(encoder: Any, tmp_path: Path) -> None:
    facts = hugging_face.export_onnx({"source": tmp_path / "folder"}, tmp_path, {}, quietly)
    session = OnnxRuntime().open(tmp_path / MODEL_FILES["onnx"], options=EngineOptions())
    assert [str(spec) for spec in session.outputs] == ["last_hidden_state float32 (?, ?, 16)"]
    assert list(facts["inputs"]) == ["input_ids", "attention_mask", "token_type_ids"]
    for length in (6, 4):
        given = {"input_ids": IDS[:, :length].copy(), "attention_mask": MASK[:, :length].copy()}
        given["token_type_ids"] = np.zeros_like(given["input_ids"])
        found = session.run(given)["last_hidden_state"]
        # What stands at padding means nothing.
        tokens = given["attention_mask"].astype(bool)
        assert np.allclose(found[tokens], answer(encoder, **given)[tokens], atol=1e-5)


def test_an_encoder_in_core_ml_has_one_length(encoder: Any, tmp_path: Path) -> None:
    task = {"kind": "embedding", "input": {"max_length": 6, "pad": "max_length"}}
    options = {"task": task, "precision": "fp32"}
    hugging_face.export_coreml({"source": tmp_path / "folder"}, tmp_path, options, quietly)
    session = MilSession(tmp_path / MODEL_FILES["coreml"])
    given = {"input_ids": IDS[1:], "attention_mask": MASK[1:], "token_type_ids": np.zeros((1, 6), np.int64)}
    found = session.run({name: tensor.astype(np.int32) for name, tensor in given.items()})
    assert np.allclose(found["last_hidden_state"][0, :3], answer(encoder, **given)[0, :3], atol=1e-5)


def test_core_ml_takes_a_length_of_all_the_positions_there_are(encoder: Any, tmp_path: Path) -> None:
    # Torch makes an alias of the slice that takes all of them, which coremltools does not know.
    most = TEXT["max_position_embeddings"]
    task = {"kind": "embedding", "input": {"max_length": most, "pad": "max_length"}}
    options = {"task": task, "precision": "fp32"}
    hugging_face.export_coreml({"source": tmp_path / "folder"}, tmp_path, options, quietly)
    session = MilSession(tmp_path / MODEL_FILES["coreml"])
    given = {"input_ids": np.arange(most)[None] % 40, "attention_mask": np.ones((1, most), np.int64)}
    given["token_type_ids"] = np.zeros((1, most), np.int64)
    found = session.run({name: tensor.astype(np.int32) for name, tensor in given.items()})
    assert np.allclose(found["last_hidden_state"], answer(encoder, **given), atol=1e-5)


def test_a_classifier_of_texts_brings_its_labels(tmp_path: Path) -> None:
    labels = {0: "bad", 1: "good", 2: "odd"}
    model = saved(bert("ForSequenceClassification", id2label=labels, type_vocab_size=1), tmp_path / "folder")
    facts = hugging_face.export_onnx({"source": tmp_path / "folder"}, tmp_path, {"opset": 17}, quietly)
    session = OnnxRuntime().open(tmp_path / MODEL_FILES["onnx"], options=EngineOptions())
    given = {"input_ids": IDS[:1], "attention_mask": MASK[:1]}
    assert np.allclose(session.run(given)["logits"], answer(model, **given), atol=1e-5)
    assert facts["labels"] == ["bad", "good", "odd"]


def test_a_language_model_gives_its_token_vectors(tmp_path: Path) -> None:
    saved(bert("ForMaskedLM"), tmp_path / "folder")
    net = hugging_face.load(tmp_path / "folder", {"max_length": 8}, dynamic=False)
    assert net.outputs == ("last_hidden_state",)
    assert {name: tuple(tensor.shape) for name, tensor in net.examples.items()}["input_ids"] == (1, 8)
    assert net.warnings == ("the head of BertForMaskedLM is left out: token vectors go out",)


def test_a_classifier_of_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, image_size=32,
        patch_size=16, num_labels=3,
    )  # fmt: skip
    model = saved(transformers.ViTForImageClassification(config), tmp_path / "folder")
    options = {"input": {"layout": "nchw", "scale": 1 / 255}, "fold": True}
    facts = hugging_face.export_onnx({"source": tmp_path / "folder"}, tmp_path, options, quietly)
    session = OnnxRuntime().open(tmp_path / MODEL_FILES["onnx"], options=EngineOptions())
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) / 255, np.float32)
    found = session.run({"pixel_values": pixels})["logits"]
    assert np.allclose(found, answer(model, pixel_values=planes), atol=1e-5)
    assert facts["folded"] is True


def rewrite(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def pickle_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "expected a readable config.json"),
        (pickle_it, "expected model.safetensors, got config.json, pytorch_model.bin.*--trust-source"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), "transformers cannot load"),
        (rewrite(architectures=["BertForCausalLM"]), "expected an encoder.*got BertForCausalLM"),
        (rewrite(is_decoder=True), "expected an encoder"),
        (rewrite(model_type="gpt2", architectures=["GPT2Model"]), "expected an encoder.*got GPT2Model"),
        (rewrite(model_type="ours", auto_map={"AutoModel": "ours.Net"}), "an encoder known to transformers"),
        (rewrite(num_hidden_layers=2), r"do not belong to its config.json.*16 missing.*\(encoder.layer.1"),
    ],
)
def test_folders_that_are_refused(
    change: Callable[[Path], Any], says: str, encoder: Any, tmp_path: Path
) -> None:
    change(tmp_path / "folder")
    with pytest.raises(ConversionError, match=says):
        hugging_face.load(tmp_path / "folder", {}, dynamic=False)


def test_a_length_the_model_was_not_made_for(encoder: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="max_length: expected at most 32 tokens, got 64"):
        hugging_face.load(tmp_path / "folder", {"max_length": 64}, dynamic=False)
