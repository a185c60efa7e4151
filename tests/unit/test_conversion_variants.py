"""What a chain of steps said adds up to what a bundle says of a variant."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from converters.variants import between, differences, renamed, shape, task_of
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    Head,
    ImageInput,
    NmsHead,
    SsdHead,
    TaskSpec,
    YoloHead,
)

IMAGE = ImageInput(layout="nchw", scale=0.5, mean=(1, 2, 3))
DETECTION = DetectionSpec(kind="detection", input=IMAGE, head=YoloHead(format="yolo"), labels=("a",))
CLASSES = ClassificationSpec(kind="classification", input=IMAGE, labels=("a",), output="logits")
FOLDED = {"layout": "nhwc", "colour": "rgb"}


def task(spec: TaskSpec, *chain: dict[str, Any]) -> TaskSpec:
    return task_of(spec, shape(chain))


def test_steps_that_say_nothing_change_nothing() -> None:
    assert task(DETECTION, {}, {"outputs": {"y": "y"}}) == DETECTION
    assert differences(DETECTION, DETECTION) == {}


def test_names_are_followed_through_all_steps() -> None:
    became = shape([{"outputs": {"logits": "out"}}, {}, {"outputs": {"out": "Identity:0"}}])
    assert became.outputs == {"logits": "Identity:0"}
    spec = task_of(CLASSES, became)
    assert differences(CLASSES, spec) == {"output": "Identity:0"}


def test_the_last_word_on_pictures_counts() -> None:
    spec = task(CLASSES, {"input": IMAGE.model_dump(mode="json")}, {"input": FOLDED}, {})
    assert isinstance(spec, ClassificationSpec)
    assert spec.input == ImageInput(layout="nhwc")
    assert differences(CLASSES, spec) == {"input": ImageInput(layout="nhwc")}


def test_a_head_that_a_step_put_in_replaces_the_task_s_and_is_renamed_later() -> None:
    head = {"format": "nms", "detections": "detections"}
    spec = task(DETECTION, {"head": head, "outputs": {}}, {"outputs": {"detections": "StatefulCall:0"}})
    assert isinstance(spec, DetectionSpec)
    assert spec.head == NmsHead(format="nms", detections="StatefulCall:0")


def test_unnamed_outputs_are_named_where_another_format_may_order_them_otherwise() -> None:
    outputs = {"b": "out_2", "c": "out_0", "s": "out_1", "n": "out_3"}
    assert renamed(SsdHead(format="ssd"), outputs) == SsdHead(
        format="ssd", boxes="out_2", classes="out_0", scores="out_1", count="out_3"
    )


def test_a_named_output_is_not_taken_for_another_role() -> None:
    head = SsdHead(format="ssd", scores="first")
    outputs = {"first": "A", "boxes": "B", "classes": "C"}
    assert renamed(head, outputs) == SsdHead(format="ssd", boxes="B", classes="C", scores="A")


@pytest.mark.parametrize("outputs", [{}, {"one": "one", "two": "two"}, {"only": "other"}])
def test_nothing_is_named_where_the_order_tells(outputs: dict[str, str]) -> None:
    assert renamed(NmsHead(format="nms"), outputs) == NmsHead(format="nms")


@pytest.mark.parametrize("name", ["ssd", "nms", "yolo", "detr"])
def test_every_head_can_be_renamed(name: str) -> None:
    head: Head = TypeAdapter[Head](Head).validate_python({"format": name})
    assert renamed(head, {"x": "y", "z": "w"}) != head


def test_texts_keep_their_input() -> None:
    spec = EmbeddingSpec(kind="embedding", output="vectors")
    own = task(spec, {"outputs": {"vectors": "last_hidden_state"}})
    assert differences(spec, own) == {"output": "last_hidden_state"}


def test_names_between_two_models_of_one_source() -> None:
    assert between({"a": "x", "b": "y"}, {"a": "1"}) == {"x": "1"}


def test_the_largest_error_of_an_export_counts() -> None:
    assert shape([{"parity": {"rel": 1e-6}}, {"parity": {"rel": 1e-4}}, {}]).export_rel == 1e-4
    assert shape([{}]).export_rel is None
