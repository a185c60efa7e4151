"""`edge-runtime convert`, whole: a torch module becomes a signed bundle whose variants answer as it does.

Real exporters, real engines, child processes; a tiny net, so that it takes seconds. What cannot be converted
is refused in one line.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from converters.bundle.sign import make_keys
from edge_runtime.bundle import open_bundle
from edge_runtime.cli.app import app
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.make import make_any_task
from edge_runtime.tasks.rows import raw_inputs, read_rows

PROFILE = """\
name: kiosk
title: A kiosk with everything
cpu: {name: some, arch: x86_64, cores: 2, threads: 2, features: [avx_vnni]}
memory_bytes: 4294967296
memory_budget_bytes: 2147483648
engines:
  - {engine: onnxruntime, formats: [onnx], precisions: [int8, fp32]}
  - {engine: openvino, formats: [openvino, onnx], precisions: [fp32]}
  - {engine: coreml, formats: [coreml], precisions: [fp16]}
target_latency_ms: 10
facts: [{says: nothing, source: this test}]
"""
RECIPE = """\
name: signs
version: 2.1.0
licence: Apache-2.0
source:
  module: tests.simulators.tiny_models:Classifier
  inputs: [{name: image, shape: [1, 3, 16, 24]}]
task:
  kind: classification
  input: {layout: nchw, scale: 0.00392156862745098, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4], fit: stretch}
  labels: [a, b, c, d, e]
samples: {path: pictures, labels: labels.csv, calibration: 8, verification: 8}
profiles: [kiosk.yaml]
budgets: {slower_than_fp32: 1000, agreement: 0.5, accuracy_drop: 1.0}
"""


@dataclass(frozen=True)
class Called:
    """What one call of the command line left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def call(folder: Path, *arguments: object) -> Called:
    done = CliRunner().invoke(app, ["convert", *map(str, arguments)], env={"COLUMNS": "200"})
    return Called(done.exit_code, done.stdout, done.stderr, folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: pictures, labels, a profile, a recipe, a key."""
    folder = tmp_path_factory.mktemp("convert")
    (folder / "pictures").mkdir()
    dice = np.random.default_rng(7)
    rows = ["file,label"]
    for at in range(16):
        coarse = dice.integers(0, 256, (2, 3, 3), np.uint8)
        picture = cv2.resize(coarse, (48, 32), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / "pictures" / f"{at:02}.png"), picture)
        rows.append(f"{at:02}.png,{at % 5}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "kiosk.yaml").write_text(PROFILE, "utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, "utf-8")
    make_keys(folder / "key.pem")
    return folder


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


def bad(place: Path, change: Callable[[str], str], *more: object) -> Called:
    (place / "bad.yaml").write_text(change(RECIPE), "utf-8")
    return call(place, place / "bad.yaml", "--out", place / "bad", "--cache", place / "cache", *more)


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("licence:", "license:", 3, "bad.yaml:3: license: unknown key. Did you mean 'licence'?"),
        ("[kiosk.yaml]", "[raspberry-pi-6]", 3, "Did you mean 'raspberry-pi-5'?"),
        ("module: tests.simulators.tiny_models:Classifier", "path: net.onnx", 4, "is damaged"),
        ("module: tests.simulators.tiny_models:Classifier", "path: net.pkl", 9, "which can run any code"),
        ("module: tests.simulators.tiny_models:Classifier", "path: net.tflite", 4, "got 0 bytes"),
        ("tiny_models:Classifier", "tiny_models:Clasifier", 9, "has no 'Clasifier' to call"),
        ("shape: [1, 3, 16, 24]", "shape: [1, 4, 16, 24]", 9, "features.0"),
    ],
)
def test_bad_input_is_one_line_and_a_code(place: Path, old: str, new: str, code: int, said: str) -> None:
    (place / "net.onnx").write_bytes(b"\x08\x08\x3a\xff\x7fcut")
    (place / "net.pkl").write_bytes(b"\x80\x04.")
    (place / "net.tflite").touch()
    found = bad(place, lambda text: text.replace(old, new), "--format", "onnx")
    assert found.code == code, found.err
    assert said in found.out + found.err
    assert "Traceback" not in found.err
