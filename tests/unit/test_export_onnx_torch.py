"""ONNX graphs as torch modules: every operator of the tables against onnxruntime, and what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from pydantic import TypeAdapter

from converters.export import onnx_coreml, onnx_tflite
from converters.export.onnx_torch import HANDLERS, make_network
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import EmbeddingSpec, TaskSpec

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)


def real(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """One operator: what goes in (an array), what is stored in the graph (a `Stored`), and its attributes."""

    op: str
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 17


@dataclass(frozen=True)
class Stored:
    array: Array


def case(op: str, *inputs: Any, outputs: int = 1, opset: int = 17, **attributes: Any) -> Case:
    return Case(op, inputs, attributes, outputs, opset)


S = Stored
PICTURE = real(1, 4, 7, 6)
POSITIVE = np.abs(PICTURE) + np.float32(0.1)
TRUTH = PICTURE > 0
SIZES = (S(ints(1, 4, 14, 12)), S(ints(1, 4, 9, 5)), S(ints(1, 4, 3, 4)))


def resizes() -> list[Case]:
    none = S(np.array([], np.float32))
    rules: list[dict[str, Any]] = [
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {"mode": "nearest", "coordinate_transformation_mode": "half_pixel"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
    ]
    by_size = [case("Resize", PICTURE, none, none, size, **rule) for rule in rules for size in SIZES]
    scales = S(np.array([1, 1, 2, 1.5], np.float32))
    return by_size + [case("Resize", PICTURE, none, scales, **rule) for rule in rules]


CASES = [
    *[case(op, PICTURE) for op in ("Abs", "Atan", "Ceil", "Cos", "Dropout", "Erf", "Exp", "Floor")],
    *[case(op, PICTURE) for op in ("Identity", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin")],
    *[case(op, PICTURE) for op in ("Softplus", "Softsign", "Tanh")],
    *[case(op, POSITIVE) for op in ("Log", "Reciprocal", "Sqrt", "Tan")],
    *[case(op, PICTURE) for op in ("Celu", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Selu")],
    case("Mish", PICTURE, opset=18),
    case("Gelu", PICTURE, opset=20),
    case("Gelu", PICTURE, opset=20, approximate="tanh"),
    case("Elu", PICTURE, alpha=0.3),
    case("PRelu", PICTURE, S(real(4, 1, 1))),
    case("PRelu", PICTURE, S(real(7, 6))),
    *[case(op, PICTURE, S(POSITIVE[:, :, :1, :1])) for op in ("Add", "Sub", "Mul", "Div", "Equal")],
    *[case(op, PICTURE, real(1, 4, 1, 6)) for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")],
    case("Div", ints(7, -7, 9), S(ints(2, 2, -4))),
    case("Pow", POSITIVE, S(np.float32(1.7))),
    case("Mod", PICTURE, S(np.float32(0.4)), fmod=1),
    case("Mod", ints(7, -7, 9), S(ints(4, 4, -5))),
    *[case(op, TRUTH, real(1, 4, 7, 6) > 0) for op in ("And", "Or", "Xor")],
    case("Not", TRUTH),
    case("IsNaN", np.array([0, np.nan, np.inf], np.float32)),
    *[case(op, PICTURE, S(real(1)), real(1, 4, 1, 1)) for op in ("Max", "Min", "Mean", "Sum")],
    case("Clip", PICTURE, S(np.float32(-0.5)), S(np.float32(0.7))),
    case("Clip", PICTURE, None, np.float32(0.7)),
    case("Cast", PICTURE, to=TensorProto.INT64),
    case("Softmax", PICTURE, axis=1),
    case("LogSoftmax", PICTURE, axis=-1),
    case("Where", TRUTH, PICTURE, S(np.float32(-1))),
    case("MatMul", real(2, 3, 4), S(real(4, 5))),
    case("Einsum", real(2, 3, 4), real(2, 4, 5), equation="bij,bjk->bik"),
    case("Reshape", PICTURE, S(ints(0, 2, -1, 6))),
    case("Flatten", PICTURE, axis=2),
    case("Squeeze", real(1, 3, 1, 2), S(ints(0, -2))),
    case("Squeeze", real(1, 3, 1, 2)),
    case("Unsqueeze", real(3, 2), S(ints(0, -1))),
    case("Transpose", PICTURE, perm=[0, 2, 3, 1]),
    case("Transpose", real(2, 3)),
    case("Concat", PICTURE, S(real(1, 2, 7, 6)), axis=1),
    case("Split", PICTURE, S(ints(1, 3)), axis=1, outputs=2),
    case("Split", PICTURE, axis=2, num_outputs=3, outputs=3, opset=18),
    case("Slice", PICTURE, S(ints(1, -4)), S(ints(9, 2**31)), S(ints(2, 3)), S(ints(2, 1))),
    case("Slice", PICTURE, S(ints(-1)), S(ints(-(2**40))), S(ints(3)), S(ints(-2))),
    case("Expand", real(3, 1), S(ints(2, 3, 4))),
    case("Tile", real(2, 3), S(ints(2, 1))),
    case("Gather", PICTURE, S(np.int64(-1)), axis=2),
    case("Gather", PICTURE, S(np.array([[0, 2], [3, -1]])), axis=3),
    case("Gather", real(9, 4), ints(3, 0, 8).reshape(1, 3)),
    case("GatherElements", real(3, 4), np.array([[0, 1], [3, 2], [1, 1]]), axis=1),
    case("GatherND", real(3, 4, 2), np.array([[[0, 1], [2, 3]]])),
    case("GatherND", real(3, 4) > 0, np.array([[2, 3], [0, 1]])),
    case("ScatterElements", real(3, 4), np.array([[0, 1], [3, 2]]), real(2, 2), axis=1),
    case("DepthToSpace", PICTURE, blocksize=2),
    case("DepthToSpace", real(1, 8, 3, 2), blocksize=2, mode="CRD"),
    case("SpaceToDepth", real(1, 3, 4, 6), blocksize=2),
    case("ArgMax", PICTURE, axis=1),
    case("ArgMin", PICTURE, axis=-1, keepdims=0),
    case("TopK", real(2, 9), S(ints(4)), outputs=2),
    case("TopK", real(9, 2), S(ints(4)), axis=0, largest=0, outputs=2),
    case("CumSum", PICTURE, S(np.int64(2))),
    case("CumSum", PICTURE, S(np.int64(-1)), exclusive=1, reverse=1),
    case("Trilu", real(2, 4, 4), S(np.int64(1))),
    case("Trilu", real(2, 4, 4), upper=0),
    case("OneHot", ints(1, 0, -1), S(np.int64(3)), S(np.array([0.5, 2], np.float32))),
    case("OneHot", ints(1, 0, 2), S(np.int64(3)), S(np.array([0, 1], np.float32)), axis=0),
    *[case(f"Reduce{kind}", PICTURE, axes=[1, -1]) for kind in ("L1", "L2", "LogSumExp")],
    *[case(f"Reduce{kind}", PICTURE, axes=[0, 1]) for kind in ("Max", "Mean", "Min")],
    *[case(f"Reduce{kind}", PICTURE, axes=[2], keepdims=0) for kind in ("Prod", "SumSquare")],
    case("ReduceSum", PICTURE, S(ints(2, 3))),
    case("ReduceMean", PICTURE, S(ints(2, 3)), keepdims=0, opset=18),
    case("ReduceMax", PICTURE),
    case("Conv", PICTURE, S(real(6, 4, 3, 3)), S(real(6)), pads=[1, 1, 1, 1], strides=[2, 1]),
    case("Conv", PICTURE, S(real(6, 4, 3, 2)), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", PICTURE, S(real(6, 4, 3, 2)), auto_pad="SAME_LOWER"),
    case("Conv", PICTURE, S(real(4, 1, 2, 2)), group=4, dilations=[2, 1], pads=[0, 1, 1, 0]),
    case("Conv", real(1, 3, 8), S(real(2, 3, 3))),
    case("ConvTranspose", PICTURE, S(real(4, 3, 3, 3)), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    case("ConvTranspose", PICTURE, S(real(4, 2, 3, 3)), S(real(4)), group=2, strides=[2, 1], pads=[0, 1] * 2),
    case("MaxPool", PICTURE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", PICTURE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("MaxPool", PICTURE, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("AveragePool", PICTURE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", PICTURE, kernel_shape=[3, 3], pads=[0, 0, 1, 1]),
    case("AveragePool", PICTURE, kernel_shape=[3, 3], pads=[0, 0, 1, 1], count_include_pad=1),
    case("GlobalAveragePool", PICTURE),
    case("GlobalMaxPool", PICTURE),
    case("BatchNormalization", PICTURE, *[S(POSITIVE[0, :, 0, i]) for i in range(4)], epsilon=0.1),
    case("InstanceNormalization", PICTURE, S(real(4)), S(real(4))),
    case("LayerNormalization", PICTURE, S(real(7, 6)), S(real(7, 6)), axis=2),
    case("LayerNormalization", PICTURE, S(real(6)), epsilon=1e-3),
    case("GroupNormalization", PICTURE, S(real(2)), S(real(2)), num_groups=2, opset=18),
    case("GroupNormalization", PICTURE, S(real(4)), S(real(4)), num_groups=2, opset=21),
    case("LpNormalization", PICTURE, axis=1, p=2),
    case("LRN", PICTURE, size=3, alpha=0.1),
    case("Gemm", real(3, 4), S(real(5, 4)), S(real(5)), transB=1),
    case("Gemm", real(4, 3), S(real(4, 5)), S(real(3, 1)), transA=1, alpha=0.5, beta=2.0),
    case("Pad", PICTURE, S(ints(0, 0, 1, 2, 0, 1, 0, 3)), S(np.float32(7))),
    case("Pad", PICTURE, S(ints(0, 0, 1, 2, 0, 0, 2, 3)), mode="reflect"),
    case("Pad", PICTURE, S(ints(1, 2)), None, S(ints(3)), mode="edge", opset=18),
    *resizes(),
]  # fmt: skip


def graph_of(one: Case) -> tuple[onnx.ModelProto, dict[str, Array]]:
    names, feeds, stored = [], {}, []
    for index, value in enumerate(one.inputs):
        names.append("" if value is None else f"x{index}")
        if isinstance(value, Stored):
            stored.append(numpy_helper.from_array(value.array, names[-1]))
        elif value is not None:
            feeds[names[-1]] = np.asarray(value)
    outputs = [f"y{index}" for index in range(one.outputs)]
    node = helper.make_node(one.op, names, outputs, "layer", **one.attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in feeds.items()
    ]
    graph = helper.make_graph([node], "one", infos, [onnx.ValueInfoProto(name=n) for n in outputs], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", one.opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model), feeds


def answers(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime says; the definition where it does not have this type or version of an operator."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception:  # noqa: BLE001 - whatever it lacks
        return ReferenceEvaluator(model).run(None, dict(feeds))
    return session.run(None, dict(feeds))


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.op)
def test_an_operator(one: Case) -> None:
    model, feeds = graph_of(one)
    network = make_network(model)
    with torch.no_grad():
        given = network(*(torch.from_numpy(value.copy()) for value in feeds.values()))
    for have, want in zip(given, answers(model, feeds), strict=True):
        assert have.numpy().dtype == want.dtype
        np.testing.assert_allclose(have.numpy(), want, rtol=2e-5, atol=2e-5)


def test_every_operator_has_a_case() -> None:
    assert {one.op for one in CASES} == set(HANDLERS)


TAIL = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, H, W] image) => (float[N, P, Q] scores) {
        c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(image, w)
        a = Relu(c)
        shape = Shape(a)
        front = Slice(shape, zero, two)
        want = Concat<axis = 0>(front, rest)
        flat = Reshape(a, want)
        scores = Transpose<perm = [0, 2, 1]>(flat)
    }"""
TASK: dict[str, Any] = {
    "kind": "classification",
    "input": {"layout": "nchw", "size": [8, 12], "scale": 1 / 255},
    "labels": ["a"],
}
WEIGHTS = real(4, 3, 3, 3)


def tail() -> onnx.ModelProto:
    made = parser.parse_model(TAIL)
    stored = {"w": WEIGHTS, "zero": ints(0), "two": ints(2), "rest": ints(-1)}
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    return made


def run_net(model: onnx.ModelProto, **inputs: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, inputs)


def test_what_hangs_on_shapes_is_a_constant_after_tracing() -> None:
    spec = TypeAdapter(TaskSpec).validate_python(TASK)
    network = make_network(tail(), spec)
    assert network.example[0].shape == (1, 3, 8, 12)
    program = torch.export.export(network, network.example)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets == {
        "aten.conv2d.default",
        "aten.relu.default",
        "aten.reshape.default",
        "aten.permute.default",
    }
    x = real(1, 3, 8, 12)
    given = program.module()(torch.from_numpy(x))
    np.testing.assert_allclose(given[0].numpy(), run_net(tail(), image=x)[0], rtol=1e-5, atol=1e-5)


def test_lengths_of_texts_come_from_the_task() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (int64[B, L] input_ids) => (float[B, L, 4] vectors) { vectors = Gather(table, input_ids) }"""
    made = parser.parse_model(text)
    made.graph.initializer.append(numpy_helper.from_array(real(9, 4), "table"))
    spec = EmbeddingSpec.model_validate({"kind": "embedding", "input": {"max_length": 6}})
    network = make_network(made, spec)
    assert network(torch.arange(6).reshape(1, 6))[0].shape == (1, 6, 4)
    with pytest.raises(ConversionError, match=r"'input_ids' has no fixed shape.*got \(B, L\)"):
        make_network(made)


def test_an_operator_that_is_not_there_is_named() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[4, 4] x) => (float[4, 4] y) { d = Det(x) s = Exp(x) k = NonZero(s) y = Add(x, d) }"""
    made = parser.parse_model(text)
    made.graph.node[0].name = "volume"
    with pytest.raises(
        ConversionError, match=r"operator Det, NonZero \(layer 'volume'\) cannot leave ONNX"
    ) as caught:
        make_network(made)
    assert (caught.value.operator, caught.value.layer) == ("Det", "volume")
    assert "no shape depends on" in str(caught.value)


def test_shapes_that_hang_on_content_are_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[4, 4] x, int64[1] n) => (float[N, 4] y) { y = Slice(x, zero, n) }"""
    made = parser.parse_model(text)
    made.graph.initializer.append(numpy_helper.from_array(ints(0), "zero"))
    made.graph.node[0].name = "cut"
    with pytest.raises(
        ConversionError, match="layer 'cut': its shape depends on the input's content"
    ) as caught:
        make_network(made)
    assert (caught.value.operator, caught.value.layer) == ("Slice", "cut")


def test_to_core_ml(tmp_path: Path) -> None:
    import coremltools

    onnx.save(tail(), tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    options = {"task": TASK, "fold": True, "precision": "fp32", "minimum_target": "iOS17"}
    facts = onnx_coreml.export({"model": tmp_path}, tmp_path / "out", options, lambda *_: None)
    assert (facts["outputs"], facts["layout"], facts["folded"]) == ({"scores": "scores"}, "nhwc", True)
    made = coremltools.models.MLModel(str(tmp_path / "out/model.mlpackage"), skip_model_load=True)
    spec = made.get_spec().description
    assert [one.name for one in (*spec.input, *spec.output)] == ["image", "scores"]
    assert list(spec.input[0].type.multiArrayType.shape) == [1, 8, 12, 3]


def test_to_tensorflow_lite(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")  # lives in an environment of its own
    from ai_edge_litert.interpreter import Interpreter

    onnx.save(tail(), tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    facts: Any = onnx_tflite.export(
        {"model": tmp_path}, tmp_path / "out", {"task": TASK, "fold": True}, lambda *_: None
    )
    interpreter: Any = Interpreter(str(tmp_path / "out/model.tflite"))
    interpreter.allocate_tensors()
    pixels = RNG.integers(0, 256, (1, 8, 12, 3), np.uint8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    given = {one["name"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}
    planes = (pixels.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    want = run_net(tail(), image=planes)[0]
    np.testing.assert_allclose(given[facts["outputs"]["scores"]], want, rtol=1e-4, atol=1e-4)


def test_suppression_inside_needs_its_head(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 9, 4] boxes, float[1, 1, 9] scores) => (int64[n, 3] chosen) {
            chosen = NonMaxSuppression(boxes, scores)
        }"""
    onnx.save(parser.parse_model(text), tmp_path / "model.onnx")
    with pytest.raises(
        ConversionError, match="which this format cannot: expected a detection task"
    ) as caught:
        onnx_coreml.export({"model": tmp_path}, tmp_path, {"task": TASK}, lambda *_: None)
    assert caught.value.operator == "NonMaxSuppression"
