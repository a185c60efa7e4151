"""Embedding: tokens, what becomes of long texts, pooling, and declarations that do not fit the model."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.errors import BundleError, ConfigError, EngineError, InputError
from edge_runtime.contract.task import EmbeddingSpec, TextInput
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.tasks.make import make_any_task, make_task

NAMES = ("input_ids", "attention_mask", "token_type_ids")
WORDS = ("a", "bee", "sees", "the", "sea")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("text") / "tokenizer.json")


def write_tokenizer(path: Path, *, padding: dict[str, Any] | None = None, special: bool = True) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3} | {w: at for at, w in enumerate(WORDS, 4)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    if padding is not None:
        made.enable_padding(**padding)
    made.save(str(path))
    return path


def inputs(
    length: int | None = None, dtype: str = "int64", names: tuple[str, ...] = NAMES
) -> list[TensorSpec]:
    return [TensorSpec(name, dtype, (1 if length else None, length)) for name in names]


def outputs(*shape: int | None) -> list[TensorSpec]:
    return [TensorSpec("out", "float32", shape)]


def spec(max_length: int = 8, pad: Any = "longest", **more: Any) -> EmbeddingSpec:
    return EmbeddingSpec(kind="embedding", input=TextInput(max_length=max_length, pad=pad), **more)


def test_tokens_of_a_text(tokenizer: Path) -> None:
    task = make_any_task(spec(), inputs(), outputs(None, None, 2), tokenizer)
    tensors, undo = task.preprocess("a bee sees blue")
    assert tensors["input_ids"].tolist() == [[1, 4, 5, 6, 0, 2]]
    assert tensors["attention_mask"].tolist() == [[1] * 6]
    assert tensors["token_type_ids"].tolist() == [[0] * 6]
    assert tensors["input_ids"].dtype == np.int64
    assert undo.mask.tolist() == [[True] * 6]
    assert not undo.truncated


def test_a_fixed_length_is_filled_with_padding(tokenizer: Path) -> None:
    for declared, model in ((spec(pad="max_length"), inputs()), (spec(), inputs(8, "int32", NAMES[:2]))):
        task = make_any_task(declared, model, outputs(None, None, 2), tokenizer)
        tensors, undo = task.preprocess("a bee")
        assert tensors["input_ids"].tolist() == [[1, 4, 5, 2, 3, 3, 3, 3]]
        assert tensors["attention_mask"].tolist() == [[1] * 4 + [0] * 4]
        assert set(tensors) == {one.name for one in model}
        assert tensors["input_ids"].dtype == model[0].dtype
        assert undo.mask.tolist() == [[True] * 4 + [False] * 4]


def test_padding_as_the_tokenizer_declares_it(tmp_path: Path) -> None:
    padding = {"pad_id": 9, "pad_token": "x", "direction": "left", "length": 5}
    task = make_any_task(
        spec(pad="max_length"),
        inputs(),
        outputs(None, None, 2),
        write_tokenizer(tmp_path / "tokenizer.json", padding=padding),
    )
    tensors, undo = task.preprocess("a bee")
    assert tensors["input_ids"].tolist() == [[9, 9, 9, 9, 1, 4, 5, 2]]
    assert undo.mask.tolist() == [[False] * 4 + [True] * 4]


def test_a_long_text_is_cut_and_the_answer_says_so(tokenizer: Path) -> None:
    task = make_any_task(spec(max_length=4), inputs(), outputs(None, None, 2), tokenizer)
    for text, ids, cut in (("a bee", [1, 4, 5, 2], False), ("a bee sees the sea", [1, 4, 5, 2], True)):
        tensors, undo = task.preprocess(text)
        assert tensors["input_ids"].tolist() == [ids]
        found = task.postprocess({"out": np.ones((1, 4, 2), np.float32)}, undo)
        assert (found.tokens, found.truncated) == (4, cut)


TOKENS = np.array([[[1, 0], [3, 4], [5, 2], [7, 7]]], np.float32)


@pytest.mark.parametrize(
    ("pooling", "normalize", "vector"),
    [("mean", False, [3, 2]), ("cls", False, [1, 0]), ("mean", True, [3 / 13**0.5, 2 / 13**0.5])],
)
def test_pooling_leaves_padding_out(
    tokenizer: Path, pooling: str, normalize: bool, vector: list[float]
) -> None:
    declared = spec(max_length=4, pad="max_length", pooling=pooling, normalize=normalize)
    task = make_any_task(declared, inputs(), outputs(1, 4, 2), tokenizer)
    _, undo = task.preprocess("bee")
    found = task.postprocess({"out": TOKENS}, undo)
    np.testing.assert_allclose(found.vector, vector, rtol=1e-6)
    assert found.vector.dtype == np.float32


def test_a_model_that_pools_itself(tokenizer: Path) -> None:
    task = make_any_task(spec(pooling="none", normalize=False), inputs(), outputs(None, 2), tokenizer)
    _, undo = task.preprocess("bee")
    assert task.postprocess({"out": np.array([[3, 4]], np.float32)}, undo).vector.tolist() == [3, 4]


def test_names_in_tensorflow_dress(tokenizer: Path) -> None:
    model = inputs(8, "int32", ("serving_default_attention_mask:0", "serving_default_input_ids:0"))
    tensors, _ = make_any_task(spec(), model, outputs(1, 8, 2), tokenizer).preprocess("bee")
    assert set(tensors) == {one.name for one in model}


@pytest.mark.parametrize(
    ("declared", "ins", "outs", "message"),
    [
        (spec(), inputs(4), outputs(1, 4, 2), "at most 4 tokens, got max_length 8"),
        (spec(), inputs(names=("args_0",)), outputs(1, 4, 2), "input 'args_0' of a text model"),
        (
            spec(),
            inputs(names=("attention_mask",)),
            outputs(1, 4, 2),
            "inputs of a text model: expected input_ids",
        ),
        (spec(), inputs(dtype="float32"), outputs(1, 4, 2), "int32 or int64"),
        (spec(), inputs(), outputs(1, 2), "The model gives one vector"),
        (spec(pooling="none"), inputs(), outputs(1, 4, 2), "The model gives a vector for each token"),
        (spec(max_length=2), inputs(), outputs(1, None, 2), "more than the tokenizer's 2 special tokens"),
    ],
)
def test_what_does_not_belong_together(
    tokenizer: Path, declared: EmbeddingSpec, ins: Any, outs: Any, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        make_any_task(declared, ins, outs, tokenizer)


def test_wrong_texts(tokenizer: Path, tmp_path: Path) -> None:
    task = make_any_task(spec(), inputs(), outputs(None, None, 2), tokenizer)
    with pytest.raises(InputError, match="expected a string, got int"):
        task.preprocess(5)
    bare = write_tokenizer(tmp_path / "tokenizer.json", special=False)
    with pytest.raises(InputError, match="at least one token"):
        make_any_task(spec(), inputs(), outputs(None, None, 2), bare).preprocess("  ")


def test_no_numbers_are_no_answer(tokenizer: Path) -> None:
    task = make_any_task(spec(), inputs(), outputs(None, None, 2), tokenizer)
    _, undo = task.preprocess("bee")
    with pytest.raises(EngineError, match="NaN or infinity"):
        task.postprocess({"out": np.full((1, 3, 2), np.nan, np.float32)}, undo)


def test_without_a_tokenizer_or_its_library(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="expected a tokenizer, got none"):
        make_any_task(spec(), inputs(), outputs(None, None, 2))
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    for path in (broken, tmp_path / "absent.json"):
        with pytest.raises(BundleError, match=f"tokenizer {path}"):
            make_any_task(spec(), inputs(), outputs(None, None, 2), path)
    found = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "tokenizers":
            raise ImportError("No module named 'tokenizers'")
        return found(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineError, match=r"pip install 'edge-runtime\[text\]'"):
        make_any_task(spec(), inputs(), outputs(None, None, 2), tokenizer)


def test_a_camera_gets_no_text_model() -> None:
    with pytest.raises(ConfigError, match=r"a model for pictures.*kind 'embedding'"):
        make_task(spec(), inputs(), outputs(1, 4, 2))


@pytest.mark.parametrize("pooling", ["mean", "cls", "none"])
def test_vectors_of_windows_are_averaged(tokenizer: Path, pooling: str) -> None:
    declared = EmbeddingSpec(
        kind="embedding",
        input=TextInput(max_length=4, overflow="window", overlap=1),
        pooling=pooling,  # type: ignore[arg-type]
        normalize=False,
    )
    shape = (None, 2) if pooling == "none" else (None, None, 2)
    task = make_any_task(declared, inputs(), outputs(*shape), tokenizer)
    tensors, undo = task.preprocess("a bee sees")  # two words a window: "a bee", "bee sees"
    assert tensors["input_ids"].tolist() == [[1, 4, 5, 2], [1, 5, 6, 2]]
    given = np.array([[[1, 0]] * 4, [[4, 3]] * 4], np.float32)
    found = task.postprocess({"out": given[:, 0] if pooling == "none" else given}, undo)
    np.testing.assert_allclose(found.vector, [2, 1], rtol=1e-6)  # the first window adds two words of three
    assert (found.tokens, found.truncated) == (5, False)
