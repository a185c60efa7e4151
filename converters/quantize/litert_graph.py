"""A TFLite file as the AI Edge Quantizer sees it: operators by scope, layers, tail. Changes no numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from converters.quantize import tail
from converters.quantize.tail import Node
from converters.quantize.wide import Operator, by_operators
from converters.step import MODEL_FILES
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.vendor import brief


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operator has what; numbers of inputs.

    Args:
        weights: The constant.
        data: What they are applied to.
        bias: None: it has none.
        channels: The axis of the weights that has a scale for each entry.
    """

    weights: int = 1
    data: int = 0
    bias: int | None = None
    channels: int = 0


_PLACES: Mapping[str, Place] = {
    "BATCH_MATMUL": Place(),
    "CONV_2D": Place(bias=2),
    "CONV_2D_TRANSPOSE": Place(data=2, bias=3),
    "DEPTHWISE_CONV_2D": Place(bias=2, channels=3),
    "EMBEDDING_LOOKUP": Place(),
    "FULLY_CONNECTED": Place(bias=2),
}
"""Operators with weights, as the quantizer names them; their inputs by the TensorFlow Lite operator list."""
_SIGNATURE = "serving_default"
_FLOAT32 = 0
"""TensorType.FLOAT32 of the TensorFlow Lite schema."""
_STORED_SMALL = ("FLOAT16", "INT4", "INT8", "INT16", "UINT8")


@dataclass(frozen=True, slots=True)
class Layer:
    """An operator with weights.

    Args:
        name: Its scope.
        input: The tensor they are applied to.
        weights_name: Their tensor.
        weights: float32.
        channels: As in `Place`.
        bias: `(channels,)` float32; None: it has none.
    """

    name: str
    input: str
    weights_name: str
    weights: Array
    channels: int
    bias: Array | None


@dataclass(frozen=True)
class Graph:
    """A float model.

    Args:
        content: The file; with a signature in any case: the quantizer finds inputs by it. Biases have one
            axis.
        model: Its `ModelT`.
    """

    content: bytes
    model: Any

    @cached_property
    def nodes(self) -> list[Node]:
        """Operators of the main graph in the order they run, named by the scope that recipes know them by."""
        from ai_edge_quantizer.utils import tfl_flatbuffer_utils

        vendor: Any = tfl_flatbuffer_utils
        graph = self.model.subgraphs[0]
        found: list[Node] = []
        for operator in graph.operators:
            inputs, outputs = (
                tuple(self._name(index) for index in indices if index >= 0)
                for indices in (operator.inputs, operator.outputs)
            )
            scope = str(vendor.get_op_scope(operator, graph.tensors))
            found.append(Node(scope, inputs, outputs, self._place(operator) is not None))
        return found

    @property
    def layers(self) -> dict[str, int]:
        """Name of a layer -> how many weights it has, in the order they run."""
        return {layer.name: layer.weights.size for layer in self.details}

    @cached_property
    def details(self) -> list[Layer]:
        """The layers, in the order they run."""
        found: list[Layer] = []
        for node, operator in zip(self.nodes, self.model.subgraphs[0].operators, strict=True):
            place = self._place(operator)
            weights = None if place is None else self._constant(operator, place.weights)
            if place is None or weights is None:
                continue
            bias = None if place.bias is None else self._constant(operator, place.bias)
            named = self._name(operator.inputs[place.weights])
            data = self._name(operator.inputs[place.data])
            found.append(Layer(node.name, data, named, weights, place.channels, bias))
        return found

    @property
    def spared(self) -> frozenset[str]:
        """What a detector keeps in float: its last layers, and all that comes after them.

        Their results mix pixels, exponents and probabilities, and do not share 8 bits.
        """
        outputs = {self._name(index) for index in self.model.subgraphs[0].outputs}
        return tail.last_layers(self.nodes, outputs) | tail.tail(self.nodes)

    @property
    def wide(self) -> bool:
        """Whether its activations are, by `quantize.wide`."""
        graph = self.model.subgraphs[0]
        return by_operators(
            Operator(_kind(self.model, operator), node.inputs, node.outputs)
            for node, operator in zip(self.nodes, graph.operators, strict=True)
        )

    @property
    def signature(self) -> str:
        """The key of the first signature."""
        return _text(self.model.signatureDefs[0].signatureKey)

    @property
    def arguments(self) -> dict[str, str]:
        """Name of a tensor -> name in the signature, of the inputs."""
        return {
            self._name(entry.tensorIndex): _text(entry.name) for entry in self.model.signatureDefs[0].inputs
        }

    @property
    def open_axes(self) -> list[str]:
        """Inputs with an axis of any length."""
        graph = self.model.subgraphs[0]
        return [
            self._name(index)
            for index in graph.inputs
            if graph.tensors[index].shapeSignature is not None
            and any(axis < 0 for axis in graph.tensors[index].shapeSignature)
        ]

    def _name(self, index: int) -> str:
        return _text(self.model.subgraphs[0].tensors[index].name)

    def _place(self, operator: Any) -> Place | None:
        """Where it has its weights; None: it has none that are constant."""
        place = _places(self.model, operator)
        return None if place is None or self._constant(operator, place.weights) is None else place

    def _constant(self, operator: Any, place: int) -> Array | None:
        """An input as float32 array; None where it is absent, made at run time, or no float."""
        if place >= len(operator.inputs) or operator.inputs[place] < 0:
            return None
        tensor = self.model.subgraphs[0].tensors[operator.inputs[place]]
        data = self.model.buffers[tensor.buffer].data
        if tensor.type != _FLOAT32 or data is None or not len(data):
            return None
        return np.frombuffer(data, np.float32).reshape(tensor.shape)


def open_graph(folder: Path) -> Graph:
    """Read the float model that an earlier step left.

    Args:
        folder: Has `model.tflite`.

    Raises:
        ConversionError: It is no TFLite file, is quantized already, or has no layer with weights.
    """
    path = folder / MODEL_FILES["tflite"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConversionError(f"model {path}: {error.strerror}", do="Export it again") from error
    model = _read(content, path)
    small = _small_tensor(model)
    if small is not None:
        raise ConversionError(
            f"model {path} is quantized already",
            expected="float32 weights",
            got=f"{small[1]} in '{small[0]}'",
            do="Give the float model it was made from, or ship it as it is",
        )
    if _flatten_biases(model) | _sign(model):
        content = _written(model)
        model = _read(content, path)
    graph = Graph(content, model)
    if not graph.layers:
        raise ConversionError(
            "the model has no layer with weights",
            expected=", ".join(_PLACES),
            do="Ship it in float: there is nothing to quantize",
        )
    return graph


def _places(model: Any, operator: Any) -> Place | None:
    """The row of `_PLACES` for an operator."""
    return _PLACES.get(_kind(model, operator))


def _kind(model: Any, operator: Any) -> str:
    """What an operator is, as the quantizer names it; empty where it knows none."""
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    vendor: Any = tfl_flatbuffer_utils
    kind = vendor.TFL_OP_CODE_TO_NAME.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
    return "" if kind is None else str(kind.value)


def _read(content: bytes, path: Path) -> Any:
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    vendor: Any = tfl_flatbuffer_utils
    if content[4:8] != b"TFL3":
        raise _damaged(path, repr(content[:8]))
    try:
        model = vendor.read_model(content)
    except Exception as error:  # the schema's reader runs into whatever damage there is
        raise _damaged(path, f"damage: {brief(error)}") from error
    if not model.subgraphs:
        raise _damaged(path, "no graph")
    return model


def _damaged(path: Path, got: str) -> ConversionError:
    return ConversionError(f"model {path}", expected="a TensorFlow Lite file", got=got, do="Export it again")


def _small_tensor(model: Any) -> tuple[str, str] | None:
    """Find a tensor of few bits that stands for real numbers: name and type. Pictures in bytes are none."""
    from ai_edge_litert.tools import flatbuffer_utils

    vendor: Any = flatbuffer_utils
    for tensor in model.subgraphs[0].tensors:
        kind = str(vendor.type_to_name(tensor.type))
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        if (kind == "FLOAT16" or scaled) and kind in _STORED_SMALL:
            return _text(tensor.name), kind
    return None


def _flatten_biases(model: Any) -> bool:
    """Make every bias one axis; tell whether one was not.

    A scale after a layer, as ConvNeXt has it, is folded into the layer by exporters, which leaves a bias of
    shape (1, 1, 1, channels). The quantizer then writes a scale for each channel along its first axis, of
    length 1, and LiteRT refuses the file. A constant that something else reads too stays as it is.
    """
    graph = model.subgraphs[0]
    read = [index for operator in graph.operators for index in operator.inputs]
    changed = False
    for operator in graph.operators:
        place = _places(model, operator)
        if place is None or place.bias is None or place.bias >= len(operator.inputs):
            continue
        index = operator.inputs[place.bias]
        tensor = graph.tensors[index] if index >= 0 else None
        if tensor is None or len(tensor.shape) < 2 or read.count(index) > 1 or index in graph.outputs:
            continue
        tensor.shape, tensor.shapeSignature = np.array([np.prod(tensor.shape)], np.int32), None
        changed = True
    return changed


def _sign(model: Any) -> bool:
    """Give a model without signatures one, as older exporters leave it out; tell whether it had none."""
    from ai_edge_litert.tools import flatbuffer_utils

    if model.signatureDefs:
        return False
    vendor: Any = flatbuffer_utils
    schema = vendor.schema_fb
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _SIGNATURE.encode(), 0
    graph = model.subgraphs[0]
    signature.inputs, signature.outputs = (
        [_entry(schema, f"{role}_{place}", index) for place, index in enumerate(indices)]
        for role, indices in (("input", graph.inputs), ("output", graph.outputs))
    )
    model.signatureDefs = [signature]
    return True


def _written(model: Any) -> bytes:
    from ai_edge_litert.tools import flatbuffer_utils

    vendor: Any = flatbuffer_utils
    return bytes(vendor.convert_object_to_bytearray(model))


def _entry(schema: Any, name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
