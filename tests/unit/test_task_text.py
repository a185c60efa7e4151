"""Classes and spans of texts: long ones, how tokens become words, and wrong declarations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from edge_runtime.contract.errors import BundleError, ConfigError, EngineError, InputError, TooLargeError
from edge_runtime.contract.result import (
    Classification,
    Detections,
    Embedding,
    Entities,
    Entity,
    Finish,
    Generation,
    TextClassification,
    Values,
)
from edge_runtime.contract.task import TaskSpec
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.local_model import open_any_model, this_device
from edge_runtime.predict import run_rows
from edge_runtime.tasks.confidence import confidence_of
from edge_runtime.tasks.make import make_any_task, make_task
from edge_runtime.tasks.spans import Word, continues, join
from tests.simulators.text_bundles import write_bundle, write_words

NAMES = ("bad", "fine", "good", "great", "Ada", "Lovelace", "London", "met", "in")
MOOD = ("negative", "positive")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def declared(kind: str, **more: Any) -> TaskSpec:
    return TypeAdapter[TaskSpec](TaskSpec).validate_python({"kind": kind, **more})


def moods() -> Any:
    """Logits of each word: bad is negative, the others more and more positive; names say nothing."""
    table = np.zeros((4 + len(NAMES), 2), np.float32)
    table[4:8] = [[4, 0], [0, 1], [0, 3], [0, 5]]
    return table


def tags() -> Any:
    table = np.zeros((4 + len(NAMES), len(TAGS)), np.float32)
    table[:, 0] = 4
    for word, tag in (("Ada", "B-PER"), ("Lovelace", "I-PER"), ("London", "B-LOC")):
        table[4 + NAMES.index(word)] = 5 * np.eye(len(TAGS))[TAGS.index(tag)]
    return table


def opened(folder: Path, spec: TaskSpec, **more: Any) -> Any:
    table = moods() if spec.kind == "text-classification" else tags()
    return open_any_model(
        write_bundle(folder, NAMES, table, spec, **more), this_device("auto"), engine="onnxruntime"
    )


def test_classes_of_a_text(tmp_path: Path) -> None:
    model = opened(tmp_path, declared("text-classification", labels=MOOD))
    found = model.predictor.predict("great good")
    assert isinstance(found, TextClassification)
    assert found.labels[found.classes[0]] == "positive"
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-8 / 4)), abs=1e-6)  # (5 + 3) over four tokens
    assert found.scores.sum() == pytest.approx(1)
    assert (found.tokens, found.truncated, found.windows) == (4, False, 1)
    assert model.predictor.warm_up() is not None
    model.predictor.close()


@pytest.mark.parametrize("batch", [None, 1])
def test_a_long_text_is_looked_at_in_windows(tmp_path: Path, batch: int | None) -> None:
    spec = declared(
        "text-classification", labels=MOOD, input={"max_length": 5, "overflow": "window", "overlap": 1}
    )
    model = opened(tmp_path, spec, batch=batch)
    # Three words a window: "bad bad bad", "bad great great", "great great": weights 3, 2, 1 of 6.
    found = model.predictor.predict("bad bad bad great great great")
    assert (found.tokens, found.truncated, found.windows) == (8, False, 3)
    means = [[12 / 5, 0], [4 / 5, 2], [0, 10 / 4]]
    each = np.exp(means) / np.exp(means).sum(axis=1, keepdims=True)
    expected = (np.array([3, 2, 1]) / 6) @ each
    scores = dict(zip(found.classes.tolist(), found.scores.tolist(), strict=True))
    assert [scores[0], scores[1]] == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_very_long_text_takes_no_memory_without_a_bound(tmp_path: Path) -> None:
    spec = declared(
        "text-classification", labels=MOOD, input={"max_length": 6, "overflow": "window", "overlap": 2}
    )
    model = opened(tmp_path, spec)
    asked: list[int] = []
    whole = model.session

    class Counting:
        inputs, outputs, provider = whole.inputs, whole.outputs, whole.provider

        def run(self, inputs: Any) -> Any:
            asked.append(len(inputs["input_ids"]))
            return whole.run(inputs)

        def close(self) -> None:
            whole.close()

    tensors, _ = model.predictor.task.preprocess("good " * 100)
    together = run_rows(whole, tensors)
    parts = run_rows(Counting(), tensors, 8)
    assert asked == [8] * 6 + [1]
    np.testing.assert_allclose(parts["logits"], together["logits"], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("good " * 12, "14 tokens"),  # 11 fit into three windows that share two each
        ("good " * 1000, "5000 characters"),
        (" " * 900 + "good", "904 characters"),  # not even tokenized
    ],
)
def test_a_text_of_too_many_windows_is_refused(tmp_path: Path, text: str, got: str) -> None:
    windows = {"max_length": 6, "overflow": "window", "overlap": 1, "max_windows": 3}
    model = opened(tmp_path, declared("text-classification", labels=MOOD, input=windows))
    assert model.predictor.predict("good " * 10).windows == 3
    with pytest.raises(TooLargeError) as caught:
        model.predictor.predict(text)
    assert str(caught.value).startswith(f"text: expected at most 12 tokens (3 windows), got {got}")


def test_a_huge_text_is_not_tokenized_to_its_end(tmp_path: Path) -> None:
    model = opened(tmp_path, declared("text-classification", labels=MOOD, input={"max_length": 5}))
    found = model.predictor.predict("bad" + " " * 1000 + "good")  # 64 characters a token: "good" is beyond
    assert (found.labels[found.classes[0]], found.tokens, found.truncated) == ("negative", 3, True)
    refusing = {"max_length": 5, "overflow": "refuse"}
    model = opened(tmp_path / "refusing", declared("text-classification", labels=MOOD, input=refusing))
    with pytest.raises(TooLargeError, match="at most 5 tokens, got 1000 characters"):
        model.predictor.predict("bad " * 250)


def test_the_end_of_a_long_text_is_cut_and_the_answer_says_so(tmp_path: Path) -> None:
    spec = declared("text-classification", labels=MOOD, input={"max_length": 5})
    found = opened(tmp_path, spec).predictor.predict("bad bad bad great great great")
    assert (found.labels[found.classes[0]], found.tokens, found.truncated) == ("negative", 5, True)


def test_a_long_text_is_refused(tmp_path: Path) -> None:
    spec = declared("text-classification", labels=MOOD, input={"max_length": 5, "overflow": "refuse"})
    model = opened(tmp_path, spec)
    assert model.predictor.predict("bad bad bad").tokens == 5
    with pytest.raises(TooLargeError, match="text: expected at most 5 tokens, got 12 tokens") as caught:
        model.predictor.predict("bad " * 10)
    assert "overflow: window" in (caught.value.do or "")


@pytest.mark.parametrize(
    ("activation", "scores"),
    [("sigmoid", [0.880797, 0.5]), ("none", None), ("softmax", [0.880797, 0.119203])],
)
def test_activations(tmp_path: Path, activation: str, scores: list[float] | None) -> None:
    spec = declared("text-classification", labels=MOOD, activation=activation)
    model = opened(tmp_path, spec)
    if scores is None:
        with pytest.raises(BundleError, match=r"expected scores in \[0, 1\], got 2"):
            model.predictor.predict("great good")
    else:
        assert model.predictor.predict("great good").scores.tolist() == pytest.approx(scores, abs=1e-5)


def test_spans_of_a_text(tmp_path: Path) -> None:
    model = opened(tmp_path, declared("token-classification", labels=TAGS))
    text = "  Ada Lovelace met  Ada in London"
    found = model.predictor.predict(text)
    assert isinstance(found, Entities)
    assert [(one.label, one.text) for one in found.entities] == [
        ("PER", "Ada Lovelace"),
        ("PER", "Ada"),
        ("LOC", "London"),
    ]
    assert all(text[one.start : one.end] == one.text for one in found.entities)
    assert found.entities[0].score == pytest.approx(np.exp(5) / (np.exp(5) + 4), abs=1e-6)
    assert (found.tokens, found.truncated, found.windows) == (8, False, 1)


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_windows_give_the_spans_of_the_whole(tmp_path: Path, overlap: int, batch: int | None) -> None:
    text = "Ada Lovelace met Ada in London in London met bad Ada Lovelace Lovelace"
    whole = opened(tmp_path / "whole", declared("token-classification", labels=TAGS)).predictor.predict(text)
    windowed = declared(
        "token-classification",
        labels=TAGS,
        input={"max_length": 5, "overflow": "window", "overlap": overlap},
    )
    found = opened(tmp_path / "windows", windowed, batch=batch).predictor.predict(text)
    assert found.windows > 3
    assert (found.entities, found.tokens) == (whole.entities, whole.tokens)


def test_doubtful_spans_are_left_out(tmp_path: Path) -> None:
    model = opened(tmp_path, declared("token-classification", labels=TAGS, min_score=0.99))
    assert model.predictor.predict("Ada Lovelace").entities == ()


def words(*labelled: tuple[str, str]) -> tuple[str, list[Word]]:
    text = ""
    found: list[Word] = []
    for word, label in labelled:
        found.append(Word(label, 0.5, len(text), len(text) + len(word)))
        text += f"{word} "
    return text, found


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("O O O", []),
        ("B-A I-A O", ["A:x y"]),
        ("B-A B-A I-A", ["A:x", "A:y z"]),
        ("I-A I-A O", ["A:x y"]),
        ("B-A I-B I-B", ["A:x", "B:y z"]),
        ("O I-A B-A", ["A:y", "A:z"]),
        ("A A B", ["A:x y", "B:z"]),
        ("A O A", ["A:x", "A:z"]),
    ],
)
def test_labels_become_spans(labels: str, spans: list[str]) -> None:
    text, found = words(*zip("xyz", labels.split(), strict=True))
    assert [f"{one.label}:{one.text}" for one in join(text, found, "O")] == spans


def test_spans_have_no_blanks_at_their_ends() -> None:
    text = "so  Ada , then"
    found = list(join(text, [Word("B-P", 1, 2, 8), Word("O", 1, 8, 14)], "O"))
    assert found == [Entity("P", 4, 7, "Ada", 1)]
    assert list(join(text, [Word("B-P", 1, 2, 4)], "O")) == []


@pytest.mark.parametrize(
    ("text", "end", "start", "same", "expected"),
    [
        ("playing", 4, 4, True, True),  # play + ing
        ("U.S.", 1, 1, True, False),  # a letter and a dot
        ("Paris,", 5, 5, True, False),
        ("a b", 1, 2, True, False),
        ("ab", 1, 1, False, False),  # two words for the tokenizer
        ("東京", 1, 1, True, False),  # wide characters are words
        ("é", 1, 0, False, True),  # two parts of one character
    ],
)
def test_tokens_become_words(text: str, end: int, start: int, same: bool, expected: bool) -> None:
    assert continues(text, end, start, same=same) is expected


def test_a_word_has_the_label_of_its_first_token(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "love": 1, "##lace": 2, "met": 3}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces.save(str(tmp_path / "tokenizer.json"))
    task = make_any_task(
        declared("token-classification", labels=TAGS),
        [TensorSpec("input_ids", "int64", (None, None))],
        [TensorSpec("logits", "float32", (None, None, len(TAGS)))],
        tmp_path / "tokenizer.json",
    )
    _, tokens = task.preprocess("lovelace met")
    logits = np.zeros((1, 3, len(TAGS)), np.float32)
    logits[0, 0, 1] = logits[0, 1, 3] = logits[0, 2, 0] = 9  # B-PER, then B-LOC inside the word
    found = task.postprocess({"logits": logits}, tokens)
    assert [(one.label, one.text) for one in found.entities] == [("PER", "lovelace")]


@pytest.mark.parametrize(
    ("kind", "more", "outputs", "message"),
    [
        ("text-classification", {"labels": MOOD}, (None, 3), r"expected \(1, 2\), got \(\?, 3\)"),
        ("text-classification", {"labels": MOOD}, (None, None, 2), r"expected \(1, 2\)"),
        ("token-classification", {"labels": TAGS}, (None, 5), r"expected \(1, \?, 5\)"),
        ("token-classification", {"labels": TAGS}, (None, None, 4), r"expected \(1, \?, 5\)"),
        (
            "text-classification",
            {"labels": MOOD, "input": {"max_length": 6, "overflow": "window", "overlap": 4}},
            (None, 2),
            "overlap of windows: expected less than the 4 tokens",
        ),
    ],
)
def test_what_does_not_belong_together(
    tmp_path: Path, kind: str, more: Any, outputs: Any, message: str
) -> None:
    ins = [TensorSpec("input_ids", "int64", (None, None))]
    with pytest.raises(BundleError, match=message):
        make_any_task(
            declared(kind, **more),
            ins,
            [TensorSpec("out", "float32", outputs)],
            write_words(tmp_path / "t.json"),
        )


def test_the_label_outside_is_a_label() -> None:
    with pytest.raises(ValidationError, match="outside: expected one of the labels A, B, got O"):
        declared("token-classification", labels=("A", "B"))


def test_answers_that_are_no_numbers_or_of_another_shape(tmp_path: Path) -> None:
    ins = [TensorSpec("input_ids", "int64", (None, None))]
    outs = [TensorSpec("out", "float32", (None, None, 5))]
    task = make_any_task(
        declared("token-classification", labels=TAGS), ins, outs, write_words(tmp_path / "t.json")
    )
    _, tokens = task.preprocess("w1 w2")
    with pytest.raises(EngineError, match="NaN or infinity"):
        task.postprocess({"out": np.full((1, 4, 5), np.nan, np.float32)}, tokens)
    with pytest.raises(BundleError, match=r"expected \(1, 4, 5\), got \(1, 3, 5\)"):
        task.postprocess({"out": np.zeros((1, 3, 5), np.float32)}, tokens)


@pytest.mark.parametrize("kind", ["text-classification", "token-classification"])
def test_wrong_texts(tmp_path: Path, kind: str) -> None:
    labels = MOOD if kind == "text-classification" else TAGS
    model = opened(tmp_path, declared(kind, labels=labels))
    for wrong, message in ((5, "expected a string, got int"), ("a\udc80", "characters that UTF-8 has")):
        with pytest.raises(InputError, match=message):
            model.predictor.predict(wrong)


def test_what_a_kind_cannot_be() -> None:
    generation = declared("generation", context_length=8, end_tokens=["x"])
    with pytest.raises(ConfigError, match="answers in one run"):
        make_any_task(generation, [], [])
    with pytest.raises(ConfigError, match=r"a model for pictures.*kind 'text-classification'"):
        make_task(declared("text-classification", labels=MOOD), [], [])


SCORES = np.array([0.7, 0.2], np.float32)
IDS = np.array([1, 0], np.int32)
ENTITY = Entity("PER", 0, 3, "Ada", 0.9)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TextClassification(IDS, SCORES, MOOD, 3, truncated=False), 0.7),
        (Classification(IDS, SCORES, MOOD), 0.7),
        (Classification(IDS[:0], SCORES[:0], MOOD), 0.0),
        (Detections(np.zeros((2, 4), np.float32), SCORES, IDS, MOOD), 0.7),
        (Detections.empty(MOOD), 0.0),
        (Entities((ENTITY, Entity("LOC", 4, 5, "x", 0.4)), 3, truncated=False), 0.4),
        (Entities((), 3, truncated=False), 1.0),
        (Generation("x", Finish.STOP, 1, 1, 0.25), 0.25),
        (Embedding(SCORES, 3, truncated=False), 1.0),
        (Values({"x": SCORES}, ()), 1.0),
    ],
)
def test_confidence(value: Any, expected: float) -> None:
    assert confidence_of(value) == pytest.approx(expected)
