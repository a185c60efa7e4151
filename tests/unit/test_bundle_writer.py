"""Writing bundles: what lies where, the same bytes twice, and what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from converters.bundle.writer import BuiltVariant, write
from edge_runtime.bundle import MANIFEST, open_bundle, unlisted
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.errors import BundleError, ConversionError, StorageError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from tests.conformance.graphs import Graph, Node, Value, to_onnx
from tests.simulators.bundles import built, content, receipt, small_bundle, small_variants, task


def test_everything_has_its_place_and_its_digest(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "new" / "shop", tmp_path / "steps", receipts=[receipt("onnx-fp32")])
    root = bundle.root
    assert sorted(content(root)) == [
        "bundle.json",
        "golden/inputs.npz",
        "golden/outputs.npz",
        "tokenizer.json",
        "variants/coreml-fp32/model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "variants/onnx-fp32/model.onnx",
        "variants/onnx-fp32/model.onnx.data",
        "variants/openvino-fp32/model.bin",
        "variants/openvino-fp32/model.xml",
        "variants/tflite-int8/model.tflite",
    ]
    again = open_bundle(root)
    assert again.manifest == bundle.manifest
    assert unlisted(again) == []
    # A model of several files is named by its folder, so that the digest covers all; engines get the model.
    assert [(one.path, again.path(one).relative_to(root).as_posix()) for one in again.manifest.variants] == [
        ("variants/tflite-int8/model.tflite", "variants/tflite-int8/model.tflite"),
        ("variants/onnx-fp32", "variants/onnx-fp32/model.onnx"),
        ("variants/openvino-fp32", "variants/openvino-fp32"),
        ("variants/coreml-fp32/model.mlpackage", "variants/coreml-fp32/model.mlpackage"),
    ]
    told = again.manifest
    assert (told.omitted[0].why, told.receipts[0].accuracy["top1"]) == ("too slow", 0.9)
    assert told.provenance is not None
    assert told.provenance.recipe == {"name": "shop", "size": None, "b": [2, 1]}


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    first = small_bundle(tmp_path / "one", tmp_path / "steps", receipts=[receipt("onnx-fp32")])
    for path in (tmp_path / "steps").rglob("*"):
        os.utime(path, (1, 1))
    second = small_bundle(tmp_path / "two", tmp_path / "elsewhere", receipts=[receipt("onnx-fp32")])
    assert content(first.root) == content(second.root)


def test_the_manifest_is_written_one_way(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "shop", tmp_path / "steps", spec=task("пешеход"))
    text = (bundle.root / MANIFEST).read_text("utf-8")
    document = json.loads(text)
    assert text == json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    assert "пешеход" in text
    assert document["variants"][0].keys().isdisjoint({"input", "head", "output"})


def test_a_bundle_replaces_a_bundle_whole(tmp_path: Path) -> None:
    root = small_bundle(tmp_path / "shop", tmp_path / "steps").root
    (root / "bundle.sig").write_text("of the old one")
    small_bundle(root, tmp_path / "steps", version="2.0.0", variants=small_variants(tmp_path / "steps")[:1])
    assert open_bundle(root).manifest.version == "2.0.0"
    assert "variants/onnx-fp32/model.onnx" not in content(root)
    assert not (root / "bundle.sig").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_empty_folder_is_filled_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    small_bundle(tmp_path / "link", tmp_path / "steps")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / MANIFEST).is_file()


@pytest.mark.parametrize("stranger", ["holiday.jpg", "variants/onnx-fp32/../../notes.txt"])
def test_what_is_no_bundle_is_not_replaced(tmp_path: Path, stranger: str) -> None:
    target = tmp_path / "shop"
    if stranger == "holiday.jpg":
        target.mkdir()
    else:
        small_bundle(target, tmp_path / "steps")
    (target / stranger).write_text("dear")
    before = content(target)
    with pytest.raises(StorageError, match=r"is no bundle|no part of the bundle"):
        small_bundle(target, tmp_path / "steps")
    assert content(target) == before


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("dear")
    with pytest.raises(StorageError, match="is a file"):
        small_bundle(tmp_path / "shop", tmp_path / "steps")
    assert (tmp_path / "shop").read_text() == "dear"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match=r"taken/shop: cannot be written.*Not a directory"):
        small_bundle(tmp_path / "taken" / "shop", tmp_path / "steps")


def test_a_step_that_left_no_model(tmp_path: Path) -> None:
    (tmp_path / "steps" / "x").mkdir(parents=True)
    broken = BuiltVariant("x", Format.ONNX, Precision.FP32, tmp_path / "steps" / "x")
    with pytest.raises(
        ConversionError, match=r"variant 'x': expected model\.onnx in .*x, got an empty folder"
    ):
        small_bundle(tmp_path / "shop", tmp_path / "steps", variants=[broken])
    assert not (tmp_path / "shop").exists()


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"tokenizer\.json of the bundle"):
        write(
            tmp_path / "shop",
            name="shop",
            version="1",
            licence="MIT",
            source="x",
            task=task(),
            variants=small_variants(tmp_path / "steps"),
            tokenizer=tmp_path / "gone",
        )


def test_what_makes_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="receipts for variants that do not exist: y"):
        small_bundle(tmp_path / "shop", tmp_path / "steps", receipts=[receipt("y")])
    with pytest.raises(BundleError, match="a receipt has a number that is none"):
        small_bundle(
            tmp_path / "shop", tmp_path / "steps", receipts=[receipt("onnx-fp32", top1=float("nan"))]
        )
    one = built(tmp_path / "steps", "onnx-fp32", Format.ONNX, model=b"x")
    with pytest.raises(ConversionError, match="twice"):
        small_bundle(tmp_path / "shop", tmp_path / "steps", variants=[one, one])
    away = BuiltVariant("../../away", Format.ONNX, Precision.FP32, one.folder)
    with pytest.raises(ConversionError, match="away"):
        small_bundle(tmp_path / "shop", tmp_path / "steps", variants=[away])
    assert not (tmp_path / "shop").exists()


def test_a_model_with_external_data_runs_from_its_bundle(tmp_path: Path) -> None:
    place = tmp_path / "steps" / "onnx-fp32"
    place.mkdir(parents=True)
    graph = Graph(
        values={"x": Value("float32", (1, 4)), "y": Value("float32", (1, 4))},
        inputs=("x",),
        outputs=("y",),
        nodes=(Node("Add", ("x", "one"), "y"),),
        constants={"one": np.ones((1, 4), np.float32)},
    )
    onnx.save_model(
        to_onnx(graph),
        place / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    assert (place / "model.onnx.data").stat().st_size == 16
    built_one = BuiltVariant("onnx-fp32", Format.ONNX, Precision.FP32, place)
    bundle = small_bundle(tmp_path / "shop", tmp_path / "steps", variants=[built_one])
    session = load_engine("onnxruntime").open(
        bundle.path(bundle.manifest.variants[0]), options=EngineOptions()
    )
    assert session.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1, 1]]
    session.close()
