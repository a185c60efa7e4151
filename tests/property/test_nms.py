"""Non-maximum suppression against the definition, written as a loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.tasks import nms

sides = st.integers(0, 24)
rows = st.tuples(sides, sides, st.integers(0, 12), st.integers(0, 12), st.integers(0, 9), st.integers(0, 2))
# Products of sixty-fourths with whole areas are exact, so the reference cannot differ by rounding.
thresholds = st.integers(1, 64).map(lambda n: n / 64)


def arrays(objects: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(objects, np.float32).reshape(-1, 6)
    boxes = np.concatenate((table[:, :2], table[:, :2] + table[:, 2:4]), axis=1)
    return boxes, table[:, 4] / 10, table[:, 5].astype(np.int32)


def by_definition(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray | None, max_iou: float
) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if not any(
            (classes is None or classes[index] == classes[other])
            and too_close(boxes[index], boxes[other], max_iou)
            for other in kept
        ):
            kept.append(index)
    return kept


def too_close(a: np.ndarray, b: np.ndarray, max_iou: float) -> bool:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return bool(shared > max_iou * union)


@given(st.lists(rows, max_size=40), thresholds, st.booleans())
def test_keeps_what_the_definition_keeps(
    objects: list[tuple[int, ...]], max_iou: float, class_aware: bool
) -> None:
    boxes, scores, classes = arrays(objects)
    given_classes = classes if class_aware else None
    kept = nms.suppress(boxes, scores, given_classes, max_iou)
    assert kept.tolist() == by_definition(boxes, scores, given_classes, max_iou)


def test_more_boxes_than_a_block() -> None:
    dice = np.random.default_rng(7)
    objects = np.concatenate(
        (
            dice.integers(0, 120, (700, 2)),
            dice.integers(1, 25, (700, 2)),
            dice.integers(0, 10, (700, 1)),
            dice.integers(0, 2, (700, 1)),
        ),
        axis=1,
    )
    boxes, scores, classes = arrays([tuple(row) for row in objects.tolist()])
    kept = nms.suppress(boxes, scores, classes, 0.5)
    assert kept.tolist() == by_definition(boxes, scores, classes, 0.5)
    assert nms._BLOCK < len(kept) < len(boxes)
