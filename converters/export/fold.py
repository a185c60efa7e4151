"""Preprocessing moves into the graph: pictures go in as uint8 NHWC, as cameras and canvases have them.

The normalisation goes into the weights of the first convolution where that is exact, otherwise it becomes
operators of its own. Resizing and letterboxing stay outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.export import onnx_graph
from converters.export.onnx_graph import add_constant, fresh
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import ImageInput
from edge_runtime.contract.tensors import Array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

_TO_PLANES = [0, 3, 1, 2]


def fold(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the model take uint8 NHWC pictures.

    Args:
        inputs: `model`: the folder of an ONNX model with one float picture input.
        out: Gets `model.onnx`.
        options: `input`: the ImageInput of the task. `colour`: order of the channels that go in, `rgb` or
            `bgr`; absent: that of the ImageInput.
        tell: Progress.

    Returns:
        `tools`, `inputs`, `outputs`, `opset`, `layout`, `folded`; `input`: the ImageInput of the new model;
        `into_weights`: whether the scale costs nothing.

    Raises:
        ConversionError: The model takes no float picture of three channels.
    """
    image = ImageInput.model_validate(options["input"])
    tell(0.0, "folding the preprocessing")
    model = onnx_graph.load(inputs["model"] / MODEL_FILES["onnx"])
    told = image.model_dump() | {"colour": options.get("colour", image.colour)}
    told |= ImageInput(layout="nhwc").model_dump(include={"layout", "scale", "mean", "std"})
    outside = ImageInput.model_validate(told)
    into_weights = fold_model(model, image, reverse=outside.colour != image.colour)
    facts = onnx_graph.facts_of(model)
    facts |= {"layout": "nhwc", "folded": True, "into_weights": into_weights}
    facts["input"] = outside.model_dump(mode="json")
    onnx_graph.save(model, out)
    return facts


def fold_model(model: "ModelProto", image: ImageInput, *, reverse: bool = False) -> bool:
    """Change the model in place.

    Args:
        model: With one float picture input, `(n, 3, h, w)` or `(n, h, w, 3)` as `image.layout` says.
        image: How the picture becomes that input.
        reverse: Pictures will come with the channels the other way round.

    Returns:
        Whether scale and standard deviation went into weights, at no cost.

    Raises:
        ConversionError: There is no such input.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    value, layout = onnx_graph.picture_input(model, image)
    element = value.type.tensor_type.elem_type
    if element not in {TensorProto.FLOAT, TensorProto.FLOAT16}:
        raise ConversionError(
            f"input '{value.name}' has nothing to fold",
            expected="float32 or float16",
            got=TensorProto.DataType.Name(element).lower(),
            do="Leave out `fold`",
        )
    old = fresh(f"{value.name}_normalized", onnx_graph.value_names(graph))
    onnx_graph.rename_value(graph, value.name, old)
    number = np.dtype(helper.tensor_dtype_to_np_dtype(element))
    work = _Normalisation.of(image, number)
    convolution = _first_convolution(graph, old, layout)
    exact = convolution is not None and _move_scale(graph, convolution, work, reverse=reverse)
    if exact:
        shift = work.shift / work.gain
        work = _Normalisation(np.ones(3, number), (shift[::-1] if reverse else shift).astype(number))
        reverse = False
    steps = _Chain(graph, value.name, layout)
    if reverse:
        channels = add_constant(graph, f"{value.name}_channels", [2, 1, 0], np.int64)
        steps.add("Gather", channels, axis=3)
    if layout == "nchw":
        steps.add("Transpose", perm=_TO_PLANES)
    steps.add("Cast", to=element)
    work.append_to(steps)
    steps.end(old)
    _replace_input(value, layout)
    return exact


@dataclass(frozen=True)
class _Normalisation:
    """`pixel * gain + shift`, one value a channel, in the order of the model's own channels."""

    gain: Array
    shift: Array

    @classmethod
    def of(cls, image: ImageInput, number: "np.dtype[Any]") -> "_Normalisation":
        std = np.array(image.std)
        return cls(
            (image.scale / std).astype(number),
            (-np.array(image.mean) / std).astype(number),
        )

    def append_to(self, steps: "_Chain") -> None:
        """Write what is not nothing as operators."""
        if (self.gain != 1).any():
            steps.add("Mul", steps.channels("gain", self.gain))
        if self.shift.any():
            steps.add("Add", steps.channels("shift", self.shift))


class _Chain:
    """Operators one after another, put before all others."""

    def __init__(self, graph: "GraphProto", start: str, layout: str) -> None:
        self._graph, self._start, self._layout = graph, start, layout
        self._nodes: list[NodeProto] = []
        self._last = start

    def channels(self, name: str, values: Array) -> str:
        """Store one value a channel; a single number where all are the same."""
        if (values == values[0]).all():
            shaped = values[0]
        else:
            shaped = values[:, None, None] if self._layout == "nchw" else values
        return add_constant(self._graph, f"{self._start}_{name}", shaped, values.dtype)

    def add(self, operator: str, *operands: str, **attributes: Any) -> None:
        """Append an operator to what the last one gave."""
        from onnx import helper

        taken = onnx_graph.value_names(self._graph) | {node.output[0] for node in self._nodes}
        output = fresh(f"{self._start}_{operator.lower()}", taken)
        name = fresh(f"fold/{operator}", {node.name for node in self._graph.node})
        self._nodes.append(helper.make_node(operator, [self._last, *operands], [output], name, **attributes))
        self._last = output

    def end(self, name: str) -> None:
        """Let the last operator give the value that the graph goes on with."""
        self._nodes[-1].output[0] = name
        rest = list(self._graph.node)
        del self._graph.node[:]
        self._graph.node.extend([*self._nodes, *rest])


def _first_convolution(graph: "GraphProto", value: str, layout: str) -> "NodeProto | None":
    """Find the convolution that alone takes the picture, perhaps behind the transpose of an NHWC model."""
    takers = [node for node in onnx_graph.nodes(graph) if value in node.input]
    if len(takers) != 1 or value in {output.name for output in graph.output}:
        return None
    node = takers[0]
    if node.op_type == "Transpose" and layout == "nhwc" and list(node.attribute[0].ints) == _TO_PLANES:
        return _first_convolution(graph, node.output[0], "nchw")
    grouped = any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)
    return node if node.op_type == "Conv" and layout == "nchw" and not grouped else None


def _move_scale(
    graph: "GraphProto", convolution: "NodeProto", work: _Normalisation, *, reverse: bool
) -> bool:
    """Multiply the weights by the gain, and turn their channels round.

    A shift stays outside: a convolution pads with zeros, and a zero of the model's input is not a pixel of 0.
    In front of the gain, `pixel + shift / gain`, it keeps padding exact.
    """
    from onnx import numpy_helper

    stored = next((tensor for tensor in graph.initializer if tensor.name == convolution.input[1]), None)
    if stored is None:
        return False
    weights = numpy_helper.to_array(stored)
    scaled = (weights.astype(np.float64) * work.gain.astype(np.float64)[:, None, None]).astype(weights.dtype)
    if reverse:
        scaled = np.ascontiguousarray(scaled[:, ::-1])
    if sum(stored.name in node.input for node in onnx_graph.nodes(graph)) == 1:
        stored.CopyFrom(numpy_helper.from_array(scaled, stored.name))
    else:
        convolution.input[1] = add_constant(graph, f"{stored.name}_folded", scaled, scaled.dtype)
    return True


def _replace_input(value: "ValueInfoProto", layout: str) -> None:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    tensor.elem_type = TensorProto.UINT8
    if layout == "nchw":
        axes = [type(axis).FromString(axis.SerializeToString()) for axis in tensor.shape.dim]
        del tensor.shape.dim[:]
        tensor.shape.dim.extend([axes[0], axes[2], axes[3], axes[1]])
