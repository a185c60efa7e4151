"""A head that is cut off before it makes boxes answers as the whole one does."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from converters.export.distances import cut
from converters.export.fold import fold
from converters.step import Facts
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import DetectionSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.make import make_task
from tests.simulators.distances_head import net

SIDE = 64


def task(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "detection",
        "input": {"layout": "nchw", "scale": 1 / 255},
        "head": {"format": "yolo", "nms_iou": 0.6},
        "labels": ["a", "b", "c"],
        "min_score": 0.3,
    } | changes


def step(function: Any, source: Path, out: Path, **options: Any) -> Facts:
    out.mkdir()
    return function({"model": source}, out, options, lambda *_: None)


def found(folder: Path, spec: dict[str, Any], pictures: list[Picture]) -> list[Detections]:
    session = load_engine("onnxruntime").open(folder / "model.onnx", options=EngineOptions(threads=1))
    try:
        made = make_task(DetectionSpec.model_validate(spec), session.inputs, session.outputs)
        answers: list[Detections] = []
        for picture in pictures:
            tensors, undo = made.preprocess(picture)
            answers.append(made.postprocess(session.run(tensors), undo))
        return answers
    finally:
        session.close()


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_answers_as_the_whole(tmp_path: Path, seed: int, *, folded: bool) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    onnx.save(net(seed, SIDE), whole / "model.onnx")
    facts = step(cut, whole, tmp_path / "cut", task=task())
    assert facts["outputs"] == {"distances": "distances", "scores": "scores"}
    assert isinstance(facts["head"], dict)
    assert facts["head"]["strides"] == [8, 16, 32]
    spec = task(head=facts["head"])
    folder = tmp_path / "cut"
    if folded:
        told = step(fold, folder, tmp_path / "folded", input=task()["input"])
        folder, spec = tmp_path / "folded", spec | {"input": told["input"]}
    rng = np.random.default_rng(seed)
    pictures = [Picture.from_bgr(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for _ in range(3)]
    for mine, theirs in zip(found(whole, task(), pictures), found(folder, spec, pictures), strict=True):
        assert len(mine) > 3
        np.testing.assert_allclose(theirs.boxes, mine.boxes, atol=0.05)
        np.testing.assert_allclose(theirs.scores, mine.scores, atol=1e-4)
        assert theirs.classes.tolist() == mine.classes.tolist()
    operators = {node.op_type for node in onnx.load(tmp_path / "cut" / "model.onnx").graph.node}
    assert not operators & {"Softmax", "Sigmoid", "Mul"}


@pytest.mark.parametrize(
    ("changes", "softmax", "words"),
    [
        ({}, False, "0 softmaxes and 1 sigmoids"),
        ({"labels": ["a", "b"]}, True, "expected (1, 6, n) or (1, n, 6)"),
        ({"head": {"format": "yolo", "objectness": True}}, True, "without objectness"),
        ({"head": {"format": "nms"}}, True, "got nms"),
    ],
)
def test_other_heads_are_refused(tmp_path: Path, changes: Any, softmax: bool, words: str) -> None:
    onnx.save(net(0, SIDE, softmax=softmax), tmp_path / "model.onnx")
    with pytest.raises(ConversionError, match=r".") as caught:
        step(cut, tmp_path, tmp_path / "cut", task=task(**changes))
    assert words in str(caught.value)
