"""What a build says of variants that failed: to a person, to a program, and as an exit code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converters.build import Built, Prepared, build, why_omitted
from converters.judged import Judged
from converters.planned import Plan, PlannedVariant, SourceFacts
from converters.recipe import Recipe, SourceKind
from converters.recipe_file import LoadedRecipe
from converters.report.data import Outcome
from converters.runner import Failed
from converters.show import result_document
from converters.step import Step
from converters.store import StepStore
from edge_runtime.cli.shell import exit_code, print_json
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.errors import ConversionError, StorageError

STEPS = "tests.simulators.route_steps"
RECIPE: dict[str, Any] = {
    "name": "model",
    "source": {"module": "a.b:C"},
    "task": {"kind": "classification", "input": {"layout": "nchw"}, "labels": ["a"]},
    "profiles": ["raspberry-pi-5"],
}


def planned(precision: Precision) -> PlannedVariant:
    name = f"onnx-{precision}"
    return PlannedVariant(name, Format.ONNX, precision, name, None, ("onnxruntime",), ("raspberry-pi-5",), 0)


def prepared(functions: dict[Precision, str], **recipe: Any) -> Prepared:
    """A plan in which the step of each variant is the function of that name."""
    steps = (
        Step("samples", f"{STEPS}:make", "base"),
        Step("source", f"{STEPS}:make", "base", {"model": "model.onnx"}),
        *(
            Step(f"onnx-{precision}", f"{STEPS}:{name}", "base", {}, {"model": "source"})
            for precision, name in functions.items()
        ),
    )
    plan = Plan(steps, tuple(map(planned, functions)), (), (), "source", Format.ONNX)
    loaded = LoadedRecipe(Recipe.model_validate({**RECIPE, **recipe}), (), None, {})
    return Prepared(loaded, SourceFacts(SourceKind.TORCH, {}), plan, {})


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def build_it(functions: dict[Precision, str], **recipe: Any) -> Built:
        store = StepStore(tmp_path / "store")
        return build(prepared(functions, **recipe), tmp_path / "out", store, tell=lambda *_: None)

    return build_it


def document(built: Built, capsys: pytest.CaptureFixture[str]) -> Any:
    print_json(result_document(built, Path("out")))
    return json.loads(capsys.readouterr().out)


def test_a_program_is_told_all_that_is_known_of_a_failure(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(make({Precision.FP32: "refuse_layer", Precision.FP16: "refuse_layer"}), capsys)
    assert [one["outcome"] for one in told["variants"]] == ["failed", "failed"]
    said = told["variants"][0]["error"]
    log = Path(said.pop("log"))
    assert log.is_file()
    parts = {
        "expected": "opset 20",
        "got": "opset 17",
        "do": "Take another target",
        "operator": "GridSample",
        "layer": "/neck/warp",
        "step": "onnx-fp32",
    }
    problem = "the target has no GridSample"
    words = ": expected opset 20, got opset 17. Take another target"
    kind = {"type": "ConversionError", "exit_code": 9}
    assert said == {**kind, "message": problem + words, "kind": "ConversionError", **parts}
    assert told["error"] == {**kind, "message": f"no variant passed: {problem}{words}", **parts}
    assert told["bundle"] is None


def test_different_failures_are_all_named(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    # An empty file is made for the second, and no engine opens it.
    told = document(make({Precision.FP32: "refuse_layer", Precision.FP16: "make"}), capsys)
    message = told["error"]["message"]
    assert message.startswith("no variant passed: got onnx-fp32 failed: the target has no GridSample")
    assert "; onnx-fp16 failed: " in message
    assert told["error"]["exit_code"] == 9
    assert told["variants"][1]["error"]["step"] == "verify-onnx-fp16"


@pytest.mark.parametrize("on_failure", ["leave_out", "stop"])
def test_a_full_disk_is_one_whatever_else_failed(make: Any, on_failure: str) -> None:
    functions = {Precision.FP32: "refuse_layer", Precision.FP16: "find_disk_full"}
    if on_failure == "stop":
        with pytest.raises(StorageError, match="no room for its result"):
            make(functions, on_failure=on_failure)
        return
    failure = make(functions, on_failure=on_failure).failure
    assert isinstance(failure, StorageError)
    assert exit_code(failure) == 8


def test_a_build_that_stops_names_operator_and_layer(make: Any) -> None:
    with pytest.raises(ConversionError, match="No bundle was made") as caught:
        make({Precision.FP32: "refuse_layer"}, on_failure="stop")
    error = caught.value
    assert (error.step, error.operator, error.layer) == ("onnx-fp32", "GridSample", "/neck/warp")


def test_what_the_gate_left_out_is_no_broken_step(capsys: pytest.CaptureFixture[str]) -> None:
    lost = Judged(planned(Precision.FP32), Outcome.LEFT_OUT, "9 bytes, the budget is 8", Precision.FP32)
    built = Built(None, Path("report"), (lost, replace(lost, why="other")), (), 1.0)
    told = document(built, capsys)
    assert told["variants"][0]["error"] is None
    assert "onnx-fp32 left out: 9 bytes, the budget is 8" in told["error"]["message"]


def test_what_a_bundle_says_of_a_failure_names_no_place_of_this_machine(tmp_path: Path) -> None:
    log = tmp_path / "failed" / "log.txt"
    error = ConversionError(
        "step 'x' failed with KeyError", got="'node'", do=f"{log} has what its tools said"
    )
    lost = Judged(
        planned(Precision.FP32),
        Outcome.FAILED,
        str(error),
        Precision.FP32,
        failure=Failed(error, "KeyError", log),
    )
    assert why_omitted(lost) == "step 'x' failed with KeyError: got 'node'"
    refused = ConversionError("no GridSample", do="Take another target")
    lost = replace(lost, why=str(refused), failure=Failed(refused, "ConversionError", log))
    assert why_omitted(lost) == "no GridSample. Take another target"
