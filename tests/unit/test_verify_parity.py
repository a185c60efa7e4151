"""Parity of answers: outputs of other layouts and names, boxes found again, and what is not compared."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.verify.parity import Parity, Reading, aligned, match_boxes, sum_boxes
from edge_runtime.contract.result import Classification, Detections, Embedding, Entities, Values
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    ImageInput,
    NmsHead,
    TensorsSpec,
    TokenClassificationSpec,
    YoloHead,
)

IMAGE = ImageInput(layout="nchw")
LABELS = ("cat", "dog")
YOLO = DetectionSpec(kind="detection", input=IMAGE, head=YoloHead(format="yolo"), labels=LABELS)
NMS = DetectionSpec(kind="detection", input=IMAGE, head=NmsHead(format="nms"), labels=LABELS)
CLASSES = ClassificationSpec(kind="classification", input=IMAGE, labels=LABELS)


def boxes(*rows: tuple[float, ...]) -> Detections:
    """Of (x1, y1, x2, y2, score, class)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32), LABELS)


def numbers(
    spec: Any, *pairs: tuple[Reading, Reading | None], other: Any = None, **names: str
) -> dict[str, float]:
    parity = Parity(spec, other or spec, names or {"out": "out"})
    for mine, theirs in pairs:
        parity.add(mine, theirs)
    return parity.numbers()


@pytest.mark.parametrize(
    ("mine", "theirs", "order"),
    [
        ((1, 3, 4, 5), (1, 4, 5, 3), (0, 3, 1, 2)),
        ((1, 4, 5, 3), (1, 3, 4, 5), (0, 2, 3, 1)),
        ((1, 3, 4, 4), (1, 4, 4, 3), (0, 3, 1, 2)),
        ((1, 6, 9), (1, 9, 6), (0, 2, 1)),
    ],
)
def test_layouts_are_turned_back(mine: Any, theirs: Any, order: Any) -> None:
    array = np.random.default_rng(0).standard_normal(theirs)
    turned = aligned(np.zeros(mine), array)
    assert turned is not None
    np.testing.assert_array_equal(turned, array.transpose(order))


def test_axes_of_one_come_and_go_and_the_rest_is_refused() -> None:
    turned = aligned(np.zeros((1, 5)), np.arange(5.0).reshape(1, 5, 1, 1))
    assert turned is not None
    assert turned.tolist() == [[0, 1, 2, 3, 4]]
    assert aligned(np.zeros((1, 5)), np.zeros((1, 6))) is None
    assert aligned(np.zeros((1, 2, 3)), np.zeros((6,))) is None


def test_scores_that_are_all_zero_do_not_hide_behind_boxes() -> None:
    raw = np.full((1, 6, 10), 300, np.float32)
    raw[:, 4:] = 0.001
    raw[:, 4, 3] = 0.9
    dead = raw.copy()
    dead[:, 4:] = 0
    mine, theirs = boxes((0, 0, 9, 9, 0.9, 0)), boxes()
    found = numbers(YOLO, (Reading({"out": raw}, mine), Reading({"out": dead.transpose(0, 2, 1)}, theirs)))
    assert found["cosine.out.boxes"] == pytest.approx(1)
    assert found["cosine.out.scores"] == 0
    assert found["agreement.boxes"] == 0
    assert "agreement.boxes_own" not in found
    whole = numbers(CLASSES, (Reading({"out": raw}, _classes(0)), Reading({"out": dead}, _classes(0))))
    assert whole["cosine.out"] > 0.999  # what one number for the whole output would have said


def test_a_tagger_is_compared_at_the_tokens_of_the_text_however_far_it_is_padded() -> None:
    spec = TokenClassificationSpec(kind="token-classification", labels=("O", "B-X"))
    none = Entities((), 5, truncated=False)
    logits = np.array([[[9, 9], [1, 2], [3, 1], [9, 9], [7, 7]]], np.float32)
    padded = np.concatenate([logits[:, :3], np.full((1, 5, 2), -4, np.float32)], axis=1)
    inside = np.array([[False, True, True, False, False]])
    wider = np.array([[False, True, True, False, False, False, False, False]])
    pair = Reading({"out": logits}, none, inside), Reading({"out": padded}, none, wider)
    assert numbers(spec, pair)["cosine.out"] == pytest.approx(1)
    padded[0, 1] = -padded[0, 1]
    assert numbers(spec, pair)["cosine.out"] < 0.6


def test_suppressed_outputs_are_judged_by_their_boxes_alone() -> None:
    mine = boxes((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 1))
    swapped = boxes((20, 0, 30, 10, 0.81, 1), (0, 0, 10, 10, 0.79, 0))
    pair = Reading({"out": mine.boxes}, mine), Reading({"out": swapped.boxes}, swapped)
    for spec, other in ((NMS, NMS), (YOLO, NMS), (NMS, YOLO)):
        found = numbers(spec, pair, other=other)
        assert found["agreement.boxes"] == found["agreement.boxes_own"] == 1
        assert found["score_difference"] == pytest.approx(0.11)
        assert not any(key.startswith("cosine") for key in found)


def test_boxes_found_again() -> None:
    mine = boxes(
        (0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.6, 0), (40, 0, 50, 10, 0.26, 1), (60, 0, 70, 10, 0.2, 1)
    )
    theirs = boxes(
        (0, 0, 10, 7, 0.8, 0),  # IoU 0.7
        (20, 0, 30, 10, 0.6, 1),  # another class
        (40, 0, 50, 10, 0.24, 1),  # just under the threshold
        (60, 0, 70, 10, 0.9, 1),  # the source has it at 0.2
    )
    match = match_boxes(mine, theirs, 0.25)
    assert (match.mine, match.found, match.found_90) == (3, 2, 1)
    assert (match.theirs, match.known) == (3, 2)
    assert match.difference == pytest.approx(0.1)
    assert sum_boxes([match, match])["agreement.boxes"] == pytest.approx(2 / 3)
    assert sum_boxes([match_boxes(boxes(), boxes(), 0.25)]) == {}


def test_one_box_is_found_once() -> None:
    two = boxes((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0))
    assert match_boxes(two, boxes((0, 0, 10, 10, 0.9, 0)), 0.25).found == 1


corners = st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(51, 99)] * 2, st.floats(0, 1), st.integers(0, 1))


@given(st.lists(corners, max_size=6, unique_by=lambda row: row[:4]))
def test_every_box_is_found_in_the_same_answer(rows: list[tuple[float, ...]]) -> None:
    mine = boxes(*sorted(rows, key=lambda row: -row[4]))
    match = match_boxes(mine, mine, 0.25)
    assert match.found == match.found_90 == match.mine == match.known
    assert match.difference == 0


def _classes(*best: int) -> Classification:
    return Classification(np.array(best, np.int32), np.ones(len(best), np.float32), LABELS)


def test_top_1_and_medians() -> None:
    rows = [np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    pairs = [
        (
            Reading({"out": np.array([[1.0, 0.0]])}, _classes(0)),
            Reading({"other": row}, _classes(int(row.argmax()))),
        )
        for row in rows
    ]
    found = numbers(CLASSES, *pairs, out="other")
    assert found["agreement.top1"] == pytest.approx(2 / 3)
    assert found["cosine.out"] == 1
    assert found["max_abs.out"] == 1
    assert found["samples"] == 3


def test_samples_without_an_answer() -> None:
    reading = Reading({"out": np.ones((1, 2))}, _classes(0))
    assert numbers(CLASSES, (reading, reading), (reading, None))["agreement.answered"] == 0.5
    assert "agreement.answered" not in numbers(CLASSES, (reading, reading))


def test_embeddings_are_compared_when_they_are_finished() -> None:
    dice = np.random.default_rng(0)
    pairs = []
    for _ in range(5):
        vector = dice.standard_normal(8).astype(np.float32)
        mine = Reading({"out": np.zeros((1, 4, 8))}, Embedding(vector, 4, False))
        theirs = Reading({"out": np.ones((1, 128, 8))}, Embedding(vector * 2, 4, False))
        pairs.append((mine, theirs))
    found = numbers(EmbeddingSpec(kind="embedding"), *pairs)
    assert found["cosine.embedding"] == pytest.approx(1)
    assert found["agreement.pairs"] == pytest.approx(1)
    assert "cosine.out" not in found


@pytest.mark.parametrize(
    ("labels", "mine", "theirs", "agreement"),
    [
        ((), np.array([3]), np.array([3]), 1.0),
        ((), np.array([3]), np.array([4]), 0.0),
        (LABELS, np.array([[0.4, 0.6]]), np.array([[0.6, 0.4]]), 0.0),
        ((), np.array([[0.4]]), np.array([[0.5]]), None),
    ],
)
def test_classes_of_tables(labels: tuple[str, ...], mine: Any, theirs: Any, agreement: float | None) -> None:
    pair = tuple(Reading({"out": one}, Values({"out": one}, labels)) for one in (mine, theirs))
    found = numbers(TensorsSpec(kind="tensors", labels=labels), pair)
    assert found.get("agreement.top1") == agreement
