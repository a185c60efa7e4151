"""Pictures answered together: the same answers as alone, and only where it pays."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Classification
from edge_runtime.contract.task import ClassificationSpec, ImageInput
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.predict import Predictor, batch_that_pays, measure_batches
from edge_runtime.tasks.make import make_task


@pytest.mark.parametrize(
    ("taken_s", "batch"),
    [
        pytest.param({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}, 1, id="a CPU: every picture costs the same"),
        pytest.param({1: 1.0, 2: 1.8, 4: 3.5, 8: 7.0}, 1, id="saves too little to wait for"),
        pytest.param({1: 1.0, 2: 1.2, 4: 1.6, 8: 2.0}, 8, id="a GPU: nearly free"),
        pytest.param({1: 1.0, 2: 1.2, 4: 1.6, 8: 6.0}, 4, id="pays up to a knee"),
        pytest.param({1: 1.0, 2: 2.5, 4: 6.0, 8: 14.0}, 1, id="costs more together"),
    ],
)
def test_batch_that_pays(taken_s: dict[int, float], batch: int) -> None:
    assert batch_that_pays(taken_s) == batch


def predictor(batch_axis: str | int, tmp_path_factory: pytest.TempPathFactory) -> Predictor[Classification]:
    """Mean colour of the picture as three scores."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch_axis, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch_axis, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path_factory.mktemp("model") / "mean.onnx"
    onnx.save(model, str(path))
    session = load_engine("onnxruntime").open(path, options=EngineOptions())
    spec = ClassificationSpec(
        kind="classification",
        input=ImageInput(layout="nchw", fit="stretch", scale=1 / 255),
        labels=("red", "green", "blue"),
        activation="none",
        top_k=3,
    )
    return Predictor(make_task(spec, session.inputs, session.outputs), session)  # type: ignore[arg-type]


def pictures() -> list[Picture]:
    rng = np.random.default_rng(7)
    return [
        Picture.from_bgr(rng.integers(0, 255, (height, 40, 3), dtype=np.uint8)) for height in (30, 30, 50)
    ]


def test_together_as_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = predictor("n", tmp_path_factory)
    together = model.predict_many(pictures())
    alone = [model.predict(picture) for picture in pictures()]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        assert one.classes.tolist() == other.classes.tolist()
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)
    assert len({tuple(answer.scores.tolist()) for answer in together}) == 3


def test_measured_batch_is_one_of_those_tried(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert measure_batches(predictor("n", tmp_path_factory)) in {1, 2, 4, 8}


def test_model_for_one_picture_is_never_batched(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert measure_batches(predictor(1, tmp_path_factory)) == 1
