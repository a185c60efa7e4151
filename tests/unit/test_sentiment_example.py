"""The sentiment example's own nets: the fit, honest probabilities, and a bag of words as a device runs it."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.task import TextClassificationSpec, TextInput
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.predict import ValuePredictor
from edge_runtime.tasks.make import make_any_task

TEXTS = ("good good day", "a good meal", "bad day", "a bad bad meal", "good night", "bad night !", "!")
LABELS = np.array([1, 1, 0, 0, 1, 0, 0])


@pytest.fixture(scope="module")
def nets():
    file = Path(__file__).resolve().parents[2] / "examples" / "sentiment" / "nets.py"
    spec = importlib.util.spec_from_file_location("sentiment_nets", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_fit_is_where_the_penalised_likelihood_is_flat(nets):
    dice = np.random.default_rng(1)
    x = dice.normal(size=(200, 3))
    y = (x @ [1.0, -2.0, 0.5] + 0.3 + dice.logistic(size=200) > 0).astype(np.int64)
    line = nets.fit(x, y, strength=2.0)
    p = 1 / (1 + np.exp(-line.logits(x)))
    np.testing.assert_allclose(x.T @ (p - y) + line.weights / 2.0, 0, atol=1e-8)
    assert abs((p - y).sum()) < 1e-8


def test_probabilities_become_as_sure_as_they_are_right(nets):
    dice = np.random.default_rng(2)
    x = dice.normal(size=(4000, 1))
    y = (x[:, 0] + dice.logistic(size=4000) > 0).astype(np.int64)
    boastful = nets.Line(np.array([3.0]), 0.0)
    honest = nets.honest(boastful, x, y)
    assert honest.weights[0] == pytest.approx(1, abs=0.1)


def test_a_bag_of_words_answers_as_its_formula_says(nets, tmp_path):
    tokenizer = nets.word_tokenizer(TEXTS)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counts = nets.word_counts(tokenizer, TEXTS, longest=8)
    line = nets.fit(counts, LABELS, strength=1.0)
    nets.words_model(line, tmp_path / "model.onnx")
    session = load_engine("onnxruntime").open(tmp_path / "model.onnx", options=EngineOptions(threads=1))
    spec = TextClassificationSpec(
        kind="text-classification", input=TextInput(max_length=8), labels=("negative", "positive")
    )
    try:
        task = make_any_task(spec, session.inputs, session.outputs, tmp_path / "tokenizer.json")
        predictor = ValuePredictor(task, session, TEXTS[0])
        for text, expected in zip(TEXTS, line.logits(counts), strict=True):
            answer = predictor.predict(text)
            positive = float(answer.scores[list(answer.classes).index(1)])
            assert positive == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-5)
        assert predictor.predict("a good day").classes[0] == 1
    finally:
        session.close()
