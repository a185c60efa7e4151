"""Judging candidates by their answers: what counts as lost, and what does not."""

from collections.abc import Sequence

import numpy as np
import pytest

from converters.quantize.calibration import Sample, read_task
from converters.quantize.judge import Verdict, make_judge
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.geometry import Placement, Rect
from tests.unit import quantize_nets as nets

PICTURE = TensorSpec("picture", "float32", (1, 3, 32, 32))
ROWS = TensorSpec("rows", "float32", (1, None, 6))
SCORES = TensorSpec("scores", "float32", (1, 10))
WHOLE = Rect(0, 0, 32, 32)
SAMPLE = Sample({}, Placement((32, 32), (32, 32), WHOLE, WHOLE))
OWN = [[2, 2, 12, 12, 0.9, 0], [16, 16, 30, 30, 0.6, 1]]


def detections(*rows: Sequence[float]) -> Tensors:
    return {"rows": np.array(rows, np.float32).reshape(1, -1, 6)}


def detector(own: Tensors, other: Tensors) -> Verdict:
    task = read_task({"task": nets.DETECTION})
    return make_judge(task, ([PICTURE], [ROWS]), [SAMPLE], [own]).judge({0: other})


def test_the_same_detections_lose_nothing() -> None:
    assert detector(detections(*OWN), detections(*OWN)) == Verdict(0.0, 0.0, {"boxes": 0.0, "scores": 0.0})


def test_boxes_and_scores_are_judged_apart() -> None:
    moved = [[2, 2, 12, 11, 0.9, 0], OWN[1]]
    verdict = detector(detections(*OWN), detections(*moved))
    assert verdict.parts["boxes"] == pytest.approx(0.05)
    assert verdict.parts["scores"] == 0
    paler = [[*OWN[0][:4], 0.7, 0], OWN[1]]
    verdict = detector(detections(*OWN), detections(*paler))
    assert verdict.parts == {"boxes": 0.0, "scores": pytest.approx(0.1)}
    assert verdict.loss == 0


def test_zero_scores_lose_everything() -> None:
    verdict = detector(detections(*OWN), detections(*([*row[:4], 0.0, row[5]] for row in OWN)))
    assert verdict.loss == 1
    assert verdict.parts["boxes"] == 1


def test_what_is_no_answer_loses_everything() -> None:
    assert detector(detections(*OWN), detections([0, 0, 9, 9, 1.7, 0])).loss == 1
    assert detector(detections(*OWN), detections([0, 0, 9, 9, np.nan, 0])).loss == 1


def test_a_detection_of_another_class_is_a_false_one() -> None:
    verdict = detector(detections(*OWN), detections([*OWN[0][:5], 1], OWN[1]))
    # Precision 1/2 at the 51 of 101 recalls up to 1/2.
    assert verdict.loss == pytest.approx(1 - 51 / 101 / 2)


def test_detections_near_the_threshold_are_no_loss_either_way() -> None:
    near = [4, 20, 12, 30, 0.24, 0]
    over = [4, 20, 12, 30, 0.26, 0]
    assert detector(detections(*OWN, near), detections(*OWN)).loss == 0
    assert detector(detections(*OWN, near), detections(*OWN, over)).loss == 0
    assert (
        detector(detections(*OWN), detections(*OWN, over)).loss == 0
    )  # the last of the ranking costs nothing
    assert detector(detections(*OWN), detections(*OWN, over)).error > 0


def test_nothing_to_find() -> None:
    assert detector(detections(), detections()).loss == 0
    assert detector(detections(), detections(*OWN)).loss == 1


def classifier(own: list[float], other: list[float], label: int | None = None) -> Verdict:
    task = read_task({"task": nets.CLASSIFICATION})
    scores: list[Tensors] = [{"scores": np.array([row + [-9.0] * 7], np.float32)} for row in (own, other)]
    labels = None if label is None else [label]
    return make_judge(task, ([PICTURE], [SCORES]), [SAMPLE], scores[:1], labels).judge({0: scores[1]})


def test_changing_ones_mind_between_equals_costs_little() -> None:
    verdict = classifier([1.0, 0.99, -3], [0.99, 1.0, -3])
    assert verdict.loss < 0.005
    assert verdict.parts["disagreement"] == 1


def test_changing_a_sure_answer_costs_much() -> None:
    assert classifier([5.0, 0, 0], [0, 5.0, 0]).loss > 0.95


def test_labels_count_where_there_are_any() -> None:
    assert classifier([5.0, 0, 0], [0, 5.0, 0], label=1).loss == 0
    assert classifier([5.0, 0, 0], [0, 5.0, 0], label=0).loss == 1
    assert classifier([5.0, 0, 0], [0, 5.0, 0], label=-1).loss > 0.95


def test_other_outputs_are_judged_one_by_one() -> None:
    task = read_task({"task": nets.TENSORS})
    one = np.arange(6, dtype=np.float32)[None]
    judge = make_judge(task, ([], []), [SAMPLE], [{"a": one, "b": one}])
    verdict = judge.judge({0: {"a": one, "b": one[:, ::-1]}})
    assert verdict.parts["a"] == pytest.approx(0)
    assert verdict.loss == verdict.parts["b"] > 0.5
    assert judge.judge({0: {"a": one, "b": one * np.nan}}).loss == 1
