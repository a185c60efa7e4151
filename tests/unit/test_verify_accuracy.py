"""Measures of accuracy against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.verify.accuracy import (
    likenesses,
    macro_f1,
    of_boxes,
    of_classes,
    of_pairs,
    of_values,
    spearman,
)
from converters.verify.average_precision import THRESHOLDS, Found, Truth, average_precision, iou
from edge_runtime.contract.result import Detections, Embedding

BOX = (0, 0, 10, 10)
AWAY = (50, 50, 60, 60)


def truth(*boxes: tuple[float, ...], classes: tuple[int, ...] = (), crowd: tuple[bool, ...] = ()) -> Truth:
    count = len(boxes)
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes or (0,) * count, np.int32),
        np.array(crowd or (False,) * count, np.bool_),
    )


def found(*boxes: tuple[float, ...], scores: tuple[float, ...] = (), classes: tuple[int, ...] = ()) -> Found:
    count = len(boxes)
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores or np.linspace(0.9, 0.1, count), np.float32),
        np.array(classes or (0,) * count, np.int32),
    )


def test_found_exactly() -> None:
    assert average_precision([truth(BOX)], [found(BOX)]) == (1, 1)


def test_found_at_some_thresholds() -> None:
    # 100 of 100 pixels and 60 of them: IoU 0.6, over three of the ten thresholds.
    both = average_precision([truth(BOX)], [found((0, 0, 10, 6))])
    assert both == (pytest.approx(0.3), 1)
    assert THRESHOLDS[2] == 0.6


def test_a_mistake_before_the_only_hit_of_two_objects() -> None:
    # Precision is 1/2 up to recall 1/2: 51 of the 101 recalls, 0, 0.01, … 0.5.
    both = average_precision([truth(BOX, AWAY)], [found((20, 20, 30, 30), BOX)])
    assert both == (pytest.approx(51 / 101 / 2),) * 2


def test_precision_never_falls_with_recall() -> None:
    # Hit, mistake, hit: precision 1, 1/2, 2/3, made monotone: 1 up to recall 1/2, then 2/3.
    both = average_precision([truth(BOX, AWAY)], [found(BOX, (20, 20, 30, 30), AWAY)])
    assert both == (pytest.approx((51 + 50 * 2 / 3) / 101),) * 2


def test_an_object_is_found_once() -> None:
    both = average_precision(
        [truth(BOX), truth(AWAY)], [found(BOX, BOX, scores=(0.9, 0.8)), found(AWAY, scores=(0.7,))]
    )
    assert both == (pytest.approx((51 + 50 * 2 / 3) / 101),) * 2


def test_crowds_count_neither_way() -> None:
    scene = truth(BOX, (40, 40, 80, 80), crowd=(False, True))
    assert average_precision([scene], [found((41, 41, 50, 50), (60, 60, 70, 70), BOX)]) == (1, 1)
    assert average_precision([truth(BOX, crowd=(True,))], [found(BOX)]) is None


def test_classes_count_alike_and_strangers_not_at_all() -> None:
    scene = truth(BOX, AWAY, classes=(0, 1))
    assert average_precision([scene], [found(BOX, AWAY, classes=(0, 2))]) == (0.5, 0.5)


def test_nothing_found_and_nothing_there() -> None:
    assert average_precision([truth(BOX)], [found()]) == (0, 0)
    assert average_precision([truth()], [found(BOX)]) is None
    assert of_boxes([np.empty((0, 6))], [Detections.empty(("a",))]) == {}


def test_only_the_best_hundred_of_a_picture_count() -> None:
    mistakes = [(20 + 20 * at, 0, 30 + 20 * at, 10) for at in range(100)]
    assert average_precision([truth(BOX)], [found(*mistakes, BOX)]) == (0, 0)


def test_boxes_as_samples_have_them() -> None:
    row = np.array([[*BOX, 1, 0], [*AWAY, 0, 1]], np.float32)
    seen = found(BOX, classes=(1,))
    answer = Detections(seen.boxes, seen.scores, seen.classes, ("a", "b"))
    assert of_boxes([row], [answer]) == {"ap": 1, "ap50": 1}


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4), min_size=1, max_size=5))
def test_iou_of_boxes_with_themselves(corners: list[tuple[int, ...]]) -> None:
    boxes = np.array(
        [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners], np.float32
    )
    overlaps = iou(boxes, boxes)
    np.testing.assert_allclose(np.diag(overlaps), 1)
    np.testing.assert_allclose(overlaps, overlaps.T)
    assert iou(np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32)).tolist() == [[0]]


def test_classes_by_rank() -> None:
    ranked = [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [5, 4, 3, 2, 1]]
    measured = of_classes([0, 0, 0], ranked)
    assert measured["top1"] == pytest.approx(1 / 3)
    assert measured["top5"] == pytest.approx(2 / 3)
    assert "top5" not in of_classes([0], [[0, 1]])


def test_macro_f1() -> None:
    # Class 0: 2 hits, one missed; class 1: one hit, one too many: F1 4/5 and 2/3.
    assert macro_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_likenesses_of_pairs() -> None:
    vectors = [np.array(row, np.float32) for row in ([1, 0], [2, 2], [0, 0], [-3, 0])]
    assert likenesses(vectors) == pytest.approx([0.5**0.5, 0, -1, 0, -(0.5**0.5), 0])


def test_spearman() -> None:
    ranks = np.arange(5.0)
    assert spearman(ranks, ranks**3) == pytest.approx(1)
    assert spearman(ranks, -ranks) == pytest.approx(-1)
    # Ranks 0.5 0.5 2 3 against 0 1 2 3: 4.5 / sqrt(4.5 · 5).
    assert spearman(np.array([1.0, 1, 2, 3]), np.arange(4.0)) == pytest.approx(4.5 / 22.5**0.5)
    assert spearman(np.ones(3), np.arange(3.0)) is None


def test_pairs_of_embeddings() -> None:
    vectors = [np.array(v, np.float32) for v in ((1, 0), (1, 0.1), (0, 1), (-1, 0))]
    answers = [Embedding(vector, 3, False) for vector in vectors]
    pairs = np.array([(0, 1, 5.0), (0, 2, 2.0), (0, 3, 0.0)])
    assert of_pairs(pairs, answers) == {"spearman": pytest.approx(1)}
    assert of_pairs(pairs[:1], answers) == {}


def test_regression() -> None:
    answers = [np.array([[value]]) for value in (1.0, 2.0, 4.0)]
    assert of_values([1, 2, 3], answers) == {"r2": pytest.approx(1 - 1 / 2)}
    assert of_values([1, 1, 1], answers) == {}
    assert of_values([1, 2], [np.zeros((1, 2))] * 2) == {}
