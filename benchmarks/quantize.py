"""Quantization that ruins neither model nor speed: a detector, a classifier and a text encoder.

    .venv/bin/python benchmarks/quantize.py            # about ten minutes on two cores
    .venv/bin/python benchmarks/quantize.py --json     # last, one line with the goals
    .venv/bin/python benchmarks/quantize.py --only detector

The steps are called as a build calls them. Accuracy is measured on samples the steps never saw, through the
device's own tasks; times are taken in turns, one thread, and only their ratios mean something.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import quantize_models as models
from score import Score, console

from converters.quantize import onnx_dynamic, onnx_int4, onnx_mixed, onnx_static
from converters.step import MODEL_FILES, StepFunction
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.registry import load_engine

ROUNDS = 40


@dataclass(frozen=True, slots=True)
class Variant:
    """A model file and how long its step took."""

    path: Path
    step_s: float
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def make(subject: models.Subject, step: StepFunction, out: Path, **options: Any) -> Variant:
    """Run a step as a build does."""
    out.mkdir()
    began = time.perf_counter()
    facts = step(
        subject.inputs,
        out,
        {"task": subject.task, "calibration": models.GIVEN, **options},
        lambda share, what: None,
    )
    return Variant(out / MODEL_FILES["onnx"], time.perf_counter() - began, facts)


def opened(path: Path) -> Session:
    return load_engine("onnxruntime").open(path, options=EngineOptions(threads=1))


def latency(candidate: Path, reference: Path, subject: models.Subject) -> float:
    """Time of a model over another's: the median of the ratios of runs next to each other."""
    sessions = [opened(path) for path in (candidate, reference)]
    inputs = subject.tensors(sessions[1])
    ratios: list[float] = []
    for turn in range(ROUNDS + 5):
        times = []
        for session in sessions:
            began = time.perf_counter()
            session.run(inputs)
            times.append(time.perf_counter() - began)
        if turn >= 5:
            ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def compare(
    score: Score, subject: models.Subject, name: str, variant: Path, goals: dict[str, float] | None = None
) -> None:
    """Judge one variant against fp32, with goals or without."""
    fp32 = subject.inputs["model"] / MODEL_FILES["onnx"]
    found = {
        "size": variant.stat().st_size / fp32.stat().st_size,
        "time": latency(variant, fp32, subject),
        **subject.accuracy(opened(variant), opened(fp32)),
    }
    for what, value in found.items():
        label = f"{subject.name} {name}, {what}"
        goal = (goals or {}).get(what)
        if goal is None:
            score.figure(label, value)
        elif what in {"spearman"}:
            score.at_least(label, value, goal)
        else:
            score.at_most(label, value, goal)


def detector(folder: Path, score: Score) -> None:
    """YOLOX-tiny, which naive quantization ruins."""
    subject = models.detector(folder)
    for name, options in models.NAIVE.items():
        compare(score, subject, name, models.naive(subject, folder / f"{name}.onnx", **options))
    for ranges in ("minmax", "percentile", "entropy"):
        made = make(subject, onnx_static.convert, folder / ranges, ranges=ranges)
        compare(score, subject, f"static, {ranges}", made.path)
    mixed = make(subject, onnx_mixed.convert, folder / "mixed")
    compare(score, subject, "mixed", mixed.path, {"AP50 lost": 0.02, "size": 0.45, "time": 1.0})
    score.at_most("YOLOX-tiny mixed, step seconds", mixed.step_s, 240)
    left = [layer["name"] for layer in mixed.facts["layers"] if layer["precision"] != "int8"]
    console.print(f"        in float: {', '.join(left)}", highlight=False)


def classifier(folder: Path, score: Score) -> None:
    """A small MobileNet-like net trained here."""
    subject = models.classifier(folder, lambda line: console.print(line, style="dim"))
    for step, name in ((onnx_static.convert, "int8"), (onnx_mixed.convert, "mixed")):
        made = make(subject, step, folder / name)
        compare(score, subject, name, made.path, {"accuracy lost": 0.005})


def text(folder: Path, score: Score) -> None:
    """all-MiniLM-L6-v2."""
    subject = models.encoder(folder)
    for step, name in (
        (onnx_dynamic.convert, "int8 dynamic"),
        (onnx_int4.convert, "int4"),
        (onnx_mixed.convert, "mixed static"),
    ):
        made = make(subject, step, folder / name.replace(" ", "-"))
        compare(
            score, subject, name, made.path, {"spearman": 0.99} if step is not onnx_mixed.convert else None
        )


PARTS: dict[str, Callable[[Path, Score], None]] = {
    "detector": detector,
    "classifier": classifier,
    "text": text,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="only these parts")
    parser.add_argument("--json", action="store_true", help="last, one line with goals and figures")
    chosen = parser.parse_args(arguments)
    score = Score()
    for name in chosen.only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder), score)
    if chosen.json:
        print(json.dumps({"goals": score.goals, "figures": score.figures}))


if __name__ == "__main__":
    main()
