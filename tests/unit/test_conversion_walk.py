"""The walk through a plan: tasks follow the models as they change; a failure costs only what stands on it."""

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from converters.judged import judge
from converters.planned import Plan, PlannedVariant
from converters.recipe import Recipe, Samples
from converters.report.data import Outcome
from converters.runner import Done, Failed, Skipped
from converters.step import Step
from converters.store import StepStore
from converters.walk import GOLDEN, Walk
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import TensorsSpec

STEPS = "tests.simulators.route_steps"
RECIPE = Recipe.model_validate(
    {
        "name": "model",
        "source": {"module": "a.b:C"},
        "task": {"kind": "classification", "input": {"layout": "nchw"}, "labels": ["a"]},
        "profiles": ["raspberry-pi-5"],
    }
)


def variant(format_: Format, precision: Precision, step: str) -> PlannedVariant:
    return PlannedVariant(
        f"{format_}-{precision}", format_, precision, step, None, ("litert",), ("raspberry-pi-5",), 0
    )


def quietly(step: str, share: float, doing: str) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    steps = (
        Step("samples", f"{STEPS}:make", "base"),
        Step("onnx-fp32", f"{STEPS}:make", "base", {"model": "model.onnx"}),
        Step("tflite-fp32", f"{STEPS}:turn", "base", {"model": "model.tflite"}, {"model": "onnx-fp32"}),
        Step("tflite-int8", f"{STEPS}:make", "base", {"model": "model.tflite"}, {"model": "tflite-fp32"}),
        Step("coreml-fp16", "tests.simulators.steps:segfault", "base", {}, {"model": "onnx-fp32"}),
        Step("coreml-int8", f"{STEPS}:make", "base", {}, {"model": "coreml-fp16"}),
    )
    variants = (
        variant(Format.TFLITE, Precision.INT8, "tflite-int8"),
        variant(Format.COREML, Precision.FP16, "coreml-fp16"),
        variant(Format.COREML, Precision.INT8, "coreml-int8"),
    )
    plan = Plan(steps, variants, (), (), "onnx-fp32", Format.ONNX)
    found = Walk(RECIPE, plan, StepStore(tmp_path_factory.mktemp("store")), {}, quietly)
    found.through()
    return found


def told(walk: Walk, step: str) -> dict[str, object]:
    outcome = walk.outcomes[step]
    assert isinstance(outcome, Done)
    return json.loads((outcome.path / "options.json").read_text("utf-8"))["task"]["input"]


def test_a_step_knows_the_task_as_the_model_it_takes_has_it(walk: Walk) -> None:
    assert told(walk, "tflite-fp32")["layout"] == "nchw"
    assert told(walk, "tflite-int8")["layout"] == "nhwc"


def test_a_failure_costs_only_what_stands_on_it(walk: Walk) -> None:
    kinds = {name: type(outcome) for name, outcome in walk.outcomes.items()}
    assert kinds["tflite-int8"] is Done
    assert kinds["coreml-fp16"] is Failed
    assert kinds["coreml-int8"] is kinds["verify-coreml-int8"] is Skipped


def test_what_was_lost_says_why_in_the_words_of_what_failed(walk: Walk) -> None:
    first, second = (judge(one, RECIPE, walk) for one in walk.plan.variants[1:])
    assert first.outcome is second.outcome is Outcome.FAILED
    assert "SIGSEGV" in first.why
    assert second.why == first.why


def test_golden_outputs_and_measuring_come_last_and_may_fail_alone(walk: Walk) -> None:
    # The models here are empty files, which no engine opens.
    assert isinstance(walk.outcomes[GOLDEN], Failed)
    judged = judge(walk.plan.variants[0], RECIPE, walk)
    assert judged.outcome is Outcome.FAILED
    assert judged.size_bytes is not None


def test_a_second_walk_finds_everything(walk: Walk) -> None:
    again = Walk(RECIPE, walk.plan, walk.store, {}, quietly)
    again.through()
    done = {name for name, outcome in walk.outcomes.items() if isinstance(outcome, Done)}
    assert {name for name, one in again.outcomes.items() if isinstance(one, Done) and one.cached} == done


def met(names: list[str], inputs: list[str], folder: Path) -> Walk:
    """Walk a plan whose samples have some names, and whose source has some inputs."""
    told: dict[str, JsonValue] = {"inputs": {name: name for name in inputs}}
    steps = (
        Step("samples", f"{STEPS}:give_samples", "base", {"names": [*names]}),
        Step("source", f"{STEPS}:give_source", "base", told),
        Step("onnx-int8", f"{STEPS}:make", "base", {}, {"model": "source"}),
    )
    recipe = RECIPE.model_copy(
        update={"task": TensorsSpec(kind="tensors"), "samples": Samples(path=Path("rows.npz"))}
    )
    plan = Plan(steps, (), (), (), "source", Format.ONNX)
    walk = Walk(recipe, plan, StepStore(folder), {}, quietly)
    walk.through()
    return walk


def test_samples_of_other_inputs_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"rows\.npz: expected an array for each input: a, b, got a, c"):
        met(["a", "c", "labels"], ["a", "b"], tmp_path)
    made = [json.loads(file.read_bytes())["step"] for file in tmp_path.glob("*/run.json")]
    assert sorted(made) == ["samples", "source"]
    assert met(["b", "a", "labels"], ["a", "b"], tmp_path).warnings == []
    assert met(["ids"], ["serving_default_ids:0"], tmp_path).warnings == []


def test_another_name_for_the_only_input_is_said(tmp_path: Path) -> None:
    said = "the samples' array 'rows' was taken for the source's only input, 'x'"
    assert met(["rows"], ["x"], tmp_path).warnings == [said]


def test_what_nobody_measured_is_said_once(walk: Walk, tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text("[]", "utf-8")
    missing: dict[str, JsonValue] = {"not_verified": ["no engine here takes tflite: not verified here"]}
    one = walk.plan.variants[0]
    measured = {f"verify-{one.id}": Done("0", tmp_path, missing, False, 1.0, 1)}
    over = Walk(RECIPE, walk.plan, walk.store, {}, quietly, outcomes={**walk.outcomes, **measured})
    judged = judge(one, RECIPE, over)
    assert judged.outcome is Outcome.UNVERIFIED
    assert judged.why == "its likeness to the source; no engine here takes tflite"
