"""Quantization of TFLite models, run by the device's own engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.quantize import litert
from converters.quantize.litert_graph import open_graph
from converters.step import MODEL_FILES, SAMPLES_FILE
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.likeness import cosine
from edge_runtime.tasks.rows import write_rows
from tests.conformance.graphs import layer, to_tflite
from tests.unit import quantize_nets as nets

pytestmark = pytest.mark.filterwarnings("ignore")  # the quantizer and TensorFlow warn about themselves
TFLITE = MODEL_FILES["tflite"]
CLASSIFICATION = {**nets.CLASSIFICATION, "input": {**nets.CLASSIFICATION["input"], "layout": "nhwc"}}
BYTES = {**CLASSIFICATION, "input": {"layout": "nhwc", "fit": "stretch"}}
DETECTION = {**nets.DETECTION, "input": {**nets.DETECTION["input"], "layout": "nhwc"}}
SOURCE = Path(__file__).parents[2] / "edge_runtime/models/efficientdet-lite0"


def quiet(share: float, what: str) -> None:
    assert 0 <= share <= 1, what


def weights(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)


def features(tf: Any, x: Any) -> Any:
    """Convolutions with a SiLU; a channel of the first, which the second likes, has but its bias."""
    first, second = weights(3, 3, 3, 16, seed=1), weights(3, 3, 16, 1, seed=2) * 4
    first[..., int(second.sum((0, 1, 3)).argmax())] *= 1e-9
    bias = np.linspace(0.5, 1, 16, dtype=np.float32)
    x = tf.nn.conv2d(x, first, 2, "SAME") + bias
    x = x * tf.sigmoid(x)
    return tf.nn.relu6(tf.nn.depthwise_conv2d(x, second, [1, 1, 1, 1], "SAME"))


def classify(tf: Any, x: Any) -> Any:
    return tf.matmul(tf.reduce_mean(features(tf, x), [1, 2]), weights(16, 10, seed=3) * 8)


def classify_bytes(tf: Any, x: Any) -> Any:
    return classify(tf, tf.cast(x, tf.float32) / 255.0)


def attend(tf: Any, x: Any) -> Any:
    """Convolutions, then every place of the picture looks at all others."""
    places = tf.reshape(features(tf, x), [1, 256, 16])
    asked, offered = (tf.matmul(places, weights(16, 16, seed=seed)) for seed in (6, 7))
    likeness = tf.nn.softmax(tf.matmul(asked, offered, transpose_b=True))
    return tf.matmul(tf.reduce_mean(tf.matmul(likeness, places), 1), weights(16, 10, seed=3) * 8)


def normalize(tf: Any, x: Any) -> Any:
    found = features(tf, x)
    mean = tf.reduce_mean(found, 3, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(found, mean), 3, keepdims=True)
    found = (found - mean) * tf.math.rsqrt(variance + 1e-3)
    return tf.matmul(tf.reduce_mean(found, [1, 2]), weights(16, 10, seed=3) * 8)


def detect(tf: Any, x: Any) -> Any:
    found = features(tf, x)
    boxes = tf.exp(tf.nn.conv2d(found, weights(1, 1, 16, 4, seed=4), 1, "SAME")) * 4.0
    scores = tf.sigmoid(tf.nn.conv2d(found, weights(1, 1, 16, 2, seed=5), 1, "SAME"))
    return tf.reshape(tf.concat([boxes, scores], 3), [1, 256, 6])


def lay(folder: Path, content: bytes, rows: Any) -> dict[str, Path]:
    inputs = {"model": folder / "float", "samples": folder / "samples"}
    for path in inputs.values():
        path.mkdir(parents=True)
    (inputs["model"] / TFLITE).write_bytes(content)
    if rows is not None:
        write_rows(inputs["samples"] / SAMPLES_FILE, rows)
    return inputs


@pytest.fixture(scope="module")
def made() -> Callable[..., bytes]:
    """Nets in TFLite, each converted once."""
    tf: Any = pytest.importorskip("tensorflow")
    known: dict[Any, bytes] = {}

    def make(net: Any, dtype: str = "float32") -> bytes:
        if net not in known:
            spec = tf.TensorSpec((1, 32, 32, 3), dtype, "picture")
            function = tf.function(lambda picture: net(tf, picture), input_signature=[spec])
            module = tf.Module()
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [function.get_concrete_function()], module
            )
            known[net] = converter.convert()
        return known[net]

    return make


def step(inputs: Any, out: Path, **options: Any) -> dict[str, Any]:
    out.mkdir()
    return litert.convert(inputs, out, options, quiet)


def run(folder: Path, picture: np.ndarray) -> np.ndarray:
    session = load_engine("litert").open(folder / TFLITE, options=EngineOptions())
    try:
        spec = session.inputs[0]
        if spec.quantization is not None:
            picture = np.rint(picture / spec.quantization.scale[0]) + spec.quantization.zero_point[0]
        (output,) = session.run({spec.name: picture.astype(spec.dtype)}).values()
        told = session.outputs[0].quantization
        return output if told is None else (output - float(told.zero_point[0])) * told.scale[0]
    finally:
        session.close()


def dtypes(folder: Path) -> tuple[str, str]:
    session = load_engine("litert").open(folder / TFLITE, options=EngineOptions())
    session.close()
    return session.inputs[0].dtype, session.outputs[0].dtype


PICTURE = np.random.default_rng(9).random((1, 32, 32, 3), np.float32)


@pytest.mark.parametrize(
    ("precision", "io", "ends", "least"),
    [
        ("fp16", "float", ("float32", "float32"), 0.99999),
        ("int8-dynamic", "float", ("float32", "float32"), 0.999),
        ("int8", "float", ("float32", "float32"), 0.995),
        ("int8", "int8", ("int8", "int8"), 0.995),
        ("int16x8", "float", ("float32", "float32"), 0.999),
    ],
)
def test_a_classifier_answers_the_same(
    made: Any, precision: str, io: str, ends: tuple[str, str], least: float, tmp_path: Path
) -> None:
    inputs = lay(tmp_path, made(classify), {"pictures": nets.pictures(48)})
    facts = step(inputs, tmp_path / "a", precision=precision, io=io, task=CLASSIFICATION)
    assert facts["precision"] == precision
    assert dtypes(tmp_path / "a") == ends
    assert cosine(run(inputs["model"], PICTURE), run(tmp_path / "a", PICTURE)) > least
    session = load_engine("litert").open(tmp_path / "a" / TFLITE, options=EngineOptions())
    assert list(facts["outputs"].values()) == [spec.name for spec in session.outputs]
    session.close()


def test_a_bias_of_a_dead_channel_survives(made: Any, tmp_path: Path) -> None:
    inputs = lay(tmp_path, made(classify), {"pictures": nets.pictures(48)})
    for name, most in (("int8", 0.03), ("int16x8", 0.02)):
        facts = step(inputs, tmp_path / name, precision=name, task=CLASSIFICATION)
        assert facts["judged"]["error"] < most


def test_bytes_go_in_as_they_are(made: Any, tmp_path: Path) -> None:
    inputs = lay(tmp_path, made(classify_bytes, "uint8"), {"pictures": nets.pictures(48)})
    for io in ("float", "int8"):
        facts = step(inputs, tmp_path / f"io-{io}", precision="int8", io=io, task=BYTES)
        assert dtypes(tmp_path / f"io-{io}")[0] == "uint8"
        assert facts["judged"]["loss"] < 0.02


def test_what_a_detector_predicts_stays_float(made: Any, tmp_path: Path) -> None:
    inputs = lay(tmp_path, made(detect), {"pictures": nets.pictures(24)})
    graph = open_graph(inputs["model"])
    assert [layer.name in graph.spared for layer in graph.details] == [False, False, True, True]
    facts = step(inputs, tmp_path / "a", precision="int8", io="int8", task=DETECTION)
    assert facts["precision"] == "mixed"
    assert [layer["precision"] for layer in facts["layers"]] == ["int8", "int8", "fp32", "fp32", "int8"]
    assert dtypes(tmp_path / "a") == ("int8", "float32")
    own, other = run(inputs["model"], PICTURE), run(tmp_path / "a", PICTURE)
    assert cosine(own[..., 4:], other[..., 4:]) > 0.995


def test_layers_are_given_back_until_the_budget_holds(made: Any, tmp_path: Path) -> None:
    inputs = lay(tmp_path, made(detect), {"pictures": nets.pictures(24)})
    whole = step(inputs, tmp_path / "a", precision="int8", task=DETECTION)["judged"]["loss"]
    assert whole > 0
    facts = step(inputs, tmp_path / "b", precision="int8", accuracy_drop=whole * 0.9, task=DETECTION)
    assert facts["judged"]["loss"] <= whole * 0.9
    assert any("error" in layer for layer in facts["layers"])
    with pytest.raises(ConversionError, match="no layer can be in integers"):
        step(inputs, tmp_path / "c", precision="mixed", accuracy_drop=0, task=DETECTION)


def test_same_inputs_same_bytes(made: Any, tmp_path: Path) -> None:
    inputs = lay(tmp_path, made(classify), {"pictures": nets.pictures(24)})
    for precision in ("fp16", "int8-dynamic", "int8"):
        first, second = (tmp_path / f"{precision}{number}" for number in "12")
        for out in (first, second):
            step(inputs, out, precision=precision, task=CLASSIFICATION)
        assert (first / TFLITE).read_bytes() == (second / TFLITE).read_bytes()


def test_a_model_without_signature(tmp_path: Path) -> None:
    inputs = lay(tmp_path, to_tflite(layer(1)), {"x": nets.vectors(48, 16)})
    facts = step(inputs, tmp_path / "a", precision="int8", task=nets.TENSORS)
    assert facts["precision"] == "int8"
    assert facts["judged"]["loss"] < 0.02


@pytest.mark.parametrize(
    ("net", "precision", "warned"),
    [
        (attend, "int8", True),
        (normalize, "int8", True),
        (attend, "int16x8", False),
        (classify, "int8", False),
    ],
)
def test_static_int8_of_wide_activations_is_warned_of(
    made: Any, net: Any, precision: str, tmp_path: Path, *, warned: bool
) -> None:
    inputs = lay(tmp_path, made(net), {"pictures": nets.pictures(48)})
    facts = step(inputs, tmp_path / "a", precision=precision, task=CLASSIFICATION)
    assert any("compare int8-dynamic" in warning for warning in facts["warnings"]) is warned


def test_a_bias_of_many_axes_becomes_one(made: Any, tmp_path: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    vendor: Any = flatbuffer_utils
    model = vendor.convert_bytearray_to_object(made(classify))
    graph = model.subgraphs[0]
    bias = next(graph.tensors[one.inputs[2]] for one in graph.operators if len(one.inputs) == 3)
    assert list(bias.shape) == [16]
    bias.shape = np.array([1, 1, 1, 16], np.int32)
    content = bytes(vendor.convert_object_to_bytearray(model))
    inputs = lay(tmp_path, content, {"pictures": nets.pictures(48)})
    step(inputs, tmp_path / "a", precision="int8", task=CLASSIFICATION)
    assert cosine(run(inputs["model"], PICTURE), run(tmp_path / "a", PICTURE)) > 0.995


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="is quantized already"):
        step({"model": SOURCE}, tmp_path / "a", precision="int8-dynamic")


def test_open_axes_are_refused_for_static_ones(tmp_path: Path) -> None:
    inputs = lay(tmp_path, to_tflite(layer(None)), {"x": nets.vectors(48, 16)})
    with pytest.raises(ConversionError, match="takes any length: expected a fixed shape"):
        step(inputs, tmp_path / "a", precision="int8", task=nets.TENSORS)
    step(inputs, tmp_path / "b", precision="int8-dynamic")


def test_unfit_inputs_are_one_line(made: Any, tmp_path: Path) -> None:
    grey = [np.full((32, 32, 3), 7, np.uint8)] * 8
    inputs = lay(tmp_path, made(classify), {"pictures": grey})
    with pytest.raises(ConversionError, match="constant value"):
        step(inputs, tmp_path / "a", precision="int8", task=CLASSIFICATION)
    with pytest.raises(ConversionError, match="without samples"):
        step({"model": inputs["model"]}, tmp_path / "b", precision="int8", task=CLASSIFICATION)
    with pytest.raises(ConversionError, match="option 'precision': expected fp16 or"):
        step(inputs, tmp_path / "c", precision="int3")
    with pytest.raises(ConversionError, match="option 'io'"):
        step(inputs, tmp_path / "d", precision="int8", io="uint8")
    with pytest.raises(ConversionError, match="accuracy_drop"):
        step(lay(tmp_path / "f", made(classify), {"pictures": nets.pictures(8)}), tmp_path / "e",
             precision="mixed", accuracy_drop="much", task=CLASSIFICATION)  # fmt: skip
    (inputs["model"] / TFLITE).write_bytes(b"not a model at all")
    with pytest.raises(ConversionError, match="expected a TensorFlow Lite file"):
        step(inputs, tmp_path / "g", precision="fp16")
