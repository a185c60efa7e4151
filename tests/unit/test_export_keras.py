"""Keras files and SavedModels to ONNX and TensorFlow Lite: the same answers, and what is refused."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what TensorFlow says while it is imported
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")

from converters.export.keras import export_onnx, export_tflite
from converters.step import Facts
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow and Keras warn of themselves
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), np.uint8)
TASK: dict[str, Any] = {
    "kind": "classification",
    "input": {"layout": "nhwc", "scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.5, 1, 2)},
    "labels": ["a", "b", "c"],
    "output": "alpha",
}
NORMAL = ((PIXELS / 255 - (0.5, 0.4, 0.3)) / (0.5, 1, 2)).astype(np.float32)
Export = Callable[..., Facts]


@pytest.fixture(scope="module")
def net() -> Any:
    """Two outputs, named against the alphabet; any height and width."""
    keras.utils.set_random_seed(4)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3, padding="same")(x))
    box = keras.layers.Dense(4, name="zeta")(x)
    scores = keras.layers.Dense(3, activation="softmax", name="alpha")(x)
    return keras.Model(image, [box, scores])


@pytest.fixture(scope="module")
def saved(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.save(folder / "net.keras")
        net.save(folder / "net.h5")
        net.export(folder / "saved", verbose=False)
    return folder


def convert(export: Export, source: Path, out: Path, *, trust: bool = False, **options: Any) -> Facts:
    told = {"task": TASK, "source": {"path": str(source), "trust": trust}, "size": [16, 24]} | options
    return export({"source": source}, out, told, lambda *_: None)


def answer(file: Path, x: Array) -> dict[str, Array]:
    session = load_engine({".onnx": "onnxruntime", ".tflite": "litert"}[file.suffix]).open(
        file, options=EngineOptions()
    )
    given = session.run({session.inputs[0].name: x})
    session.close()
    return dict(given)


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "saved"])
@pytest.mark.parametrize("export", [export_onnx, export_tflite])
def test_the_answer_stays(net: Any, saved: Path, tmp_path: Path, export: Export, name: str) -> None:
    facts: Any = convert(export, saved / name, tmp_path)
    file = next(tmp_path.glob("model.*"))
    given = answer(file, NORMAL)
    outputs = facts["outputs"]
    assert list(outputs) == (["output_0", "output_1"] if name == "saved" else ["zeta", "alpha"])
    assert facts["layout"] == "nhwc"
    for inside, want in zip(outputs.values(), net(NORMAL), strict=True):
        np.testing.assert_allclose(given[inside], want.numpy(), rtol=1e-4, atol=1e-5)


def test_folded_pixels_and_the_same_bytes_each_time(net: Any, saved: Path, tmp_path: Path) -> None:
    contents: list[bytes] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        facts: Any = convert(export_tflite, saved / "net.keras", tmp_path / name, fold=True, colour="bgr")
        contents.append((tmp_path / name / "model.tflite").read_bytes())
    assert contents[0] == contents[1]
    assert facts["folded"] is True
    assert (facts["input"]["colour"], facts["input"]["scale"]) == ("bgr", 1)
    given = answer(tmp_path / "one/model.tflite", PIXELS[..., ::-1].copy())
    for inside, want in zip(facts["outputs"].values(), net(NORMAL), strict=True):
        np.testing.assert_allclose(given[inside], want.numpy(), rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_and_an_opset(saved: Path, tmp_path: Path) -> None:
    facts = convert(export_onnx, saved / "net.keras", tmp_path, dynamic=False, opset=15)
    assert facts["opset"] == 15
    session = load_engine("onnxruntime").open(tmp_path / "model.onnx", options=EngineOptions())
    assert session.inputs[0].shape == (1, 16, 24, 3)
    session.close()


def refusal(export: Export, source: Path, out: Path, **options: Any) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        convert(export, source, out, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_a_file_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    assert f"{name} cannot be loaded" in str(refusal(export_onnx, tmp_path / name, tmp_path))


def test_a_folder_that_is_no_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    assert "cannot be loaded" in str(refusal(export_tflite, tmp_path / "saved", tmp_path))


def test_a_saved_model_without_the_signature(tmp_path: Path) -> None:
    module = tf.Module()
    module.f = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec((1, 2), tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"other": module.f})
    message = str(refusal(export_onnx, tmp_path / "saved", tmp_path))
    assert "expected a signature 'serving_default', got other" in message


def test_code_inside_needs_trust(tmp_path: Path) -> None:
    image = keras.Input((4,), name="x")
    keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save(tmp_path / "net.keras")
    assert "--trust-source" in str(refusal(export_onnx, tmp_path / "net.keras", tmp_path, size=None))
    convert(export_onnx, tmp_path / "net.keras", tmp_path, size=None, trust=True, task=None)


def test_no_size_for_a_format_that_needs_one(saved: Path, tmp_path: Path) -> None:
    message = str(refusal(export_tflite, saved / "net.keras", tmp_path, size=None))
    assert "'image' has no fixed shape" in message
    assert "(1, ?, ?, 3)" in message


@pytest.mark.parametrize(("export", "tool"), [(export_onnx, "tf2onnx"), (export_tflite, "TensorFlow Lite")])
def test_an_operator_that_a_target_does_not_have(tmp_path: Path, export: Export, tool: str) -> None:
    module = tf.Module()
    module.f = tf.function(
        lambda x: {"y": tf.math.igamma(x, x)}, input_signature=[tf.TensorSpec((1, 2), tf.float32, "x")]
    )
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.f)
    error = refusal(export, tmp_path / "saved", tmp_path, size=None, task=None)
    assert error.operator == "Igamma"
    assert str(error).startswith(f"{tool} cannot translate operator Igamma")
