"""What a build costs beside calling the tools by hand: time, memory, and a second run.

    .venv/bin/python benchmarks/convert.py             # about ten minutes on two quiet cores
    .venv/bin/python benchmarks/convert.py --json      # last, one line with the goals

MobileNetV2 with its ImageNet weights. By hand is a script of a few lines that calls the same tool with the
same settings in a process of its own, as its manual shows; ours is the step, through the runner: a process as
well, and checks, comparison with torch, digests and the store besides. For int8 both calibrate with the same
number of samples. Both take turns, and only their ratios mean something.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from architectures import CALIBRATION
from clips import CACHE, HERE
from rich.console import Console

console = Console(stderr=True)
MODEL = "MobileNetV2"
FOLDER = CACHE / "convert-matrix" / MODEL
ROUNDS = 3
GOAL = 1.10
WARM_GOAL_S = 2.0
BYTES_PER_KIB = 1024

_LOAD = """
import sys, torch
sys.path.insert(0, {here!r})
import nets
net = nets.mobilenet_v2()
net.load_state_dict(torch.load({weights!r}, weights_only=True))
net.eval()
example = (torch.randn(1, 3, 224, 224),)
"""
HANDS: Mapping[str, str] = {
    "onnx-fp32": _LOAD
    + """
import onnx, onnxslim
program = torch.onnx.export(
    net, example, input_names=["image"], output_names=["scores"], opset_version=18, dynamo=True)
onnx.save(onnxslim.slim(program.model_proto), {out!r} + "/model.onnx")
""",
    "tflite-fp32": _LOAD
    + """
import litert_torch
net = litert_torch.to_channel_last_io(net, args=[0])
litert_torch.convert(net, (example[0].permute(0, 2, 3, 1),)).export({out!r} + "/model.tflite")
""",
    "coreml-fp16": _LOAD
    + """
import coremltools
program = torch.export.export(net, example).run_decompositions({{}})
coremltools.convert(program, convert_to="mlprogram", minimum_deployment_target=coremltools.target.iOS16,
    skip_model_load=True).save({out!r} + "/model.mlpackage")
""",
    "onnx-int8": """
import cv2, numpy
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

class Reader(CalibrationDataReader):
    def __init__(self):
        stored = numpy.load({samples!r})
        names = [name for name in sorted(stored.files) if name.startswith("pictures")]
        self.pictures = iter([stored[name] for name in names[:{calibration}]])

    def get_next(self):
        picture = next(self.pictures, None)
        if picture is None:
            return None
        picture = cv2.cvtColor(cv2.resize(picture, (224, 224)), cv2.COLOR_BGR2RGB).astype(numpy.float32) / 255
        picture = (picture - numpy.float32((0.485, 0.456, 0.406))) / numpy.float32((0.229, 0.224, 0.225))
        return {{"image": picture.transpose(2, 0, 1)[None]}}

quant_pre_process({model!r}, {out!r} + "/ready.onnx")
quantize_static({out!r} + "/ready.onnx", {out!r} + "/model.onnx", Reader(), per_channel=True,
    activation_type=QuantType.QUInt8)
""",
}
"""Cell of the matrix -> what one writes to get it without us."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    seconds: float
    memory_bytes: int


def ours(cell: str, store: Path) -> Cost:
    """Run a step through the runner; the models it needs are there already."""
    from converters.runner import Done, run
    from converters.store import StepStore

    step = _step(cell)
    began = time.perf_counter()
    outcome = run([step], StepStore(store), tell=lambda name, share, doing: None)[cell]
    seconds = time.perf_counter() - began
    if not isinstance(outcome, Done) or outcome.cached:
        raise SystemExit(f"{cell}: {outcome}")
    return Cost(seconds, outcome.peak_memory_bytes)


def _step(cell: str) -> Any:
    import convert_matrix
    from matrix_sources import CASE
    from pydantic import TypeAdapter

    from converters.step import Step
    from edge_runtime.contract.task import TaskSpec

    case = {**json.loads((FOLDER / CASE).read_text()), "name": MODEL}
    first = {step.id: step for step in convert_matrix.exports(case)}
    if cell in first:
        return first[cell]
    task: Any = TypeAdapter[TaskSpec](TaskSpec).validate_python(case["task"])
    made = convert_matrix.smaller(cell, case, task)
    files = {**made.files, "model": _float_model()}
    return Step(made.id, made.function, made.tool, made.options, files=files)


def _float_model() -> Path:
    """The fp32 ONNX model in the matrix's own store, which is made where it is missing."""
    import convert_matrix

    from converters.runner import Done, run
    from converters.store import StepStore

    step = _step("onnx-fp32")
    outcome = run([step], StepStore(convert_matrix.STORE), tell=lambda name, share, doing: None)[step.id]
    if not isinstance(outcome, Done):
        raise SystemExit(f"{step.id}: {outcome}")
    return outcome.path


def by_hand(cell: str, out: Path) -> Cost:
    """Run a script in the tool's own environment."""
    from matrix_sources import CASE

    from converters.environments import prepare
    from converters.step import SAMPLES_FILE
    from converters.toolchain import find_tool

    case = json.loads((FOLDER / CASE).read_text())
    script = HANDS[cell].format(
        here=str(HERE),
        weights=case["files"]["source"],
        out=str(out),
        samples=str(FOLDER / "samples" / SAMPLES_FILE),
        calibration=CALIBRATION,
        model=str(_float_model() / "model.onnx") if cell == "onnx-int8" else "",
    )
    tool = {"tflite-fp32": "litert-torch", "coreml-fp16": "coreml"}.get(cell, "torch")
    launch = prepare(find_tool(tool), tell=lambda share, doing: None)
    began = time.perf_counter()
    with (out / "log").open("w") as log:
        # In a session of its own, as the runner starts a step: Linux shares processors out by session.
        child = subprocess.Popen(
            (*launch.command, "-c", script),
            env=dict(launch.environment),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{cell} by hand: {(out / 'log').read_text()[-2000:]}")
    return Cost(seconds, used.ru_maxrss * BYTES_PER_KIB)


def again(cells: Sequence[str], store: Path) -> float:
    """Give the seconds of a second run in a fresh process, its start included."""
    steps = store.parent / "steps.json"
    steps.write_text(json.dumps([asdict(_step(cell)) for cell in cells], default=str))
    command = (sys.executable, str(HERE / "convert.py"), "--again", str(steps), str(store))
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr, start_new_session=True)
    return time.perf_counter() - began


def _again(steps: Path, store: Path) -> None:
    from converters.runner import Done, run
    from converters.step import Step
    from converters.store import StepStore

    told = json.loads(steps.read_text())
    graph = [
        Step(**{**one, "files": {name: Path(path) for name, path in one["files"].items()}}) for one in told
    ]
    outcomes = run(graph, StepStore(store), tell=lambda name, share, doing: None)
    lost = [
        f"{name} {one.fingerprint[:12] if isinstance(one, Done) else one}"
        for name, one in outcomes.items()
        if not isinstance(one, Done) or not one.cached
    ]
    if lost:
        raise SystemExit(f"not kept: {', '.join(lost)}")


def _fresh(folder: Path, run: Callable[[Path], Cost]) -> Cost:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return run(folder)


def compare(cells: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Take turns; give the goals."""
    goals: dict[str, dict[str, Any]] = {}

    def note(name: str, value: float, goal: float) -> None:
        goals[name] = {"value": round(value, 3), "goal": goal, "ok": value <= goal}
        console.print(
            f"{'reached' if value <= goal else 'MISSED '} {name} {value:.3f} (goal {goal:g})", highlight=False
        )

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "store"
        for cell in cells:
            mine: list[Cost] = []
            theirs: list[Cost] = []
            for number in range(rounds):
                theirs.append(_fresh(folder / "hand", lambda out, cell=cell: by_hand(cell, out)))
                mine.append(_fresh(folder / "ours", lambda out, cell=cell: ours(cell, out)))
                console.print(
                    f"    {cell} {number + 1}/{rounds}:"
                    f" ours {mine[-1].seconds:.1f} s {mine[-1].memory_bytes >> 20} MiB,"
                    f" by hand {theirs[-1].seconds:.1f} s {theirs[-1].memory_bytes >> 20} MiB",
                    highlight=False,
                )
            shutil.copytree(folder / "ours", store, dirs_exist_ok=True)
            pairs = list(zip(mine, theirs, strict=True))
            note(f"{cell}, time", statistics.median(a.seconds / b.seconds for a, b in pairs), GOAL)
            note(
                f"{cell}, memory", statistics.median(a.memory_bytes / b.memory_bytes for a, b in pairs), GOAL
            )
        note(
            "second run, seconds", statistics.median(again(cells, store) for _ in range(rounds)), WARM_GOAL_S
        )
    return goals


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(HANDS), help="cells, with commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="last, one line with the goals")
    parser.add_argument("--again", type=Path, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.again:
        _again(*asked.again)
        return
    cells: Sequence[str] = asked.only.split(",")
    goals = compare(cells, asked.rounds)
    if asked.json:
        print(json.dumps({"goals": goals}))


if __name__ == "__main__":
    main()
