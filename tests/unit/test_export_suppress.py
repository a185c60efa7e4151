"""Suppression put into a graph and taken out of one answers as the device's own does."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from converters.export.fold import fold
from converters.export.onnx_source import normalize
from converters.export.suppress import release, suppress
from converters.step import Facts
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import DetectionSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.geometry import Placement, Rect
from edge_runtime.tasks.make import make_task

Array = np.ndarray[Any, Any]
SIDE = 64
CELLS = 400


def task(**changes: Any) -> dict[str, Any]:
    """A detector whose predictions are fed from outside: an input of the graph beside the picture."""
    head = {"format": "yolo", "nms_iou": 0.45} | changes.pop("head", {})
    return {
        "kind": "detection",
        "input": {"layout": "nchw"},
        "head": head,
        "labels": ["a", "b", "c"],
        "max_detections": 40,
    } | changes


def save(folder: Path, shape: str, opset: int = 17) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        net (float[1, 3, {SIDE}, {SIDE}] image, float[{shape}] raw) => (float[{shape}] predictions) {{
            nothing = ReduceMean<keepdims = 0>(image)
            zero = Mul(nothing, none)
            predictions = Add(raw, zero)
        }}"""
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "none"))
    onnx.save(model, folder / "model.onnx")


def predictions(seed: int, *, objectness: bool, normalized: bool, first: bool) -> Array:
    """Crowded boxes: most overlap some other."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0, SIDE, (CELLS // 8, 2)).repeat(8, axis=0) + rng.normal(0, 2, (CELLS, 2))
    size = rng.uniform(6, 20, (CELLS, 2))
    boxes = np.concatenate((middle, size), axis=1) / (SIDE if normalized else 1)
    scores = rng.uniform(0, 1, (CELLS, 4 if objectness else 3)) ** 2
    rows = np.concatenate((boxes, scores), axis=1).astype(np.float32)
    return (rows.T if first else rows)[None]


def detections(folder: Path, told: dict[str, Any], raw: Array, min_score: float | None = None) -> Detections:
    session = load_engine("onnxruntime").open(folder / "model.onnx", options=EngineOptions())
    given = session.run({"image": np.ones((1, 3, SIDE, SIDE), np.float32), "raw": raw})
    spec = DetectionSpec.model_validate(told)
    bound = make_task(spec, session.inputs[:1], session.outputs, min_score=min_score)
    session.close()
    whole = Rect(0, 0, SIDE, SIDE)
    answer: Any = bound.postprocess(given, Placement((SIDE, SIDE), (SIDE, SIDE), whole, whole))
    return answer


def run_step(step: Any, source: Path, out: Path, **options: Any) -> Facts:
    out.mkdir(exist_ok=True)
    return step({"model": source}, out, options, lambda *_: None)


def assert_alike(have: Detections, want: Detections) -> None:
    np.testing.assert_array_equal(have.classes, want.classes)
    np.testing.assert_array_equal(have.scores, want.scores)
    np.testing.assert_allclose(have.boxes, want.boxes, atol=1e-4)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("objectness", [False, True])
def test_inside_is_as_outside(
    tmp_path: Path, *, objectness: bool, normalized: bool, agnostic: bool, opset: int
) -> None:
    wide = 8 if objectness else 7
    first = not objectness
    save(tmp_path, f"1, {wide}, {CELLS}" if first else f"1, {CELLS}, {wide}", opset)
    told = task(
        head={
            "objectness": objectness,
            "coordinates": "normalized" if normalized else "pixels",
            "class_agnostic": agnostic,
        }
    )
    facts = run_step(suppress, tmp_path, tmp_path / "out", task=told)
    assert facts["outputs"] == {"predictions": "detections"}
    onnx.checker.check_model(onnx.load(tmp_path / "out/model.onnx"), full_check=True)
    for seed in range(4):
        raw = predictions(seed, objectness=objectness, normalized=normalized, first=first)
        for min_score in (None, 0.06, 0.75 if objectness else 0.97):
            want = detections(tmp_path, told, raw, min_score)
            assert_alike(detections(tmp_path / "out", told | {"head": facts["head"]}, raw, min_score), want)
        assert 0 < len(want.scores) < 40


def test_nothing_found_and_names_of_ones_own(tmp_path: Path) -> None:
    save(tmp_path, f"1, 7, {CELLS}")
    head = {"format": "nms", "detections": "raw_boxes", "classes": "nothing", "class_offset": 1}
    facts = run_step(suppress, tmp_path, tmp_path / "out", task=task(), head=head)
    assert facts["head"] == head
    told = task() | {"head": head}
    raw = predictions(1, objectness=False, normalized=False, first=True)
    assert_alike(detections(tmp_path / "out", told, raw), detections(tmp_path, task(), raw))
    assert len(detections(tmp_path / "out", told, np.zeros_like(raw)).scores) == 0


def test_out_again(tmp_path: Path) -> None:
    save(tmp_path, f"1, 7, {CELLS}")
    inside = run_step(suppress, tmp_path, tmp_path / "in", task=task())
    facts = run_step(release, tmp_path / "in", tmp_path / "out", task=task() | {"head": inside["head"]})
    assert facts["outputs"] == {"detections": "predictions"}
    operators = {node.op_type for node in onnx.load(tmp_path / "out/model.onnx").graph.node}
    assert not operators & {"NonMaxSuppression", "TopK"}
    raw = predictions(3, objectness=False, normalized=False, first=True)
    want = detections(tmp_path, task(), raw)
    assert_alike(detections(tmp_path / "out", task() | {"head": facts["head"]}, raw), want)


def test_classes_that_are_mixed_inside_stay_there(tmp_path: Path) -> None:
    save(tmp_path, f"1, 7, {CELLS}")
    told = task(head={"class_agnostic": True})
    inside = run_step(suppress, tmp_path, tmp_path / "in", task=told)
    with pytest.raises(ConversionError, match="expected scores of 3 classes, one for each label, got 1"):
        run_step(release, tmp_path / "in", tmp_path / "out", task=told | {"head": inside["head"]})


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"format": "nms"}, "head 'nms': expected a head 'yolo'"),
        ({"format": "ssd"}, "head 'ssd': expected a head 'yolo'"),
        (
            {"format": "yolo", "objectness": True},
            "output 'predictions': expected (1, 8, n) or (1, n, 8) for 3",
        ),
        ({"format": "yolo", "output": "boxes"}, "expected one of predictions, got boxes"),
    ],
)
def test_heads_that_do_not_fit(tmp_path: Path, head: dict[str, Any], words: str) -> None:
    save(tmp_path, f"1, 7, {CELLS}")
    with pytest.raises(ConversionError) as caught:
        run_step(suppress, tmp_path, tmp_path / "out", task=task() | {"head": head})
    assert words in str(caught.value)


def test_what_cannot_be_taken_out(tmp_path: Path) -> None:
    save(tmp_path, f"1, 7, {CELLS}")
    with pytest.raises(ConversionError, match="expected one operator, got 0"):
        run_step(release, tmp_path, tmp_path / "out", task=task() | {"head": {"format": "nms"}})
    with pytest.raises(ConversionError, match="head 'yolo': expected a head 'nms'"):
        run_step(release, tmp_path, tmp_path / "out", task=task())


def test_an_old_opset(tmp_path: Path) -> None:
    save(tmp_path, f"1, 7, {CELLS}", opset=12)
    with pytest.raises(ConversionError, match="expected opset 13 or later, got 12"):
        run_step(suppress, tmp_path, tmp_path / "out", task=task())


def test_a_real_detector_through_all_of_it(tmp_path: Path, shipped_clip: Path, yolox: Path) -> None:
    """YOLOX, whose suppression is inside: made ready, folded, taken out, put in again: the same people."""
    told: dict[str, Any] = {
        "kind": "detection",
        "input": {"layout": "nchw", "colour": "bgr", "align": "top_left"},
        "head": {"format": "nms"},
        "labels": ["person", *map(str, range(79))],
    }
    (tmp_path / "a").mkdir()
    normalize(
        {"source": yolox}, tmp_path / "a", {"task": told, "opset": 17, "dynamic": False}, lambda *_: None
    )
    folded = run_step(fold, tmp_path / "a", tmp_path / "b", input=told["input"], colour="rgb")
    bytes_in = told | {"input": folded["input"]}
    outside = run_step(release, tmp_path / "b", tmp_path / "c", task=bytes_in)
    raw = bytes_in | {"head": outside["head"]}
    inside = run_step(suppress, tmp_path / "c", tmp_path / "d", task=raw)
    video = cv2.VideoCapture(str(shipped_clip))
    video.set(cv2.CAP_PROP_POS_FRAMES, 100)
    picture = Picture.from_bgr(video.read()[1])
    want = look(tmp_path / "a", told, picture)
    assert len(want.scores) > 3
    for name, spec in (("b", bytes_in), ("c", raw), ("d", bytes_in | {"head": inside["head"]})):
        have = look(tmp_path / name, spec, picture)
        np.testing.assert_array_equal(have.classes, want.classes)
        np.testing.assert_allclose(have.scores, want.scores, atol=1e-5)
        np.testing.assert_allclose(have.boxes, want.boxes, atol=0.004)


@pytest.fixture
def yolox() -> Path:
    file = os.environ.get("EDGE_RUNTIME_YOLOX")
    if file is None:
        pytest.skip("EDGE_RUNTIME_YOLOX does not name the YOLOX-tiny ONNX file; it is not shipped")
    return Path(file)


def look(folder: Path, told: dict[str, Any], picture: Picture) -> Detections:
    session = load_engine("onnxruntime").open(folder / "model.onnx", options=EngineOptions())
    bound = make_task(DetectionSpec.model_validate(told), session.inputs, session.outputs)
    tensors, undo = bound.preprocess(picture)
    answer: Any = bound.postprocess(session.run(tensors), undo)
    session.close()
    return answer
