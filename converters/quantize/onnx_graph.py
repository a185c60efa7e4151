"""An ONNX model as quantization sees it: layers with weights, who feeds whom, where a detector's tail begins.

Quantizes nothing. Reads and writes model files of this step; optimises only what later steps rely on (opset
13, batch normalisation inside the convolutions, names on all nodes, inferred shapes).
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from converters.step import MODEL_FILES
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Array

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators with weights that have integer kernels in every engine that takes QDQ."""

OPSET = 13
"""The first in which DequantizeLinear has an axis (ONNX operators), which weights by channel need."""

_FEW_WEIGHTS = 64
"""A layer with no more is arithmetic in disguise (the expectation over bins of YOLOv8's boxes has 16)."""

LARGEST = 2**31 - 2**20
"""Protobuf refuses messages of 2 GiB; beyond this the tensors go into a file beside the model."""


class Network:
    """One model.

    Attributes:
        model: The `onnx.ModelProto`; whoever changes it makes a new Network.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @cached_property
    def nodes(self) -> dict[str, Any]:
        """Nodes by name, in the order they run."""
        return {node.name: node for node in self.model.graph.node}

    @cached_property
    def initializers(self) -> dict[str, Any]:
        """`TensorProto` of every constant, by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def producers(self) -> dict[str, Any]:
        """The node that makes a tensor."""
        return {name: node for node in self.model.graph.node for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[Any]]:
        """The nodes that take a tensor, each once."""
        found: dict[str, list[Any]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the model's outputs."""
        return frozenset(value.name for value in self.model.graph.output)

    @cached_property
    def types(self) -> Mapping[str, int]:
        """Element type of every tensor whose type is known, as `TensorProto.DataType`."""
        graph = self.model.graph
        known = {
            value.name: value.type.tensor_type.elem_type
            for value in (*graph.value_info, *graph.input, *graph.output)
        }
        return known | {name: tensor.data_type for name, tensor in self.initializers.items()}

    def is_float(self, name: str) -> bool:
        """Tell whether a tensor is float32."""
        import onnx

        return self.types.get(name) == onnx.TensorProto.FLOAT

    def constant(self, name: str) -> Array:
        """Give a constant's values."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.initializers[name])

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the nodes with weights worth quantizing, in the order they run."""
        return tuple(
            node.name
            for node in self.model.graph.node
            if node.op_type in LAYERS and self._weights(node) > _FEW_WEIGHTS
        )

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Number of axes of every tensor whose shape is known."""
        return _ranks(self.model)

    def slow_in_integers(self, layer: str) -> bool:
        """Tell whether a layer is a depthwise convolution that onnxruntime has no integer kernel for.

        It has them for 3x3 and 5x5 (MLAS, symmetric weights); 7x7 was measured 12 times slower in integers.
        These layers have next to no weights, too.
        """
        node = self.nodes[layer]
        groups = next((each.i for each in node.attribute if each.name == "group"), 1)
        dims: list[int] = list(self.initializers[node.input[1]].dims)
        return groups > 1 and dims[1] == 1 and int(np.prod(dims[2:])) not in {9, 25}

    def weight_count(self, layer: str) -> int:
        """Tell how many weights a layer has."""
        return self._weights(self.nodes[layer])

    def _weights(self, node: Any) -> int:
        tensor = self.initializers.get(node.input[1])
        if tensor is None or not self.is_float(tensor.name) or not self.is_float(node.input[0]):
            return 0
        if node.op_type == "MatMul" and len(tensor.dims) != 2:
            return 0
        if node.op_type == "Gemm" and any(
            (each.name == "transA" and each.i) or (each.name in {"alpha", "beta"} and each.f != 1)
            for each in node.attribute
        ):
            return 0  # no integer kernel takes them
        return int(np.prod(tensor.dims, dtype=np.int64))

    def last_layers(self) -> frozenset[str]:
        """Name the layers whose results reach an output past no other layer: a detector's predictions."""
        reached, layers, found = set(self.outputs), frozenset(self.layers), set[str]()
        for node in reversed(self.model.graph.node):
            if reached.isdisjoint(node.output):
                continue
            if node.name in layers:
                found.add(node.name)
            else:
                reached.update(node.input)
        return frozenset(found)

    def tail(self) -> frozenset[str]:
        """Name the nodes that no layer follows: what a detector does with its predictions."""
        before: set[str] = set()
        for node in reversed(self.model.graph.node):
            takers = (taker for name in node.output for taker in self.consumers.get(name, ()))
            if node.name in self.layers or any(taker.name in before for taker in takers):
                before.add(node.name)
        return frozenset(self.nodes) - before


def open_network(folder: Path) -> Network:
    """Open the ONNX model an earlier step left, ready to be quantized.

    Args:
        folder: Has `model.onnx`.

    Raises:
        ConversionError: The file is no ONNX model, or has weights that are no numbers.
    """
    return prepared(load(folder / MODEL_FILES["onnx"]))


def load(path: Path) -> Any:
    """Read a model with its external data.

    Raises:
        ConversionError: The file, or the data beside it, is missing or no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path)
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise ConversionError(
            f"model {path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            expected="an ONNX file with its external data beside it",
            do="Export it again",
        ) from error


def prepared(model: Any) -> Network:
    """Make a model fit to be quantized: see the module.

    Raises:
        ConversionError: Weights are no numbers, or the opset cannot be raised.
    """
    import onnx
    from onnx import version_converter

    version = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if version < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except RuntimeError as error:
            raise ConversionError(
                f"the model has opset {version} and cannot be raised to {OPSET}: {error}",
                do=f"Export it with opset {OPSET} or newer",
            ) from error
    if any(node.op_type == "BatchNormalization" for node in model.graph.node) or version < OPSET:
        import onnxslim

        vendor: Any = onnxslim
        model = vendor.slim(model)
    _constants_outside(model)
    _name_nodes(model)
    if weights_bytes(model) < LARGEST:
        model = onnx.shape_inference.infer_shapes(model)
        _means_are_pools(model)
        _sums_are_gemms(model)
    network = Network(model)
    _check_weights(network)
    return network


def _constants_outside(model: Any) -> None:
    """Turn Constant nodes of tensors into initializers, where layers look for their weights."""
    nodes: list[Any] = []
    for node in model.graph.node:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            value.name = node.output[0]
            model.graph.initializer.append(value)
        else:
            nodes.append(node)
    if len(nodes) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def _means_are_pools(model: Any) -> None:
    """Write means over height and width, as PyTorch exports them, as the pooling engines have kernels for.

    So with a pooling whose window is larger than the picture: onnxruntime's integer kernel divides by the
    window, as transformers' EfficientNet showed.
    """
    from onnx import helper, numpy_helper

    shapes = _shapes(model)
    ranks = {name: len(shape) for name, shape in shapes.items()}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "AveragePool" and _covers(told, shapes.get(node.input[0], ())):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4:
            continue
        axes = told.get("axes", ())
        if len(node.input) > 1 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        if sorted(axis % 4 for axis in axes) == [2, 3] and told.get("keepdims", 1):
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


def _covers(told: Mapping[str, Any], shape: Sequence[int]) -> bool:
    """Whether a pooling's window holds the whole picture."""
    window = told.get("kernel_shape", ())
    sides = shape[2:]
    return (
        len(sides) > 0
        and len(sides) == len(window)
        and not any(told.get("pads", ()))
        and all(step == 1 for step in told.get("dilations", ()))
        and all(0 < side <= length for side, length in zip(sides, window, strict=True))
    )


def _sums_are_gemms(model: Any) -> None:
    """Write a product of matrices and the bias added to it as the one operator that integer kernels know."""
    from onnx import helper

    network = Network(model)
    gone: set[str] = set()
    for node in model.graph.node:
        after = only_consumer(network, node.output[0], {"Add"}) if node.op_type == "MatMul" else None
        if (
            after is None
            or network.ranks.get(node.input[0]) != 2
            or node.input[1] not in network.initializers
        ):
            continue
        bias = next((name for name in after.input if name != node.output[0]), "")
        tensor = network.initializers.get(bias)
        if tensor is not None and list(tensor.dims) == [network.initializers[node.input[1]].dims[-1]]:
            product = helper.make_node("Gemm", [*node.input, bias], list(after.output), node.name)
            gone.add(after.name)
            node.CopyFrom(product)
    kept = [node for node in model.graph.node if node.name not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _ranks(model: Any) -> dict[str, int]:
    return {name: len(shape) for name, shape in _shapes(model).items()}


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Name of a tensor -> its shape; 0 for an axis of any length."""
    graph = model.graph
    return {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _name_nodes(model: Any) -> None:
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def _check_weights(network: Network) -> None:
    for layer in network.layers:
        name = network.nodes[layer].input[1]
        if not np.isfinite(network.constant(name)).all():
            raise ConversionError(
                f"weights '{name}'",
                expected="numbers",
                got="NaN or infinity",
                do="Export a checkpoint that trained to the end",
                operator=network.nodes[layer].op_type,
                layer=layer,
            )


def save(model: Any, out: Path, *, largest: int = LARGEST) -> Path:
    """Write the model into the folder of a step.

    Args:
        model: An `onnx.ModelProto`.
        out: The folder.
        largest: Bytes of weights from which on they lie beside the file.

    Returns:
        The file.
    """
    import onnx

    path = out / MODEL_FILES["onnx"]
    if weights_bytes(model) < largest:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return path


def weights_bytes(model: Any) -> int:
    """Add up what the weights take; the model itself cannot tell its size where it is beyond 2 GB."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def only_consumer(network: Network, tensor: str, kinds: Collection[str]) -> Any:
    """Give the one node that takes a tensor, if it is of these kinds; None otherwise, and for an output."""
    takers = network.consumers.get(tensor, [])
    if tensor in network.outputs or len(takers) != 1 or takers[0].op_type not in kinds:
        return None
    return takers[0]
