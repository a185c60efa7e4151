"""Predictor with real models: the shipped detector, YOLOX where it is there, and a tiny network made here."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import TypeAdapter

from edge_runtime.bundle import open_bundle, shipped_bundle, wrap_model
from edge_runtime.contract.errors import EngineError, InputError
from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.contract.result import Classification, Detections
from edge_runtime.contract.task import TaskSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.predict import Predictor
from edge_runtime.tasks.make import make_task

CLIP = Path(__file__).parents[2] / "edge_runtime" / "media" / "pedestrians.mp4"
SPECS: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)

# Corners of the people in two frames, read off the pictures with a ruler; one list a frame.
PEOPLE = {
    0: [(253, 218, 283, 309), (501, 159, 530, 233), (642, 244, 685, 323)],
    200: [
        (81, 155, 108, 216),
        (219, 190, 247, 268),
        (487, 148, 515, 223),
        (617, 264, 650, 367),
        (706, 256, 741, 351),
        (677, 98, 697, 153),
        (702, 104, 721, 154),
    ],
}


@pytest.fixture(scope="module")
def frames() -> dict[int, Picture]:
    wanted: dict[int, Picture] = {}
    with av.open(str(CLIP)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in PEOPLE:
                planes = [
                    np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
                    for plane in frame.planes
                ]
                wanted[index] = Picture(PixelFormat.I420, tuple(planes), frame.height, frame.width)
            if index >= max(PEOPLE):
                break
    return wanted


def open_predictor(engine: str, model: Path, task: TaskSpec) -> Predictor[Detections | Classification]:
    session = load_engine(engine).open(model, options=EngineOptions())
    return Predictor(make_task(task, session.inputs, session.outputs), session)


@pytest.fixture(scope="module")
def efficientdet() -> Iterator[Predictor[Detections | Classification]]:
    pytest.importorskip("ai_edge_litert")
    path = shipped_bundle("efficientdet-lite0")
    assert path is not None
    bundle = open_bundle(path)
    predictor = open_predictor("litert", bundle.path(bundle.manifest.variants[0]), bundle.manifest.task)
    yield predictor
    predictor.close()


def overlap(a: np.ndarray, b: tuple[int, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def people_found(found: Detections | Classification, people: list[tuple[int, ...]], score: float) -> int:
    """How many of the people have a box of their own that covers them well."""
    assert isinstance(found, Detections)
    boxes = found.boxes[(found.classes == 0) & (found.scores >= score)]
    return sum(any(overlap(box, person) > 0.6 for box in boxes) for person in people)


def test_efficientdet_finds_the_people(
    efficientdet: Predictor[Detections | Classification], frames: dict[int, Picture]
) -> None:
    for index, people in PEOPLE.items():
        found = efficientdet.predict(frames[index])
        assert isinstance(found, Detections)
        # Two of the seven people of frame 200 walk so close together that the model is unsure.
        assert people_found(found, people, 0.3) >= len(people) - 1
        assert (found.scores >= 0.3).all()
        labels = {found.labels[index] for index in found.classes}
        assert "person" in labels
        # The parked white van and the car behind it: the labels are those of the file, not shifted.
        assert labels & {"car", "truck"}
        assert labels <= {"person", "car", "truck", "sports ball", "frisbee"}


def test_several_threads_get_the_same_answers(
    efficientdet: Predictor[Detections | Classification], frames: dict[int, Picture]
) -> None:
    alone = {index: efficientdet.predict(frame) for index, frame in frames.items()}
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(4):
            found, expected = efficientdet.predict(frames[index]), alone[index]
            assert isinstance(found, Detections)
            assert isinstance(expected, Detections)
            if not np.array_equal(found.boxes, expected.boxes):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in (*frames, *frames)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_yolox_finds_the_people(frames: dict[int, Picture]) -> None:
    file = os.environ.get("EDGE_RUNTIME_YOLOX")
    if not file:
        pytest.skip("EDGE_RUNTIME_YOLOX does not name the YOLOX-tiny ONNX file; it is not shipped")
    task = SPECS.validate_python(
        {
            "kind": "detection",
            "input": {"layout": "nchw", "colour": "bgr", "align": "top_left"},
            "head": {"format": "nms"},
            "labels": ["person"],
            "min_score": 0.5,
        }
    )
    predictor = open_predictor("onnxruntime", Path(file), task)
    for index, people in PEOPLE.items():
        found = predictor.predict(frames[index])
        assert isinstance(found, Detections)
        assert people_found(found, people, 0.5) == len(people)
        assert len(found) == len(people)
    predictor.close()


@pytest.fixture
def brightness(tmp_path: Path) -> Predictor[Detections | Classification]:
    """A classifier of any picture size that says which of red, green and blue is the strongest."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["image"], ["mean"])],
        "brightness",
        [helper.make_tensor_value_info("image", kind, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("mean", kind, [1, 3, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = tmp_path / "brightness.onnx"
    onnx.save(model, file)
    task = SPECS.validate_python(
        {
            "kind": "classification",
            "input": {"layout": "nchw", "fit": "stretch", "size": [64, 64], "scale": 1 / 255},
            "labels": ["red", "green", "blue"],
            "activation": "none",
        }
    )
    bundle = wrap_model(file, task)
    return open_predictor("onnxruntime", bundle.path(bundle.manifest.variants[0]), bundle.manifest.task)


def test_a_network_made_here(brightness: Predictor[Detections | Classification]) -> None:
    blue_green = np.zeros((30, 50, 3), np.uint8)
    blue_green[:] = (255, 102, 0)
    found = brightness.predict(Picture.from_bgr(blue_green))
    assert isinstance(found, Classification)
    assert [found.labels[index] for index in found.classes] == ["blue", "green", "red"]
    np.testing.assert_allclose(found.scores, [1, 0.4, 0], atol=1e-5)


def test_a_broken_picture_does_not_break_the_predictor(
    brightness: Predictor[Detections | Classification],
) -> None:
    with pytest.raises(InputError, match="planes"):
        brightness.predict(Picture(PixelFormat.BGR, (), 4, 4))
    assert isinstance(brightness.warm_up(), Classification)


def test_closed_is_closed(brightness: Predictor[Detections | Classification]) -> None:
    picture = Picture.from_bgr(np.zeros((8, 8, 3), np.uint8))
    brightness.warm_up(picture)
    brightness.close()
    brightness.close()
    with pytest.raises(EngineError, match="closed"):
        brightness.predict(picture)
