"""Small models written once and emitted as ONNX and as TensorFlow Lite.

The ONNX form is the living definition: `onnx.reference` says what every engine must answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as lite
from flatbuffers import Builder
from onnx.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]

FORMS = (
    ("onnxruntime", "onnx"),
    ("litert", "tflite"),
    ("openvino", "onnx"),
    ("openvino", "ir"),
    ("coreml", "mlpackage"),
)
"""Every engine with each form of a model it is tested with."""


@dataclass(frozen=True)
class Value:
    """A tensor of a graph; None is an axis of any length."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Node:
    op: str  # Add, Mul, Relu, Cast or MatMul; MatMul's second input is a constant (in, out)
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Graph:
    """A model: `values` names every tensor that is no constant, in any order."""

    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: Sequence[Node]
    constants: Mapping[str, Array] = field(default_factory=dict)


def to_onnx(graph: Graph) -> onnx.ModelProto:
    helper = onnx.helper

    def info(name: str) -> onnx.ValueInfoProto:
        value = graph.values[name]
        axes = [f"{name}_{i}" if axis is None else axis for i, axis in enumerate(value.shape)]
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return helper.make_tensor_value_info(name, dtype, axes)

    def node(node: Node) -> onnx.NodeProto:
        extra = {}
        if node.op == "Cast":
            extra["to"] = helper.np_dtype_to_tensor_dtype(np.dtype(graph.values[node.output].dtype))
        return helper.make_node(node.op, list(node.inputs), [node.output], **extra)

    body = helper.make_graph(
        [node(n) for n in graph.nodes],
        "definition",
        [info(name) for name in graph.inputs],
        [info(name) for name in graph.outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


_LITE_TYPES = {
    "bool": lite.TensorType.BOOL,
    "float16": lite.TensorType.FLOAT16,
    "float32": lite.TensorType.FLOAT32,
    "float64": lite.TensorType.FLOAT64,
    "int8": lite.TensorType.INT8,
    "int16": lite.TensorType.INT16,
    "int32": lite.TensorType.INT32,
    "int64": lite.TensorType.INT64,
    "uint8": lite.TensorType.UINT8,
}
_LITE_OPS = {
    "Add": (lite.BuiltinOperator.ADD, lite.BuiltinOptions.AddOptions, lite.AddOptionsT),
    "Mul": (lite.BuiltinOperator.MUL, lite.BuiltinOptions.MulOptions, lite.MulOptionsT),
    "Relu": (lite.BuiltinOperator.RELU, lite.BuiltinOptions.NONE, None),
    "Cast": (lite.BuiltinOperator.CAST, lite.BuiltinOptions.CastOptions, lite.CastOptionsT),
    "MatMul": (
        lite.BuiltinOperator.FULLY_CONNECTED,
        lite.BuiltinOptions.FullyConnectedOptions,
        lite.FullyConnectedOptionsT,
    ),
}


def to_tflite(graph: Graph, quantization: Mapping[str, tuple[float, int]] | None = None) -> bytes:
    """Emit the graph; `quantization` gives tensors a (scale, zero point)."""
    model = lite.ModelT()
    model.version = 3
    model.buffers = [lite.BufferT()]  # the empty one that tensors without content share
    body = lite.SubGraphT()
    body.tensors = []
    index: dict[str, int] = {}

    def add_tensor(name: str, dtype: str, shape: Sequence[int | None], buffer: int) -> None:
        tensor = lite.TensorT()
        tensor.name = name
        tensor.type = _LITE_TYPES[dtype]
        tensor.shape = [1 if axis is None else axis for axis in shape]
        if None in shape:
            tensor.shapeSignature = [-1 if axis is None else axis for axis in shape]
        tensor.buffer = buffer
        if quantization and name in quantization:
            tensor.quantization = lite.QuantizationParametersT()
            tensor.quantization.scale = [quantization[name][0]]
            tensor.quantization.zeroPoint = [quantization[name][1]]
        index[name] = len(body.tensors)
        body.tensors.append(tensor)

    for name, value in graph.values.items():
        add_tensor(name, value.dtype, value.shape, 0)
    matrices = {node.inputs[1] for node in graph.nodes if node.op == "MatMul"}
    for name, array in graph.constants.items():
        content = array.T if name in matrices else array  # FULLY_CONNECTED has its weights (out, in)
        buffer = lite.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
        model.buffers.append(buffer)
        add_tensor(name, array.dtype.name, content.shape, len(model.buffers) - 1)
    body.inputs = [index[name] for name in graph.inputs]
    body.outputs = [index[name] for name in graph.outputs]
    model.operatorCodes = []
    body.operators = [_operator(model, node, graph, index) for node in graph.nodes]
    model.subgraphs = [body]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _operator(model: Any, node: Node, graph: Graph, index: Mapping[str, int]) -> Any:
    builtin, options_type, options = _LITE_OPS[node.op]
    code = lite.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    model.operatorCodes.append(code)
    operator = lite.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs = [index[name] for name in node.inputs]
    operator.outputs = [index[node.output]]
    operator.builtinOptionsType = options_type
    operator.builtinOptions = options() if options else None
    if node.op == "MatMul":
        operator.inputs.append(-1)  # no bias
    if node.op == "Cast":
        operator.builtinOptions.inDataType = _LITE_TYPES[graph.values[node.inputs[0]].dtype]
        operator.builtinOptions.outDataType = _LITE_TYPES[graph.values[node.output].dtype]
    return operator


def define(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Answer as the definition does."""
    answers = ReferenceEvaluator(to_onnx(graph)).run(list(graph.outputs), dict(inputs))
    return dict(zip(graph.outputs, answers, strict=True))


def cast_graph(source: str, target: str) -> Graph:
    return Graph(
        {"x": Value(source, (2, 3)), "y": Value(target, (2, 3))}, ("x",), ("y",), [Node("Cast", ("x",), "y")]
    )


PICTURE = Graph(
    {
        "picture": Value("uint8", (1, 4, 6, 3)),
        "pixels": Value("float32", (1, 4, 6, 3)),
        "scaled": Value("float32", (1, 4, 6, 3)),
    },
    ("picture",),
    ("scaled",),
    [Node("Cast", ("picture",), "pixels"), Node("Mul", ("pixels", "scale"), "scaled")],
    {"scale": np.float32([1 / 255])},
)
"""A uint8 picture, scaled inside the model."""

PAIR = Graph(
    {name: Value("float32", (2, 5)) for name in ("left", "right", "sum", "product")},
    ("left", "right"),
    ("sum", "product"),
    [Node("Add", ("left", "right"), "sum"), Node("Mul", ("left", "right"), "product")],
)
"""Two inputs, two outputs."""


def layer(rows: int | None, columns: int = 16, out: int = 8) -> Graph:
    """A dense layer for a batch of `rows`, or of any number."""
    weights = np.random.default_rng(7).normal(size=(columns, out)).astype(np.float32)
    return Graph(
        {
            "x": Value("float32", (rows, columns)),
            "h": Value("float32", (rows, out)),
            "y": Value("float32", (rows, out)),
        },
        ("x",),
        ("y",),
        [Node("MatMul", ("x", "w"), "h"), Node("Relu", ("h",), "y")],
        {"w": weights},
    )


WIDE = Graph(
    {name: Value("float32", (None, None)) for name in ("x", "y")},
    ("x",),
    ("y",),
    [Node("MatMul", ("x", "w"), "y")],
    {"w": np.eye(16, 8, dtype=np.float32)},
)
"""A dense layer that claims to take any width: other than 16 passes the check and fails in the engine."""
