"""Every detection head against tensors whose objects are known, and declarations that do not fit."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edge_runtime.contract.errors import BundleError, ConfigError, EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import DetectionSpec, TaskSpec
from edge_runtime.contract.tensors import Quantization, TensorSpec
from edge_runtime.tasks.base import VisionTask
from edge_runtime.tasks.make import make_task
from tests.simulators.distances_head import encode as encode_distances

LABELS = ("person", "dog", "car")
PICTURE = Picture.from_bgr(np.zeros((200, 400, 3), np.uint8))
CANVAS = 96, 128
"""The picture of 200 × 400 lies in it as 64 × 128, from row 16."""
IMAGE = [TensorSpec("image", "uint8", (1, *CANVAS, 3))]
SPECS: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)

BOXES = np.array([[10, 20, 50, 60], [200, 100, 400, 200], [300, 20, 380, 40]], np.float32)
SCORES = np.array([0.9, 0.75, 0.5], np.float32)
CLASSES = np.array([0, 2, 1])

Objects = tuple[np.ndarray, np.ndarray, np.ndarray]
Encoder = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]


def spec(head: Mapping[str, Any], **more: object) -> DetectionSpec:
    declared = {"kind": "detection", "input": {"layout": "nhwc"}, "head": head, "labels": LABELS} | more
    made = SPECS.validate_python(declared)
    assert isinstance(made, DetectionSpec)
    return made


def bind(head: Mapping[str, Any], tensors: Mapping[str, np.ndarray], **more: object) -> VisionTask:
    outputs = [TensorSpec(name, str(array.dtype), array.shape) for name, array in tensors.items()]
    return make_task(spec(head, **more), IMAGE, outputs)


def answer(head: Mapping[str, Any], tensors: Mapping[str, np.ndarray], **more: object) -> Detections:
    task = bind(head, tensors, **more)
    _, undo = task.preprocess(PICTURE)
    found = task.postprocess(tensors, undo)
    assert isinstance(found, Detections)
    return found


def on_canvas(boxes: np.ndarray) -> np.ndarray:
    """Source pixels to model pixels, worked out by hand: 128 / 400 = 0.32, then 16 rows of padding."""
    return boxes * 0.32 + np.array((0, 16, 0, 16))


def centred(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1)


def normalized(boxes: np.ndarray) -> np.ndarray:
    return boxes / np.array((128, 96, 128, 96))


def one_hot(scores: np.ndarray, classes: np.ndarray, empty: float = 0.0) -> np.ndarray:
    table = np.full((len(scores), len(LABELS)), empty)
    table[np.arange(len(scores)), classes] = scores
    return table


def batch(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return {name: array[None].astype(np.float32) for name, array in arrays.items()}


def ssd(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    yxyx = normalized(on_canvas(boxes))[:, [1, 0, 3, 2]]
    return batch(boxes=yxyx, classes=classes, scores=scores, count=np.array(len(scores)))


def ssd_pixels(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    return batch(scores=scores, found=on_canvas(boxes), kinds=classes + 1)


def rows6(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    return batch(rows=np.concatenate((on_canvas(boxes), scores[:, None], classes[:, None]), axis=1))


def rows5(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    rows = batch(rows=np.concatenate((on_canvas(boxes), scores[:, None]), axis=1))
    return rows | {"kinds": classes[None].astype(np.int64)}


def yolo8(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    return batch(out=np.concatenate((centred(on_canvas(boxes)), one_hot(scores, classes)), axis=1).T)


def yolo5(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    objectness = np.full((len(scores), 1), 0.95)
    parts = centred(on_canvas(boxes)), objectness, one_hot(scores / 0.95, classes)
    return batch(out=np.concatenate(parts, axis=1))


def yolo_normalized(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    parts = centred(normalized(on_canvas(boxes))), one_hot(scores, classes)
    return batch(out=np.concatenate(parts, axis=1).T)


def yolo_distances(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    return encode_distances(on_canvas(boxes), scores, classes, CANVAS, len(LABELS), (2, 4, 32))


def detr(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    """Softmax of (log p, …, log of what is left) is p; the last column is 'no object'."""
    table = one_hot(scores - 2e-6, classes, empty=1e-6)
    logits = np.log(np.concatenate((table, 1 - table.sum(axis=1, keepdims=True)), axis=1))
    return batch(logits=logits, boxes=centred(normalized(on_canvas(boxes))))


def rt_detr(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    table = one_hot(scores, classes, empty=0.01)
    return batch(pred_boxes=centred(normalized(on_canvas(boxes))), logits=np.log(table / (1 - table)))


HEADS: dict[str, tuple[dict[str, Any], Encoder]] = {
    "ssd": ({"format": "ssd"}, ssd),
    "ssd-named": (
        {
            "format": "ssd",
            "boxes": "found",
            "classes": "kinds",
            "scores": "scores",
            "order": "xyxy",
            "coordinates": "pixels",
            "class_offset": 1,
        },
        ssd_pixels,
    ),
    "nms-6": ({"format": "nms"}, rows6),
    "nms-5": ({"format": "nms", "detections": "rows", "classes": "kinds"}, rows5),
    "yolo8": ({"format": "yolo"}, yolo8),
    "yolo5": ({"format": "yolo", "objectness": True}, yolo5),
    "yolo-normalized": ({"format": "yolo", "coordinates": "normalized"}, yolo_normalized),
    "yolo-distances": ({"format": "yolo-distances", "strides": (2, 4, 32)}, yolo_distances),
    "detr": ({"format": "detr"}, detr),
    "rt-detr": (
        {"format": "detr", "activation": "sigmoid", "logits": "logits", "boxes": "pred_boxes"},
        rt_detr,
    ),
}

heads = pytest.mark.parametrize(("head", "encode"), HEADS.values(), ids=HEADS)


@heads
def test_finds_what_is_there(head: dict[str, Any], encode: Encoder) -> None:
    found = answer(head, encode(BOXES, SCORES, CLASSES))
    np.testing.assert_allclose(found.boxes, BOXES, atol=0.01)
    np.testing.assert_allclose(found.scores, SCORES, atol=1e-4)
    assert found.classes.tolist() == CLASSES.tolist()
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (
        np.float32,
        np.float32,
        np.int32,
    )
    assert found.labels == LABELS


@st.composite
def scenes(draw: st.DrawFn) -> Objects:
    """Objects in cells of their own, with scores far enough apart to have an order."""
    cells = draw(st.lists(st.integers(0, 31), min_size=1, max_size=12, unique=True))
    corners = np.array([(cell % 8 * 50, cell // 8 * 50) for cell in cells], np.float32)
    sizes = np.array([draw(st.tuples(st.integers(8, 50), st.integers(8, 50))) for _ in cells], np.float32)
    scores = np.array(draw(st.permutations(np.linspace(0.1, 0.9, len(cells)).tolist())), np.float32)
    classes = np.array([draw(st.integers(0, 2)) for _ in cells])
    return np.concatenate((corners, corners + sizes), axis=1), scores, classes


@pytest.mark.parametrize("name", HEADS)
@given(scene=scenes())
def test_any_scene(name: str, scene: Objects) -> None:
    head, encode = HEADS[name]
    boxes, scores, classes = scene
    found = answer(head, encode(boxes, scores, classes))
    expected = [index for index in np.argsort(-scores) if scores[index] >= 0.25]
    np.testing.assert_allclose(found.boxes, boxes[expected], atol=0.01)
    np.testing.assert_allclose(found.scores, scores[expected], atol=1e-4)
    assert found.classes.tolist() == classes[expected].tolist()


@heads
def test_nothing_is_there(head: dict[str, Any], encode: Encoder) -> None:
    found = answer(head, encode(BOXES, SCORES * 0.2, CLASSES))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


@heads
def test_boxes_end_at_the_picture(head: dict[str, Any], encode: Encoder) -> None:
    boxes = np.array([[-50, -20, 30, 40], [380, 190, 500, 300], [10, -40, 60, -5]], np.float32)
    found = answer(head, encode(boxes, SCORES, CLASSES))
    np.testing.assert_allclose(found.boxes, [[0, 0, 30, 40], [380, 190, 400, 200]], atol=0.01)


@heads
def test_the_best_are_kept(head: dict[str, Any], encode: Encoder) -> None:
    found = answer(head, encode(BOXES[::-1], SCORES[::-1], CLASSES[::-1]), max_detections=2)
    np.testing.assert_allclose(found.scores, SCORES[:2], atol=1e-4)


@heads
def test_nan_names_the_output(head: dict[str, Any], encode: Encoder) -> None:
    for name in encode(BOXES, SCORES, CLASSES):
        tensors = encode(BOXES, SCORES, CLASSES)
        if tensors[name].dtype == np.float32:
            tensors[name][:] = np.nan
            with pytest.raises(EngineError, match=f"output '{name}'.*NaN"):
                answer(head, tensors)


@heads
def test_infinite_boxes_are_refused(head: dict[str, Any], encode: Encoder) -> None:
    boxes = BOXES.copy()
    boxes[1] = np.inf
    with np.errstate(invalid="ignore"):
        tensors = encode(boxes, SCORES, CLASSES)
    with pytest.raises(EngineError, match="infinity"):
        answer(head, tensors)


@heads
def test_a_wrong_shape_at_run_time(head: dict[str, Any], encode: Encoder) -> None:
    tensors = encode(BOXES, SCORES, CLASSES)
    outputs = [TensorSpec(name, str(array.dtype), (None,) * array.ndim) for name, array in tensors.items()]
    task = make_task(spec(head), IMAGE, outputs)
    _, undo = task.preprocess(PICTURE)
    task.postprocess(tensors, undo)
    for name, array in tensors.items():
        if name != "count":
            with pytest.raises(BundleError, match=f"output '{name}'|output '") as caught:
                task.postprocess(tensors | {name: array[:, :, None]}, undo)
            assert caught.value.expected
            assert caught.value.got
    with pytest.raises(EngineError, match="none"):
        task.postprocess({}, undo)


def test_min_score_of_the_caller_wins() -> None:
    tensors = rows6(BOXES, SCORES, CLASSES)
    outputs = [TensorSpec("rows", "float32", (1, None, 6))]
    task = make_task(spec({"format": "nms"}), IMAGE, outputs, min_score=0.8)
    _, undo = task.preprocess(PICTURE)
    found = task.postprocess(tensors, undo)
    assert found.scores.tolist() == pytest.approx([0.9])


def test_keeps_only_the_labels_of_interest() -> None:
    outputs = [TensorSpec("rows", "float32", (1, None, 6))]
    task = make_task(spec({"format": "nms"}), IMAGE, outputs, keep=["person", "dog"])
    _, undo = task.preprocess(PICTURE)
    found = task.postprocess(rows6(BOXES, SCORES, CLASSES), undo)
    assert found.classes.tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"person, dog, car.*got cat"):
        make_task(spec({"format": "nms"}), IMAGE, outputs, keep=["cat"])


@pytest.mark.parametrize("offset", [-1, 1])
def test_a_class_without_a_label(offset: int) -> None:
    with pytest.raises(BundleError, match=r"0 to 2 for 3 labels, got index (-1|3)"):
        answer({"format": "nms", "class_offset": offset}, rows6(BOXES, SCORES, CLASSES))


def test_a_class_far_away_does_not_wrap_around() -> None:
    tensors = rows6(BOXES, SCORES, np.array([0.0, 2.0, 2.0**32]))
    with pytest.raises(BundleError, match="got index 16777216"):
        answer({"format": "nms"}, tensors)


def test_logits_are_not_scores() -> None:
    with pytest.raises(BundleError, match=r"scores in \[0, 1\].*got 7.*sigmoid"):
        answer({"format": "yolo"}, yolo8(BOXES, np.array([7.0, -3.0, 1.0]), CLASSES))


def test_rounding_over_one_is_cut() -> None:
    found = answer({"format": "nms"}, rows6(BOXES, np.array([1.004, 0.9, 0.8]), CLASSES))
    assert found.scores[0] == 1


def test_ssd_ignores_slots_beyond_the_count() -> None:
    tensors = ssd(BOXES, SCORES, CLASSES)
    tensors["count"][:] = 2
    tensors["scores"][0, 2] = np.nan
    assert len(answer({"format": "ssd"}, tensors)) == 2
    for wrong in (-1, 4, np.inf):
        tensors["count"][:] = wrong
        with pytest.raises((BundleError, EngineError), match="count"):
            answer({"format": "ssd"}, tensors)


def test_yolo_suppresses_within_a_class() -> None:
    boxes = np.array([[10, 20, 50, 60], [12, 20, 52, 60], [11, 20, 51, 60]], np.float32)
    classes = np.array([0, 0, 1])
    assert answer({"format": "yolo"}, yolo8(boxes, SCORES, classes)).scores.tolist() == pytest.approx(
        [0.9, 0.5]
    )
    agnostic = {"format": "yolo", "class_agnostic": True}
    assert len(answer(agnostic, yolo8(boxes, SCORES, classes))) == 1
    patient = {"format": "yolo", "nms_iou": 0.99}
    assert len(answer(patient, yolo8(boxes, SCORES, classes))) == 3


def test_yolo_layout_is_read_from_the_shape() -> None:
    known = answer({"format": "yolo"}, yolo8(BOXES, SCORES, CLASSES))
    turned = {"out": yolo8(BOXES, SCORES, CLASSES)["out"].transpose(0, 2, 1)}
    np.testing.assert_array_equal(answer({"format": "yolo"}, turned).boxes, known.boxes)


@pytest.mark.parametrize("objectness", [False, True])
def test_yolo_with_as_many_boxes_as_attributes(objectness: bool) -> None:
    """Both axes are 7 (or 8) long: the layout is what exporters of this kind of model write."""
    extra = 4 + objectness
    boxes = np.concatenate([BOXES, [[x, 70, x + 10, 80] for x in range(0, 20 * extra, 20)]]).astype(
        np.float32
    )
    scores = np.concatenate((SCORES, np.zeros(extra))).astype(np.float32)
    classes = np.concatenate((CLASSES, np.zeros(extra, int)))
    tensors = (yolo5 if objectness else yolo8)(boxes, scores, classes)
    assert tensors["out"].shape[1] == tensors["out"].shape[2]
    found = answer({"format": "yolo", "objectness": objectness}, tensors)
    np.testing.assert_allclose(found.boxes, BOXES, atol=0.01)


def test_quantized_outputs_become_real_numbers() -> None:
    real = yolo_normalized(BOXES, SCORES, CLASSES)["out"]
    quantization = Quantization((1 / 255,), (-128,))
    stored = np.clip(np.rint(real * 255) - 128, -128, 127).astype(np.int8)
    outputs = [TensorSpec("out", "int8", stored.shape, quantization)]
    task = make_task(spec({"format": "yolo", "coordinates": "normalized"}), IMAGE, outputs)
    _, undo = task.preprocess(PICTURE)
    found = task.postprocess({"out": stored}, undo)
    np.testing.assert_allclose(found.boxes, BOXES, atol=2)
    np.testing.assert_allclose(found.scores, SCORES, atol=0.003)
    assert found.classes.tolist() == CLASSES.tolist()


@pytest.mark.parametrize(
    ("head", "shapes", "words"),
    [
        ({"format": "yolo"}, [(1, 84, 8400)], ["(1, 7, n) or (1, n, 7) for 3 labels", "(1, 84, 8400)"]),
        ({"format": "yolo"}, [(1, 8, 8400)], ["(1, 8, 8400)", "objectness: true"]),
        ({"format": "yolo", "objectness": True}, [(1, 7, 99)], ["objectness: false"]),
        ({"format": "yolo"}, [(8400, 7)], ["(8400, 7)"]),
        ({"format": "yolo", "output": "x"}, [(1, 7, 9)], ["'output'", "one of o0", "got x"]),
        ({"format": "detr"}, [(1, 100, 92), (1, 100, 4)], ["(1, ?, 4)", "(1, 100, 92)"]),
        ({"format": "detr"}, [(1, 100, 4), (1, 100, 5)], ["'o1' (boxes)", "(1, 100, 5)"]),
        ({"format": "detr"}, [(1, 100, 4)], ["logits, boxes", "o0 float32 (1, 100, 4)"]),
        ({"format": "nms"}, [(1, 100, 5)], ["(1, ?, 6)", "(1, 100, 5)"]),
        ({"format": "nms"}, [(1, 7, 8400), (1, 9)], ["(1, ?, 5) or (1, ?, 6)"]),
        ({"format": "ssd"}, [(1, 25, 4), (1, 25)], ["boxes, classes, scores"]),
        ({"format": "ssd"}, [(1, 25), (1, 25, 4), (1, 25), (1,)], ["'o0' (boxes)", "(1, ?, 4)", "(1, 25)"]),
    ],
)
def test_a_head_that_does_not_fit_the_model(
    head: dict[str, Any], shapes: list[tuple[int, ...]], words: list[str]
) -> None:
    outputs = [TensorSpec(f"o{index}", "float32", shape) for index, shape in enumerate(shapes)]
    with pytest.raises(BundleError) as caught:
        make_task(spec(head), IMAGE, outputs)
    for word in words:
        assert word in str(caught.value)


def test_a_quantized_output_with_a_scale_a_channel() -> None:
    outputs = [TensorSpec("out", "int8", (1, 7, 99), Quantization((0.1, 0.2), (0, 0), axis=1))]
    with pytest.raises(BundleError, match="2 scales"):
        make_task(spec({"format": "yolo"}), IMAGE, outputs)
