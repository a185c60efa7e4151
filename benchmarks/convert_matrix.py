"""The conversion matrix: many architectures to ONNX, TFLite and Core ML, and how alike the results answer.

    .venv/bin/python benchmarks/convert_matrix.py               # an hour on two cores; a second run resumes
    .venv/bin/python benchmarks/convert_matrix.py --only ResNet,ViT
    .venv/bin/python benchmarks/convert_matrix.py --json --write    # the goal; docs/conversion-matrix.md

Steps run as in a build: each in its own process, kept in `.cache/bench/convert-store`. A cell that fails
costs no other one. Answers are compared by `converters.verify.parity` with those of the source itself: of the
torch module in torch, of the ONNX file in onnxruntime. Measures no speed.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import matrix_page
from architectures import ARCHITECTURES, CALIBRATION
from clips import CACHE, HERE
from matrix_compare import FOLDER, STORE
from matrix_sources import CASE
from pydantic import TypeAdapter
from rich.console import Console

from converters import variants
from converters.quantize.litert_graph import open_graph
from converters.runner import Done, Failed, Outcome, run
from converters.source_facts import read_onnx
from converters.step import MODEL_FILES, Step
from converters.store import StepStore
from converters.targets import OLD_OPSET, OPSET, RAISED_OPSET
from edge_runtime.contract.task import TaskSpec

console = Console(stderr=True)
PAGE = HERE.parent / "docs" / "conversion-matrix.md"
GOAL = 0.95
CELLS = ("onnx-fp32", "onnx-fp16", "onnx-int8", "tflite-fp32", "tflite-int8", "coreml-fp16", "coreml-int8")
COSINE: Mapping[str, float] = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.99}
"""Least median cosine of every output, by precision; the last is the default budget of a recipe."""
AGREEMENT: Mapping[str, float] = {"fp32": 1.0, "fp16": 15 / 16, "int8": 15 / 16}
"""Least share of the same first classes, or of boxes found again."""

_EXPORT = {
    "torch": ("torch_onnx:export", "torch_litert:export", "torch_coreml:export"),
    "hugging-face": ("hugging_face:export_onnx", "hugging_face:export_litert", "hugging_face:export_coreml"),
    "onnx": ("onnx_source:normalize", "onnx_tflite:export", "onnx_coreml:export"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one architecture in one format and precision.

    Args:
        ok: It was made and answers like the source.
        reason: Why not, in one line.
        cosine: The worst output's median.
        agreement: Of first classes or boxes; None where there are none.
        size: Of the model, bytes.
        dynamic: Its activations are measured at every run.
        seconds: What its own step took.
    """

    ok: bool
    reason: str = ""
    cosine: float | None = None
    agreement: float | None = None
    size: int = 0
    dynamic: bool = False
    seconds: float = 0.0


def exports(case: Mapping[str, Any]) -> list[Step]:
    """The three float models of a source, as a build makes them."""
    kind, task = case["source"]["kind"], case["task"]
    # Of a classifier only its input matters, not its labels.
    options = {"input": task["input"]} if task["kind"] == "classification" else {"task": task}
    options["source"] = case["source"]
    if case.get("max_length"):
        options["max_length"] = case["max_length"]
    if task["kind"] == "classification" and kind == "hugging-face":
        options["dynamic"] = False
    files = {key: Path(path) for key, path in case["files"].items()}
    onnx, tflite, coreml = (f"converters.export.{function}" for function in _EXPORT[kind])
    of_onnx = kind == "onnx"
    needs, sources = ({"model": "onnx-fp32"}, {}) if of_onnx else ({}, files)
    raised = {"opset": RAISED_OPSET} if of_onnx and read_onnx(files["source"]).opset < OLD_OPSET else {}
    return [
        Step(
            "onnx-fp32",
            onnx,
            "onnx" if of_onnx else "torch",
            {**options, **(raised if of_onnx else {"opset": OPSET})},
            files=files,
        ),
        Step("tflite-fp32", tflite, "litert-torch", options, needs, sources),
        Step("coreml-fp16", coreml, "coreml", options, needs, sources),
    ]


def smaller(name: str, case: Mapping[str, Any], task: TaskSpec, *, wide: bool = False) -> Step:
    """The step of a smaller model, as a build chooses it.

    Args:
        name: The cell.
        case: The source.
        task: As the float model has it.
        wide: Its activations are, by `converters.quantize.wide`.
    """
    format_, precision = name.split("-", maxsplit=1)
    samples = {"samples": FOLDER / case["name"] / "samples"}
    if "tokenizer" in case:
        samples["tokenizer"] = Path(case["tokenizer"])
    texts = case["task"]["kind"] in {"tensors", "embedding"}
    dynamic = texts or wide
    given = {"task": task.model_dump(mode="json"), "calibration": CALIBRATION}
    rows: Mapping[str, tuple[str, str, Mapping[str, Any], Mapping[str, Path]]] = {
        "onnx-fp16": ("onnx_half", "onnx", given, samples),
        "onnx-int8": ("onnx_dynamic", "onnx", {}, {}) if texts else ("onnx_static", "onnx", given, samples),
        "tflite-int8": ("litert", "litert", {"precision": "int8-dynamic"}, {})
        if dynamic
        else ("litert", "litert", {**given, "precision": precision}, samples),
        "coreml-int8": ("coreml", "coreml", {"precision": precision}, {}),
    }
    module, tool, options, files = rows[name]
    return Step(
        name, f"converters.quantize.{module}:convert", tool, options, {"model": _BASE[format_]}, files
    )


def architecture(name: str) -> dict[str, Cell]:
    """Convert and compare one architecture."""
    folder = FOLDER / name
    if not (folder / CASE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        prepared = _child("matrix_sources.py", name, str(folder))
        if prepared.returncode:
            reason = f"its source cannot be made: {_last(prepared.stderr)}"
            return {cell: Cell(False, reason) for cell in CELLS}
    case = {**json.loads((folder / CASE).read_text()), "name": name}

    told: set[str] = set()

    def tell(step: str, share: float, doing: str) -> None:
        if share == 1.0 and doing != "cached" and step not in told:
            told.add(step)
            console.print(f"    {step} {doing}", highlight=False)

    store = StepStore(STORE)
    first = exports(case)
    outcomes = dict(run(first, store, tell=tell))
    task: Any = TypeAdapter[TaskSpec](TaskSpec).validate_python(case["task"])
    further: list[Step] = []
    for cell in CELLS:
        base = outcomes[_BASE[cell.split("-", maxsplit=1)[0]]]
        if cell in outcomes:
            continue
        if isinstance(base, Done):
            became = variants.shape([outcomes[part].facts for part in _chain(case, cell)[:-1]])
            wide = cell == "tflite-int8" and open_graph(base.path).wide
            further.append(smaller(cell, case, variants.task_of(task, became), wide=wide))
        else:
            outcomes[cell] = base
    done = [step for step in first if isinstance(outcomes[step.id], Done)]
    outcomes |= run([*done, *further], store, tell=tell)
    made = {cell: outcome for cell, outcome in outcomes.items() if isinstance(outcome, Done)}
    compared = _compare(case, {cell: made[cell].fingerprint for cell in CELLS if cell in made})
    dynamic = {step.id for step in further if "dynamic" in f"{step.function} {step.options.get('precision')}"}
    return {cell: _cell(cell, outcomes, compared, dynamic=cell in dynamic) for cell in CELLS}


def _cell(name: str, outcomes: Mapping[str, Outcome], compared: Mapping[str, Any], *, dynamic: bool) -> Cell:
    outcome = outcomes[name]
    if not isinstance(outcome, Done):
        failed = outcome if isinstance(outcome, Failed) else outcomes[outcome.because]
        told = str(getattr(failed, "error", failed)).splitlines()[0]
        reason = re.sub(rf"{re.escape(str(CACHE))}\S*/", "", told)
        return Cell(False, reason if isinstance(outcome, Failed) else f"no {outcome.because}")
    found = compared.get(name, {"reason": "comparing it ended without an answer"})
    model = outcome.path / MODEL_FILES[name.split("-", maxsplit=1)[0]]
    size = sum(
        path.stat().st_size
        for path in (
            model,
            *outcome.path.glob(f"{model.name}*/**/*"),
            *outcome.path.glob(f"{model.name}.data"),
        )
        if path.is_file()
    )
    if "reason" in found:
        return Cell(False, found["reason"], size=size, dynamic=dynamic, seconds=outcome.seconds)
    numbers = found["numbers"]
    cosine = min((value for key, value in numbers.items() if key.startswith("cosine.")), default=None)
    shares = [
        numbers[key] for key in ("agreement.top1", "agreement.boxes", "agreement.boxes_own") if key in numbers
    ]
    agreement = min(shares, default=None)
    precision = name.split("-", maxsplit=1)[1]
    reason = ""
    if cosine is not None and cosine < COSINE[precision]:
        reason = f"cosine {cosine:.4f}, wanted {COSINE[precision]}"
    elif agreement is not None and agreement < AGREEMENT[precision]:
        reason = f"agreement {agreement:.2f}, wanted {AGREEMENT[precision]:.2f}"
    return Cell(not reason, reason, cosine, agreement, size, dynamic, outcome.seconds)


def _compare(case: Mapping[str, Any], made: Mapping[str, str]) -> dict[str, Any]:
    """Compare in a process of its own, so that a vendor's crash ends nothing else; numbers are kept."""
    kept = FOLDER / case["name"] / "compared.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    left = {cell: digest for cell, digest in made.items() if known.get(cell, {}).get("of") != digest}
    if left:
        chains = {cell: [made[part] for part in _chain(case, cell)] for cell in left}
        done = _child(
            "matrix_compare.py", json.dumps({"name": case["name"], "cells": left, "chains": chains})
        )
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                found = json.loads(line)
                known[found.pop("cell")] = found
        if done.returncode:
            console.print(f"    comparing: {_last(done.stderr)}", highlight=False)
        kept.write_text(json.dumps(known, indent=1))
    return {cell: known[cell] for cell in made if known.get(cell, {}).get("of") == made[cell]}


def _child(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, str(HERE / script), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it ended"])[-1][:200]


_BASE = {"onnx": "onnx-fp32", "tflite": "tflite-fp32", "coreml": "coreml-fp16"}


def _chain(case: Mapping[str, Any], cell: str) -> list[str]:
    """The steps that make a model, the first one first."""
    base = _BASE[cell.split("-", maxsplit=1)[0]]
    first = ["onnx-fp32"] if case["source"]["kind"] == "onnx" else []
    return list(dict.fromkeys([*first, base, cell]))


def main() -> None:
    """Run the matrix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names of architectures, with commas")
    parser.add_argument("--json", action="store_true", help="last, one line with the goal")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    asked = parser.parse_args()
    names: Sequence[str] = asked.only.split(",") if asked.only else list(ARCHITECTURES)
    table: dict[str, dict[str, Cell]] = {}
    for name in names:
        console.print(f"{name}", highlight=False)
        table[name] = architecture(name)
        for cell, found in table[name].items():
            told = "" if found.cosine is None else f" cosine {found.cosine:.5f}"
            told += "" if found.agreement is None else f" agreement {found.agreement:.3f}"
            console.print(f"  {'ok  ' if found.ok else 'FAIL'} {cell}{told} {found.reason}", highlight=False)
    cells = [cell for row in table.values() for cell in row.values()]
    share = sum(cell.ok for cell in cells) / len(cells)
    console.print(f"{share:.1%} of {len(cells)} cells", highlight=False)
    if asked.write:
        PAGE.write_text(matrix_page.page(table, [(one, COSINE[one], AGREEMENT[one]) for one in COSINE], GOAL))
    if asked.json:
        goal = {"value": round(share, 4), "goal": GOAL, "ok": share >= GOAL}
        print(json.dumps({"goals": {"cells": goal}}))


if __name__ == "__main__":
    main()
