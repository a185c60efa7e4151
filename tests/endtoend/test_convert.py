"""`edge-runtime convert`, whole: a torch module becomes a signed bundle whose variants answer as it does.

Real exporters, real engines, child processes; a tiny net, so that it takes seconds.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converters.build import build, prepare
from converters.bundle.sign import make_keys
from converters.recipe_file import load_recipe
from converters.store import StepStore
from edge_runtime.bundle import open_bundle
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.errors import ConfigError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.make import make_any_task
from edge_runtime.tasks.rows import raw_inputs, read_rows
from tests.simulators.conversions import RECIPE, Called, call, furnish


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("convert"))


@pytest.fixture(scope="module")
def converted(place: Path) -> Called:
    return call(
        place,
        place / "recipe.yaml",
        *("--out", place / "bundle", "--cache", place / "cache", "--sign", place / "key.pem", "--json"),
    )


@pytest.fixture
def again(place: Path) -> Callable[..., Called]:
    def convert(*more: object) -> Called:
        out = place / "again"
        return call(place, place / "recipe.yaml", "--out", out, "--cache", place / "cache", "--json", *more)

    return convert


def test_every_variant_is_shipped(converted: Called) -> None:
    assert converted.code == 0, converted.err
    found = {one["id"]: (one["outcome"], one["why"]) for one in converted.document["variants"]}
    passed = ("shipped", "")
    assert {name: outcome for name, outcome in found.items() if name != "coreml-fp16"} == {
        "onnx-fp32": passed,
        "onnx-int8": passed,
        "openvino-fp32": passed,
    }
    # Its numbers were checked by the evaluator; there is no Core ML here to take its time.
    assert found["coreml-fp16"][0] in {"shipped", "not verified here"}


def test_the_bundle_is_whole_and_signed(converted: Called) -> None:
    bundle = open_bundle(converted.folder / "bundle", trusted=[converted.folder / "key.pem.pub"])
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.licence) == ("signs", "2.1.0", "Apache-2.0")
    assert {variant.profiles for variant in manifest.variants} == {("kiosk",)}
    assert manifest.provenance is not None
    assert "torch" in manifest.provenance.tools
    assert str(converted.folder) not in (bundle.root / "bundle.json").read_text("utf-8")


def test_receipts_say_what_was_measured(converted: Called) -> None:
    bundle = open_bundle(converted.folder / "bundle")
    receipts = {(one.variant, one.engine): one for one in bundle.manifest.receipts}
    int8 = receipts["onnx-int8", "onnxruntime"]
    assert int8.latency is not None
    assert int8.latency.times_fp32 is not None
    assert {"top1", "source.top1"} <= set(int8.accuracy)
    assert min(value for key, value in int8.parity.items() if key.startswith("cosine.")) > 0.98
    assert receipts["coreml-fp16", "mil-evaluator"].latency is None


def test_every_variant_answers_as_the_source_on_the_golden_inputs(converted: Called) -> None:
    bundle = open_bundle(converted.folder / "bundle")
    golden = bundle.manifest.golden
    assert golden is not None
    (wanted,) = read_rows(bundle.root / golden.outputs.path).values()
    for variant in bundle.manifest.variants:
        if variant.format is Format.COREML:
            continue
        spec = bundle.manifest.task_of(variant)
        engine = load_engine({"onnx": "onnxruntime"}.get(variant.format, variant.format))
        model = bundle.root / variant.path
        session = engine.open(model / "model.xml" if model.is_dir() else model, options=EngineOptions())
        task = make_any_task(spec, session.inputs, session.outputs)
        tolerance = 0.1 if variant.precision is Precision.INT8 else 1e-3
        for raw, want in zip(
            raw_inputs(read_rows(bundle.root / golden.inputs.path), spec), wanted, strict=True
        ):
            (got,) = session.run(task.preprocess(raw)[0]).values()
            assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
        session.close()


def test_a_second_run_does_no_step_again_and_writes_the_same(
    converted: Called, again: Callable[..., Called]
) -> None:
    found = again()
    assert found.code == 0
    assert found.document["cached"] == found.document["steps"] > 8
    one, other = ((converted.folder / name / "bundle.json").read_bytes() for name in ("bundle", "again"))
    assert one == other


def test_a_second_run_loads_no_tool(converted: Called) -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "coremltools", "numpy", "cv2")
    code = (
        "import sys; from edge_runtime.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        f"except SystemExit as end: assert not end.code; print([m for m in {heavy} if m in sys.modules])"
    )
    folder = converted.folder
    arguments = ["convert", folder / "recipe.yaml", "--out", folder / "third", "--cache", folder / "cache"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] in {"[]", "['numpy']"}


def test_a_variant_that_fails_the_gate_is_left_out_with_its_number(
    converted: Called, again: Callable[..., Called], place: Path
) -> None:
    text = RECIPE.replace("budgets: {", "budgets: {size_bytes: 6000, ")
    (place / "small.yaml").write_text(text, "utf-8")
    found = call(
        place,
        place / "small.yaml",
        "--out",
        place / "small",
        "--cache",
        place / "cache",
        "--format",
        "onnx",
        "--json",
    )
    outcomes = {one["id"]: one for one in found.document["variants"]}
    assert outcomes["onnx-fp32"]["outcome"] == "left out"
    assert "the budget is 6000 bytes" in outcomes["onnx-fp32"]["why"]
    assert (place / "small.report.html").is_file()
    stopped = call(
        place, place / "small.yaml", "--out", place / "none", "--cache", place / "cache", "--format", "onnx",
        "--on-failure", "stop",
    )  # fmt: skip
    assert stopped.code == 9
    assert "No bundle was made" in stopped.err
    assert not (place / "none").exists()


def test_only_what_is_wanted_is_made(place: Path, converted: Called) -> None:
    found = call(
        place, place / "recipe.yaml", "--out", place / "part", "--cache", place / "cache", "--json",
        "--precision", "int8", "--precision", "int4", "--precision", "fp32",
    )  # fmt: skip
    assert found.code == 0
    assert {one["id"] for one in found.document["variants"]} == {"onnx-fp32", "onnx-int8", "openvino-fp32"}


def test_a_dry_run_says_who_gets_what_and_why_and_runs_nothing(place: Path) -> None:
    found = call(place, place / "recipe.yaml", "--dry-run", "--cache", place / "untouched")
    assert found.code == 0
    assert "onnx-int8" in found.out
    assert "onnxruntime takes int8 first here" in found.out
    assert not (place / "untouched").exists()
    document = call(place, place / "recipe.yaml", "--dry-run", "--json").document
    assert [step["id"] for step in document["steps"]][:2] == ["samples", "onnx-fp32"]


def test_a_signature_that_fails_leaves_what_was_there(converted: Called, place: Path) -> None:
    key, out = place / "lost.pem", place / "unsigned"
    make_keys(key)
    prepared = prepare(load_recipe(place / "recipe.yaml"))

    def lose_the_key(step: str, share: float, doing: str) -> None:
        key.unlink(missing_ok=True)

    with pytest.raises(ConfigError, match=r"lost\.pem"):
        build(prepared, out, StepStore(place / "cache"), tell=lose_the_key, key=key)
    assert not out.exists()
