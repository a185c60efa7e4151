"""Small bundles, written by the real writer, with bytes that look like models and are none."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from converters.bundle.writer import BuiltVariant, GoldenFiles, write
from converters.step import MODEL_FILES
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Format, Latency, Omission, Precision, Provenance, Receipt
from edge_runtime.contract.task import TaskSpec

MACHINE = "a desk"


def task(*labels: str, min_score: float = 0.25) -> TaskSpec:
    adapter: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)
    return adapter.validate_python(
        {
            "kind": "detection",
            "input": {"layout": "nhwc"},
            "head": {"format": "ssd"},
            "labels": labels or ("person", "car"),
            "min_score": min_score,
        }
    )


def built(folder: Path, name: str, kind: Format, **files: bytes) -> BuiltVariant:
    """Fill a step's folder: `model` is the format's own file, others are beside it (`_` is a dot)."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    for key, content in files.items():
        file = place / (MODEL_FILES[kind] if key == "model" else key.replace("_", "."))
        if kind is Format.COREML:
            file = file / "Data" / "com.apple.CoreML" / "model.mlmodel"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (place / "facts.json").write_text("{}")
    precision = Precision.INT8 if "int8" in name else Precision.FP32
    return BuiltVariant(name, kind, precision, place, ("raspberry-pi-5",))


def receipt(variant: str, top1: float = 0.9, p50_ms: float = 5.0, machine: str = MACHINE) -> Receipt:
    return Receipt(
        variant=variant,
        engine="onnxruntime",
        machine=machine,
        measured_at="2026-01-01T00:00:00Z",
        parity={"cosine.scores": 0.999},
        accuracy={"top1": top1, "source.top1": 0.91},
        latency=Latency(p50_ms=p50_ms, p95_ms=p50_ms + 1, threads=1, runs=10),
        peak_memory_bytes=10_000_000,
    )


def small_variants(steps: Path) -> list[BuiltVariant]:
    """One file, one file with data beside it, a folder, a package."""
    return [
        built(steps, "tflite-int8", Format.TFLITE, model=b"tflite bytes"),
        built(steps, "onnx-fp32", Format.ONNX, model=b"onnx bytes", model_onnx_data=b"\1" * 3000),
        built(steps, "openvino-fp32", Format.OPENVINO, model=b"<net/>", model_bin=b"\0" * 100),
        built(steps, "coreml-fp32", Format.COREML, model=b"coreml bytes"),
    ]


def small_bundle(
    target: Path,
    steps: Path,
    *,
    version: str = "1.2.3",
    variants: Sequence[BuiltVariant] | None = None,
    receipts: Sequence[Receipt] = (),
    spec: TaskSpec | None = None,
) -> ModelBundle:
    """Write a bundle that has everything a bundle can have."""
    steps.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "inputs.npz", "outputs.npz"):
        (steps / name).write_bytes(name.encode() * 10)
    return write(
        target,
        name="shop",
        version=version,
        licence="Apache-2.0",
        source="made for a test",
        task=spec or task(),
        variants=small_variants(steps) if variants is None else variants,
        receipts=receipts,
        golden=GoldenFiles(steps / "inputs.npz", steps / "outputs.npz"),
        tokenizer=steps / "tokenizer.json",
        omitted=(Omission(id="onnx-int8", profiles=("store-pc-cpu",), why="too slow"),),
        provenance=Provenance(
            source_sha256="ab" * 32,
            recipe={"name": "shop", "size": None, "b": [2, 1]},
            tools={"onnx": "1.23.2"},
        ),
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
