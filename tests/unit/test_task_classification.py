"""Classification: activations, order, and declarations that do not fit the model."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import BundleError, ConfigError, EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Classification
from edge_runtime.contract.task import ClassificationSpec, ImageInput
from edge_runtime.contract.tensors import Quantization, TensorSpec
from edge_runtime.tasks.activation import sigmoid, softmax
from edge_runtime.tasks.make import make_task

IMAGE = [TensorSpec("image", "float32", (1, 3, 32, 32))]
LABELS = "cat", "dog", "hen", "owl"
PICTURE = Picture.from_bgr(np.zeros((40, 60, 3), np.uint8))


def spec(**more: Any) -> ClassificationSpec:
    return ClassificationSpec(
        kind="classification", input=ImageInput(layout="nchw", fit="center_crop"), labels=LABELS, **more
    )


def answer(values: np.ndarray, **more: Any) -> Classification:
    min_score = more.pop("min_score", None)
    outputs = [TensorSpec("out", str(values.dtype), values.shape, more.pop("quantization", None))]
    task = make_task(spec(**more), IMAGE, outputs, min_score=min_score)
    tensors, undo = task.preprocess(PICTURE)
    assert tensors["image"].shape == (1, 3, 32, 32)
    found = task.postprocess({"out": values}, undo)
    assert isinstance(found, Classification)
    return found


LOGITS = np.array([[1.0, 3.0, -2.0, 3.0]], np.float32)


def test_softmax_best_first_and_earlier_of_equals_first() -> None:
    found = answer(LOGITS)
    powers = np.exp([3.0, 3.0, 1.0, -2.0])
    np.testing.assert_allclose(found.scores, powers / powers.sum(), rtol=1e-6)
    assert found.classes.tolist() == [1, 3, 0, 2]
    assert (found.scores.dtype, found.classes.dtype, found.labels) == (np.float32, np.int32, LABELS)


def test_sigmoid_and_none() -> None:
    np.testing.assert_allclose(
        answer(LOGITS, activation="sigmoid").scores, 1 / (1 + np.exp([-3.0, -3.0, -1.0, 2.0])), rtol=1e-6
    )
    ready = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    np.testing.assert_array_equal(answer(ready, activation="none").scores, ready[0, ::-1])


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1), (1, 1, 1, 4)])
def test_leftover_axes(shape: tuple[int, ...]) -> None:
    assert answer(LOGITS.reshape(shape)).classes[0] == 1


def test_top_k_and_min_score() -> None:
    assert answer(LOGITS, top_k=2).classes.tolist() == [1, 3]
    assert answer(LOGITS, min_score=0.3).classes.tolist() == [1, 3]
    assert len(answer(LOGITS, min_score=0.99).classes) == 0


def test_quantized_output() -> None:
    stored = np.array([[0, 255, 51, 102]], np.uint8)
    found = answer(stored, activation="none", quantization=Quantization((1 / 255,), (0,)))
    np.testing.assert_allclose(found.scores, [1, 0.4, 0.2, 0], atol=1e-6)


def test_labels_that_do_not_match() -> None:
    with pytest.raises(BundleError, match=r"'out'.*expected \(1, 4\).*got \(1, 1000\)"):
        answer(np.zeros((1, 1000), np.float32))


def test_not_a_number() -> None:
    with pytest.raises(EngineError, match="output 'out'"):
        answer(np.array([[1, np.nan, 0, 0]], np.float32))


def test_logits_declared_as_probabilities() -> None:
    with pytest.raises(BundleError, match=r"\[0, 1\]"):
        answer(LOGITS, activation="none")


def test_labels_to_keep_are_for_detectors() -> None:
    with pytest.raises(ConfigError, match="cat"):
        make_task(spec(), IMAGE, [TensorSpec("out", "float32", (1, 4))], keep=["cat"])


logits = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20)


@given(logits)
def test_activations_give_probabilities_for_any_logits(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert float(softmax(array).sum()) == pytest.approx(1, abs=1e-5)
    for scores in (softmax(array), sigmoid(array)):
        assert scores.dtype == np.float32
        assert ((scores >= 0) & (scores <= 1)).all()
        assert (np.diff(scores[np.argsort(array)]) >= 0).all()
