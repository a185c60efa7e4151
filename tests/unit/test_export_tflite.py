"""TensorFlow Lite files as sources: taken, translated to ONNX, refused where they are damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as lite
from flatbuffers import Builder

from converters.export.tflite import export_onnx, take
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from tests.conformance.graphs import PICTURE, layer, to_tflite


def answer(file: Path, x: Any) -> Tensors:
    session = load_engine({".onnx": "onnxruntime", ".tflite": "litert"}[file.suffix]).open(
        file, options=EngineOptions()
    )
    given = session.run({session.inputs[0].name: x})
    session.close()
    return given


def refusal(step: Any, source: Path, out: Path) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        step({"source": source}, out, {}, lambda *_: None)
    assert "\n" not in str(caught.value)
    return caught.value


def test_taken_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "source.tflite"
    source.write_bytes(to_tflite(PICTURE))
    facts = take({"source": source}, tmp_path, {}, lambda *_: None)
    assert (tmp_path / "model.tflite").read_bytes() == source.read_bytes()
    assert (facts["inputs"], facts["outputs"]) == ({"picture": "picture"}, {"scaled": "scaled"})
    assert facts["layout"] == "nhwc"


@pytest.mark.filterwarnings("ignore")  # TensorFlow warns of itself
def test_to_onnx(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    source = tmp_path / "source.tflite"
    source.write_bytes(to_tflite(layer(2)))
    facts = export_onnx({"source": source}, tmp_path, {"opset": 17}, lambda *_: None)
    assert (facts["inputs"], facts["outputs"], facts["opset"]) == ({"x": "x"}, {"y": "y"}, 17)
    x = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    want = answer(source, x)["y"]
    np.testing.assert_allclose(answer(tmp_path / "model.onnx", x)["y"], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected the mark TFL3 in bytes 4 to 8, got an empty file"),
        (b"not a model at all", "got b'a mo'"),
        (b"\x1c\0\0\0TFL3" + b"\xff" * 40, "is damaged"),
        (to_tflite(PICTURE)[:200], "is damaged"),
    ],
    ids=["empty", "other", "garbage", "cut"],
)
@pytest.mark.parametrize("step", [take, export_onnx])
def test_a_file_that_is_none(tmp_path: Path, step: Any, content: bytes, words: str) -> None:
    (tmp_path / "m.tflite").write_bytes(content)
    assert words in str(refusal(step, tmp_path / "m.tflite", tmp_path))


def test_a_missing_file(tmp_path: Path) -> None:
    assert "No such file" in str(refusal(take, tmp_path / "m.tflite", tmp_path))


@pytest.mark.parametrize(("name", "words"), [(b"FlexErf", "SELECT_TF_OPS"), (b"Wobble", "without it")])
def test_custom_operators_are_named(tmp_path: Path, name: bytes, words: str) -> None:
    schema: Any = lite
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(to_tflite(PICTURE), 0))
    model.operatorCodes[1].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[1].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[1].customCode = name
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "m.tflite").write_bytes(bytes(builder.Output()))
    error = refusal(take, tmp_path / "m.tflite", tmp_path)
    assert (error.operator, error.layer) == (name.decode(), "1")
    assert words in str(error)


@pytest.mark.filterwarnings("ignore")  # TensorFlow warns of itself
def test_rows_that_grow_by_a_fraction(tmp_path: Path) -> None:
    """3 rows grow to 5; the scale that tf2onnx writes makes them 4, and EfficientDet-Lite0 did not load."""
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    owner = tf.Module()
    other = tf.ones((1, 5, 10, 1))
    owner.f = tf.function(
        lambda x: tf.concat((tf.compat.v1.image.resize_nearest_neighbor(x, (5, 10)), other), 3),
        input_signature=[tf.TensorSpec((1, 3, 6, 2), tf.float32)],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([owner.f.get_concrete_function()], owner)
    (tmp_path / "source.tflite").write_bytes(converter.convert())
    export_onnx({"source": tmp_path / "source.tflite"}, tmp_path, {}, lambda *_: None)
    x = np.arange(36, dtype=np.float32).reshape(1, 3, 6, 2)
    (have,), (want,) = (answer(tmp_path / name, x).values() for name in ("model.onnx", "source.tflite"))
    np.testing.assert_array_equal(have, want)
