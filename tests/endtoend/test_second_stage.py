"""A detector, then other models on what it found: declared in YAML, said in events, on the shipped clip."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.agent import Agent
from edge_runtime.contract.errors import ConfigError
from edge_runtime.settings import load_settings

CLIP = Path(__file__).parents[2] / "edge_runtime/media/pedestrians.mp4"

STORE = """
version: 1
site: store-1
models:
  people: {{bundle: efficientdet-lite0, min_score: 0.4, labels: [person]}}
  clothes: {{file: clothes.onnx, task: clothes.yaml}}
  looks: {{file: looks.onnx, task: looks.yaml}}
cameras:
  door:
    source: {clip}
    model: people
    fps: 5
    lines: {{middle: {{from: [0.5, 0.1], to: [0.5, 1.0]}}}}
    zones: {{all: {{polygon: [[0, 0], [1, 0], [1, 1], [0, 1]]}}}}
    then:
      clothes: {{model: {model}, labels: [person], per_s: 20, min_px: 8, min_score: 0.3}}
      who: {{model: looks, per_s: 20, min_px: 8, similarity: 0.99}}
sinks: [{{type: jsonl, path: events.jsonl}}]
"""
IMAGE = "{layout: nchw, size: [8, 8], fit: stretch, scale: 0.00392156862745098}"


def save(path: Path, weights: np.ndarray, *, softmax: bool) -> None:
    """A real network: the mean colour of a picture, times a matrix."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores" if softmax else "y"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def write(folder: Path, *, model: str = "clothes") -> Path:
    bright, dark = np.full((3, 1), 20.0), np.full((3, 1), -20.0)
    save(folder / "clothes.onnx", np.hstack((bright, dark)), softmax=True)
    save(folder / "looks.onnx", np.eye(3), softmax=False)
    clothes = f"kind: classification\ninput: {IMAGE}\nlabels: [bright, dark]\nactivation: none\n"
    (folder / "clothes.yaml").write_text(clothes, "utf-8")
    (folder / "looks.yaml").write_text(f"kind: image-embedding\ninput: {IMAGE}\n", "utf-8")
    store = folder / "store.yaml"
    store.write_text(STORE.format(clip=CLIP, model=model), "utf-8")
    return store


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text("utf-8").splitlines()]


def test_events_say_what_the_second_models_said(tmp_path: Path) -> None:
    Agent(load_settings(write(tmp_path))).run(threading.Event())
    seen = [event["subject"] for event in events_of(tmp_path) if "subject" in event]
    assert seen
    said = [subject["attributes"] for subject in seen if "attributes" in subject]
    assert len(said) > len(seen) / 2
    assert {one["clothes"]["value"] for one in said if "clothes" in one} == {"bright"}
    assert all(one["who"]["value"].isdecimal() for one in said if "who" in one)
    assert any("who" in one for one in said)


def test_a_detector_as_a_second_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"then\.clothes.*classification or image-embedding"):
        Agent(load_settings(write(tmp_path, model="people")))


def test_a_second_model_that_nobody_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)cameras.door.then.clothes.model.*Did you mean 'clothes'"):
        load_settings(write(tmp_path, model="cloths"))


def test_a_broken_second_model_costs_what_it_would_have_said_and_no_event(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        store = write(folder)
        if folder is broken:
            (folder / "looks.onnx").write_bytes(b"no model")
        Agent(load_settings(store)).run(threading.Event())
    ids = [{event["id"] for event in events_of(folder)} for folder in (whole, broken)]
    assert ids[0] == ids[1]
    said = [event["subject"].get("attributes", {}) for event in events_of(broken) if "subject" in event]
    assert any("clothes" in one for one in said)
    assert not any("who" in one for one in said)
