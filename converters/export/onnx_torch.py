"""An ONNX graph as a torch module, operator by operator, for the exporters that start from torch.

Made for networks of fixed shape: whatever depends on shapes alone is calculated when the graph is read and is
a constant afterwards. Trains nothing, takes no control flow; the tables in `onnx_torch_layers` and
`onnx_torch_ops` say which operators there are. Loads torch when it is imported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from converters.export import onnx_graph, onnx_torch_layers, onnx_torch_ops
from converters.export.onnx_opset import to_opset
from converters.export.onnx_torch_operands import Handler, Inputs, Operands, as_tensor, dtype_of
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError
from edge_runtime.contract.task import ImageInput, TaskSpec, TextSpec
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

HANDLERS: Mapping[str, Handler] = {**onnx_torch_ops.HANDLERS, **onnx_torch_layers.HANDLERS}
"""Every operator that a network may have besides those that are constants once shapes are known."""

_LEAST_OPSET = 13
"""From here on `axes` of Squeeze, Unsqueeze and Split are inputs, as the tables expect."""
_REMEDIES = {
    "NonMaxSuppression": "Take suppression out of the graph: declare the head 'nms', and `nms: outside`",
    "DequantizeLinear": "Give the model before it was quantized",
    "QuantizeLinear": "Give the model before it was quantized",
    "QLinearConv": "Give the model before it was quantized",
    "If": "Export the model without branches",
    "Loop": "Export the model without loops",
    "Scan": "Export the model without loops",
    "NonZero": "Export the model so that no shape depends on the input's content",
}
_ANY_REMEDY = "Export the model with other operators, or leave this format out"


@dataclass(frozen=True, slots=True)
class _Call:
    """One operator to run: where its inputs come from, and what it gives."""

    handler: Handler
    operands: Operands
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class OnnxNetwork(torch.nn.Module):
    """Runs the operators of a graph one after another.

    Attributes:
        input_names: Of the graph, in the order of `forward`'s arguments.
        output_names: Of the graph, in the order of what `forward` gives.
        example: One array of zeros for each input, of the network's fixed shape.
    """

    def __init__(
        self, model: "ModelProto", task: TaskSpec | None = None, *, float_pixels: bool = False
    ) -> None:
        """Read a graph.

        Args:
            model: At least opset 13; `make_network` sees to it.
            task: Gives free axes a length: the size of pictures, the length of texts. The batch becomes 1.
            float_pixels: Take uint8 inputs as float32.

        Raises:
            ConversionError: An operator is not in the tables, its attributes are not supported, or a shape is
                not fixed.
        """
        super().__init__()
        graph = model.graph
        inputs = onnx_graph.real_inputs(graph)
        _require_handlers(graph.node)
        self.input_names = [value.name for value in inputs]
        self.output_names = [value.name for value in graph.output]
        self.example = tuple(_example(value, task, float_pixels=float_pixels) for value in inputs)
        self._calls: list[_Call] = []
        self._buffer_of: dict[str, str] = {}
        self._known: dict[str, Array] = onnx_graph.constants(graph)
        values = dict(zip(self.input_names, self.example, strict=True))
        with torch.no_grad():
            for node in graph.node:
                self._read(node, onnx_graph.opset_of(model), values)
            for name in self.output_names:
                self._value(name, values)
        self._known = {}

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network.

        Args:
            inputs: One for each of `input_names`, of the shapes of `example`.

        Returns:
            One for each of `output_names`.
        """
        values = dict(zip(self.input_names, inputs, strict=True))
        for call in self._calls:
            self._run(call, values)
        return tuple(self._value(name, values) for name in self.output_names)

    def _run(self, call: _Call, values: dict[str, torch.Tensor]) -> None:
        given = call.handler(call.operands, Inputs(lambda name: self._value(name, values), call.inputs))
        outputs = given if isinstance(given, tuple) else (given,)
        values.update(zip(call.outputs, outputs, strict=False))

    def _value(self, name: str, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Give what was calculated, or a constant, which becomes a buffer when it is first asked for."""
        if name in values:
            return values[name]
        if name not in self._buffer_of:
            self._buffer_of[name] = f"constant_{len(self._buffer_of)}"
            self.register_buffer(self._buffer_of[name], as_tensor(self._known[name]))
        return self.get_buffer(self._buffer_of[name])

    def _read(self, node: "NodeProto", opset: int, values: dict[str, torch.Tensor]) -> None:
        """Run an operator once: what hangs on shapes alone becomes a constant, everything else a call."""
        if all(name in self._known for name in node.input if name):
            self._known.update(_fold(node, opset, self._known))
            return
        if node.op_type == "Shape":
            self._known[node.output[0]] = _shape(node, values[node.input[0]])
            return
        known = [self._known.get(name) for name in node.input]
        shapes = [
            tuple(values[name].shape) if name in values else self._known[name].shape if name else ()
            for name in node.input
        ]
        operands = Operands(node, opset, known, shapes)
        call = _Call(HANDLERS[node.op_type], operands, tuple(node.input), tuple(node.output))
        try:
            self._run(call, values)
        except EdgeRuntimeError:
            raise
        except Exception as error:
            raise operands.failure(brief(error)) from error
        self._calls.append(call)


def make_network(
    model: "ModelProto", task: TaskSpec | None = None, *, float_pixels: bool = False
) -> OnnxNetwork:
    """Make a network of a graph.

    Args:
        model: Any opset.
        task: See `OnnxNetwork`.
        float_pixels: See `OnnxNetwork`.

    Returns:
        In evaluation mode.

    Raises:
        ConversionError: See `OnnxNetwork`.
    """
    if onnx_graph.opset_of(model) < _LEAST_OPSET:
        model = to_opset(model, _LEAST_OPSET)
    return OnnxNetwork(model, task, float_pixels=float_pixels).eval()


def _require_handlers(nodes: Sequence["NodeProto"]) -> None:
    """Name every operator that is missing at once, and the layer of the first."""
    folded = {"Shape", "Constant", "ConstantOfShape", "Range", "Size"}
    missing = [n for n in nodes if n.op_type not in HANDLERS and n.op_type not in folded]
    if not missing:
        return
    first = missing[0]
    names = sorted({node.op_type for node in missing})
    remedy = next((_REMEDIES[name] for name in names if name in _REMEDIES), _ANY_REMEDY)
    raise ConversionError(
        f"operator {', '.join(names)} (layer '{first.name or first.output[0]}') cannot leave ONNX",
        operator=first.op_type,
        layer=first.name or first.output[0],
        do=remedy,
    )


def _example(value: "ValueInfoProto", task: TaskSpec | None, *, float_pixels: bool) -> torch.Tensor:
    shape = list(onnx_graph.shape_of(value))
    told: dict[int, int] = {0: 1}
    image = getattr(task, "input", None)
    if isinstance(image, ImageInput) and image.size is not None and len(shape) == 4:
        first = 2 if image.layout == "nchw" else 1
        told |= {first: image.size[0], first + 1: image.size[1]}
    if isinstance(task, TextSpec) and len(shape) == 2:
        told |= {1: task.input.max_length}
    fixed = [axis if isinstance(axis, int) else told.get(i) for i, axis in enumerate(shape)]
    lengths = [axis for axis in fixed if axis is not None]
    if len(lengths) < len(fixed):
        raise ConversionError(
            f"input '{value.name}' has no fixed shape, and this format takes no other",
            got=onnx_graph.write_shape(tuple(shape)),
            do="Say `size: [height, width]` in the recipe, or export the model with a fixed shape",
        )
    dtype = dtype_of(value.type.tensor_type.elem_type)
    return torch.zeros(lengths, dtype=torch.float32 if float_pixels and dtype == torch.uint8 else dtype)


def _shape(node: "NodeProto", value: torch.Tensor) -> Array:
    limits = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(value.shape[limits.get("start", 0) : limits.get("end")], np.int64)


def _fold(node: "NodeProto", opset: int, known: Mapping[str, Array]) -> dict[str, Array]:
    """Calculate an operator of constants."""
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.input if name]
    evaluator = ReferenceEvaluator(node, opsets={"": opset})
    try:
        given: Any = evaluator.run(None, {name: known[name] for name in names})
    except Exception as error:
        raise ConversionError(
            f"operator {node.op_type} of layer '{node.name}' on constants: {brief(error)}",
            operator=node.op_type,
            layer=node.name,
        ) from error
    return dict(zip(node.output, (np.asarray(value) for value in given), strict=True))
