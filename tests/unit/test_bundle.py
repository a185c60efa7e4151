"""Opening bundles: the shipped one, bare model files, and everything that can be wrong with a folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from edge_runtime.bundle import MANIFEST, digest, open_bundle, shipped_bundle, wrap_model
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.task import TaskSpec

TASK: dict[str, Any] = {
    "kind": "detection",
    "input": {"layout": "nhwc"},
    "head": {"format": "ssd"},
    "labels": ["person"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good bundle: one variant is a file, the other one a folder."""
    root = tmp_path / "shop"
    (root / "ir" / "deep").mkdir(parents=True)
    (root / "model.onnx").write_bytes(b"onnx bytes")
    (root / "ir" / "model.xml").write_text("<net/>")
    (root / "ir" / "deep" / "model.bin").write_bytes(b"\0" * 100)
    variants = [
        {"id": name, "format": kind, "precision": "fp32", "path": path}
        | dict(zip(("sha256", "size_bytes"), digest(root / path), strict=True))
        for name, kind, path in (("onnx-fp32", "onnx", "model.onnx"), ("ir-fp32", "openvino", "ir"))
    ]
    manifest = {
        "name": "shop",
        "version": "1.2.3",
        "licence": "Apache-2.0",
        "source": "made for a test",
        "task": TASK,
        "variants": variants,
    }
    (root / MANIFEST).write_text(json.dumps(manifest, indent=2))
    return root


def test_a_good_bundle(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.manifest.name == "shop"
    assert [bundle.path(variant) for variant in bundle.manifest.variants] == [
        folder / "model.onnx",
        folder / "ir",
    ]


def test_digests_are_what_other_tools_compute(folder: Path) -> None:
    # sha256sum model.onnx; (cd ir && sha256sum deep/model.bin model.xml) | sha256sum
    assert digest(folder / "model.onnx") == (
        "c1650a9961b22b18b7919016db749eb46e2f14ad9da48dd02aa586fe8a335978",
        10,
    )
    assert digest(folder / "ir") == (
        "ee2bd9779dc110f08ec3205cb520fb0a383d587899c38865168d6098751e2184",
        106,
    )


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Damage that is a change of the manifest."""

    def damage(root: Path) -> None:
        manifest = json.loads((root / MANIFEST).read_text())
        change(manifest)
        (root / MANIFEST).write_text(json.dumps(manifest))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no manifest": (lambda root: (root / MANIFEST).unlink(), ["a folder with a readable bundle.json"]),
    "empty manifest": (lambda root: (root / MANIFEST).write_text(""), ["bundle.json", "EOF"]),
    "not JSON": (
        lambda root: (root / MANIFEST).write_text('{\n  "name": "x",\n  oops\n}'),
        ["bundle.json: the file", "line 3 column 3"],
    ),
    "not text": (lambda root: (root / MANIFEST).write_bytes(b"\xff\xfe{}"), ["bundle.json"]),
    "a list": (lambda root: (root / MANIFEST).write_text("[]"), ["bundle.json"]),
    "unknown key": (edit(lambda m: m.update(colour="red")), ["colour: unknown key"]),
    "unknown key inside": (
        edit(lambda m: m["task"]["input"].update(layuot="nhwc")),
        ["task.detection.input.layuot: unknown key"],
    ),
    "missing key": (edit(lambda m: m.pop("licence")), ["licence", "required"]),
    "two things wrong": (
        edit(lambda m: (m.pop("licence"), m["task"].update(labels=[]))),
        ["licence", "task.detection.labels"],
    ),
    "unknown head": (edit(lambda m: m["task"].update(head={"format": "rcnn"})), ["rcnn", "'ssd'"]),
    "no variants": (edit(lambda m: m.update(variants=[])), ["variants"]),
    "a path that leaves": (
        edit(lambda m: m["variants"][0].update(path="../model.onnx")),
        ["variants.0.path", "inside the bundle"],
    ),
    "a newer schema": (edit(lambda m: m.update(schema_version=2)), ["schema_version"]),
    "variant missing": (
        lambda root: (root / "model.onnx").unlink(),
        ["'onnx-fp32'", "model.onnx", "No such"],
    ),
    "variant empty": (lambda root: (root / "model.onnx").write_bytes(b""), ["10 bytes", "0 bytes"]),
    "variant truncated": (lambda root: (root / "model.onnx").write_bytes(b"onnx"), ["10 bytes", "4 bytes"]),
    "variant changed": (lambda root: (root / "model.onnx").write_bytes(b"ONNX bytes"), ["expected sha256 "]),
    "file gone from a folder": (
        lambda root: (root / "ir" / "deep" / "model.bin").unlink(),
        ["'ir-fp32'", "106 bytes", "6 bytes"],
    ),
    "file renamed in a folder": (
        lambda root: (root / "ir" / "model.xml").rename(root / "ir" / "other.xml"),
        ["'ir-fp32'", "expected sha256 "],
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named(folder: Path, damage: Callable[[Path], object], words: list[str]) -> None:
    open_bundle(folder)
    damage(folder)
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.do


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere.*No such file"):
        open_bundle(tmp_path / "nowhere")


def task() -> TaskSpec:
    adapter: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)
    return adapter.validate_python(TASK)


@pytest.mark.parametrize(
    ("name", "bundle_name", "kind"),
    [
        ("yolox_tiny.onnx", "yolox-tiny", Format.ONNX),
        ("Model v2.TFLite", "model-v2", Format.TFLITE),
        ("net.ort", "net", Format.ORT),
        ("net.xml", "net", Format.OPENVINO),
        ("__.onnx", "model", Format.ONNX),
        ("x" * 100 + ".onnx", "x" * 64, Format.ONNX),
    ],
)
def test_a_bare_model_file(tmp_path: Path, name: str, bundle_name: str, kind: Format) -> None:
    file = tmp_path / name
    file.write_bytes(b"model")
    bundle = wrap_model(file, task())
    (variant,) = bundle.manifest.variants
    assert (bundle.manifest.name, variant.format, bundle.path(variant)) == (bundle_name, kind, file)
    assert bundle.manifest.version == digest(file)[0][:12]
    assert bundle.manifest.licence == "unknown"


def test_a_bare_model_folder(folder: Path) -> None:
    bundle = wrap_model(folder / "ir", task())
    (variant,) = bundle.manifest.variants
    assert variant.format is Format.OPENVINO
    assert bundle.path(variant) == folder / "ir"


@pytest.mark.parametrize(
    ("name", "word"), [("model.pt", r"\.onnx"), ("model", "no ending"), ("gone.onnx", "No such file")]
)
def test_a_bare_model_that_cannot_be_one(tmp_path: Path, name: str, word: str) -> None:
    if name != "gone.onnx":
        (tmp_path / name).write_bytes(b"model")
    with pytest.raises(BundleError, match=word):
        wrap_model(tmp_path / name, task())


def test_the_shipped_bundle_is_whole() -> None:
    path = shipped_bundle("efficientdet-lite0")
    assert path is not None
    manifest = open_bundle(path).manifest
    assert manifest.licence == "Apache-2.0"
    assert manifest.task.labels[0] == "person"
    assert len(manifest.task.labels) == 90


@pytest.mark.parametrize("name", ["", ".", "..", "nothing", "../models/efficientdet-lite0", "*", "/"])
def test_nothing_else_is_shipped(name: str) -> None:
    assert shipped_bundle(name) is None
