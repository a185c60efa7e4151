"""Writes a quantized ONNX model as QDQ: float operators between DequantizeLinear and QuantizeLinear.

Chooses no layers and measures no ranges: it is given both. What lies between quantized layers is done in
integers too where an engine has a kernel for it, so that a chain is not broken; what lies after the last one
stays float.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from converters.quantize.onnx_graph import LAYERS, Network, only_consumer
from converters.quantize.scheme import Range, Scheme, quantized_weights
from edge_runtime.contract.tensors import Array

SAME_SCALE = frozenset(
    {
        "DepthToSpace",
        "Flatten",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Give values they were given, so that the output has the scale of the input."""
ARITHMETIC = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"})
"""Have integer kernels in onnxruntime (QLinearAdd and so on) with an output scale of their own."""
ACTIVATIONS = frozenset({"Clip", "Relu"})
"""Vanish into the saturation of what comes before them."""


def integer_nodes(network: Network, layers: Collection[str]) -> frozenset[str]:
    """Name the nodes that are done in integers when these layers are: they, and what lies between them.

    Args:
        network: The model.
        layers: Some of `network.layers`.
    """
    chain = SAME_SCALE | ARITHMETIC | ACTIVATIONS
    wanted = frozenset(layers)
    after: set[str] = set()
    for node in network.model.graph.node:
        if node.name in wanted or (
            node.op_type in chain and any(_maker(network, name) in after for name in _data(network, node))
        ):
            after.add(node.name)
    before: set[str] = set()
    for node in reversed(network.model.graph.node):
        if node.name in wanted or (
            node.op_type in chain
            and any(taker.name in before for name in node.output for taker in network.consumers.get(name, ()))
        ):
            before.add(node.name)
    return frozenset(name for name in after & before if _suits(network, network.nodes[name]))


def _maker(network: Network, tensor: str) -> str:
    node = network.producers.get(tensor)
    return "" if node is None else node.name


def _data(network: Network, node: Any) -> list[str]:
    """The inputs that are numbers to calculate with: not the bias, not a shape or a size."""
    if node.op_type in SAME_SCALE | ACTIVATIONS:
        return [node.input[0]]
    count = 2 if node.op_type in LAYERS else len(node.input)
    return [name for name in node.input[:count] if network.is_float(name)]


def _suits(network: Network, node: Any) -> bool:
    """Leave out what has no integer form: other types, and interpolation between pixels."""
    if not network.is_float(node.output[0]):
        return False
    if node.op_type == "Resize":
        modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
        return not modes or modes[0] == b"nearest"
    return True


def ranged_tensors(network: Network, layers: Collection[str]) -> list[str]:
    """Name the tensors whose ranges `quantize` needs for these layers, or for any part of them."""
    found: dict[str, None] = {}
    for name, node in network.nodes.items():
        if name in layers or node.op_type in SAME_SCALE | ARITHMETIC | ACTIVATIONS:
            for tensor in (*_data(network, node), *node.output):
                root = _root(network, tensor)
                if root in network.initializers or not network.is_float(root):
                    continue
                if _known_range(network, root) is None:
                    found[root] = None
    return list(found)


def _root(network: Network, tensor: str) -> str:
    """The tensor whose values these are, moved about."""
    while (node := network.producers.get(tensor)) is not None and node.op_type in SAME_SCALE:
        tensor = node.input[0]
    return tensor


def _known_range(network: Network, tensor: str) -> Range | None:
    """The range that an operator gives whatever comes in."""
    import onnx

    node = network.producers.get(tensor)
    if node is not None and node.op_type == "Sigmoid":
        return 0.0, 255 / 256
    if node is not None and node.op_type == "Cast":
        return (0.0, 255.0) if network.types.get(node.input[0]) == onnx.TensorProto.UINT8 else None
    return None


def quantize(network: Network, layers: Collection[str], ranges: Mapping[str, Range], scheme: Scheme) -> Any:
    """Write the model with some of its layers in 8 bits.

    Args:
        network: The float model; not changed.
        layers: Some of `network.layers`.
        ranges: Lowest and highest value of the tensors that `ranged_tensors` names.
        scheme: How.

    Returns:
        An `onnx.ModelProto`.
    """
    return _Writer(network, frozenset(layers), ranges, scheme).write()


class _Writer:
    def __init__(
        self, network: Network, layers: frozenset[str], ranges: Mapping[str, Range], scheme: Scheme
    ) -> None:
        self._network = network
        self._layers = layers
        self._integer = integer_nodes(network, layers)
        self._scheme = scheme
        self._ranges = ranges
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._dequantized: dict[str, str] = {}

    def write(self) -> Any:
        import onnx

        quantized = self._quantized_tensors()
        for value in self._network.model.graph.input:
            if value.name in quantized:
                self._pair(value.name, value.name)
        for node in self._network.model.graph.node:
            self._node(node, quantized)
        model = onnx.ModelProto()
        model.CopyFrom(self._network.model)
        del model.graph.node[:]
        model.graph.node.extend(self._nodes)
        del model.graph.value_info[:]
        used = {name for node in self._nodes for name in node.input} | self._network.outputs
        kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, *self._constants.values()])
        return model

    def _span(self, tensor: str) -> Range:
        """The range of a tensor; what only moves values has that of its input."""
        root = _root(self._network, tensor)
        return _known_range(self._network, root) or self._ranges[root]

    def _quantized_tensors(self) -> frozenset[str]:
        """What is stored in 8 bits: what integer nodes take, and what they give unless floats are wanted."""
        found: set[str] = set()
        for name in self._integer:
            node = self._network.nodes[name]
            found.update(
                each for each in _data(self._network, node) if each not in self._network.initializers
            )
            found.update(each for each in node.output if each and self._stored(node, each))
        # An activation is the saturation of what comes before it: nothing is stored in between.
        for name in self._integer:
            node = self._network.nodes[name]
            after = only_consumer(self._network, node.output[0], ACTIVATIONS)
            if after is not None and after.name in self._integer:
                found.discard(node.output[0])
        return frozenset(found)

    def _stored(self, node: Any, output: str) -> bool:
        if node.op_type in {"MatMul", "Gemm"}:  # their integer kernels can give floats, which is closer
            return any(taker.name in self._integer for taker in self._network.consumers.get(output, ()))
        return True

    def _node(self, node: Any, quantized: frozenset[str]) -> None:
        import onnx

        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            maker = self._network.producers.get(name)
            # What was calculated in float is taken as it is by those who calculate in float.
            if node.name in self._integer or (maker is not None and maker.name in self._integer):
                copy.input[index] = str(self._dequantized.get(name, name))
        if node.name in self._integer:
            self._constant_inputs(node, copy)
        elif node.op_type == "Add":
            self._bias_apart(node, copy)
        if node.output[0] in quantized and self._is_stored_already(node):
            self._dequantized[node.output[0]] = self._give_back(node.input[0], node.output[0])
            return
        self._nodes.append(copy)
        for index, name in enumerate(node.output):
            if name in quantized:
                if name in self._network.outputs:  # keeps its name, so the raw value gets another
                    copy.output[index] = f"{name}_float"
                    self._pair(f"{name}_float", name, result=name)
                else:
                    self._pair(name, name)

    def _bias_apart(self, node: Any, copy: Any) -> None:
        """Keep onnxruntime from making a float Gemm of an integer product and its bias.

        It does so for a bias of one axis, before it looks for integer kernels, and then finds none.
        """
        for index, name in enumerate(node.input):
            tensor = self._network.initializers.get(name)
            product = self._network.producers.get(node.input[1 - index])
            if tensor is None or len(tensor.dims) != 1 or product is None:
                continue
            if product.name in self._layers and self._network.ranks.get(node.output[0], 0) > 2:
                self._put(f"{name}_row", self._network.constant(name)[None, None])
                copy.input[index] = f"{name}_row"

    def _constant_inputs(self, node: Any, copy: Any) -> None:
        layer = node.name in self._layers
        if layer:
            copy.input[1] = self._weights(node)
            if len(node.input) > 2 and node.input[2] in self._network.initializers:
                copy.input[2] = self._bias(node)
        else:
            for index, name in enumerate(node.input):
                if name in self._network.initializers and name in _data(self._network, node):
                    copy.input[index] = self._constant(name)

    def _pair(self, tensor: str, name: str, result: str = "") -> None:
        """Store a tensor in 8 bits and give it back as float."""
        from onnx import helper

        scale, zero = self._affine_names(name)
        stored = f"{name}_quantized"
        self._nodes.append(
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [stored], f"{name}_quantize")
        )
        self._dequantized[name] = self._give_back(stored, name, result)

    def _give_back(self, stored: str, name: str, result: str = "") -> str:
        """Turn 8 bits into the floats they stand for; give the name of these."""
        from onnx import helper

        result = result or f"{name}_dequantized"
        scale, zero = self._affine_names(name)
        self._nodes.append(
            helper.make_node("DequantizeLinear", [stored, scale, zero], [result], f"{name}_dequantize")
        )
        return result

    def _is_stored_already(self, node: Any) -> bool:
        """Whether a tensor was made of 8 bit pixels, for integer nodes only: it need not be stored again."""
        takers = self._network.consumers.get(node.output[0], [])
        return (
            node.op_type == "Cast"
            and _known_range(self._network, node.output[0]) is not None
            and self._scheme.activation == "uint8"
            and node.output[0] not in self._network.outputs
            and all(taker.name in self._integer for taker in takers)
        )

    def _affine_names(self, name: str) -> tuple[str, str]:
        scale, zero = self._scheme.affine(self._span(name))
        self._put(f"{name}_scale", np.array(scale, np.float32))
        self._put(f"{name}_zero", np.array(zero, self._scheme.activation))
        return f"{name}_scale", f"{name}_zero"

    def _put(self, name: str, array: Array) -> None:
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(array, name)

    def _dequantize(self, name: str, stored: Array, scale: Array, zero: Array, axis: int | None) -> str:
        """Put a constant in, stored as integers, and give the name of its float form."""
        from onnx import helper

        result = f"{name}_dequantized"
        if f"{name}_quantized" not in self._constants:
            for suffix, array in (("quantized", stored), ("scale", scale), ("zero", zero)):
                self._put(f"{name}_{suffix}", array)
            options: dict[str, Any] = {} if axis is None else {"axis": axis}
            self._nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}_quantized", f"{name}_scale", f"{name}_zero"],
                    [result],
                    name=f"{name}_dequantize",
                    **options,
                )
            )
        return result

    def _weights(self, node: Any) -> str:
        name = node.input[1]
        values = self._network.constant(name)
        axis = channel_axis(node, values.ndim)
        stored, scale = quantized_weights(values, axis, 64 if self._scheme.reduce_range else 127)
        return self._dequantize(name, stored, scale, np.zeros(scale.shape, np.int8), axis)

    def _bias(self, node: Any) -> str:
        """A bias is added to the sum of products, so it has their scale (onnxruntime demands it)."""
        values = self._network.constant(node.input[2]).astype(np.float64)
        scale, _ = self._scheme.affine(self._span(node.input[0]))
        weights = self._network.constant(node.input[1])
        _, channels = quantized_weights(
            weights, channel_axis(node, weights.ndim), 64 if self._scheme.reduce_range else 127
        )
        product = (channels * scale).astype(np.float32)
        limit = 2**31 - 1
        stored = np.clip(np.rint(values / product), -limit, limit).astype(np.int32)
        # The same bias may be added to products of another scale elsewhere.
        return self._dequantize(f"{node.name}_bias", stored, product, np.zeros(product.shape, np.int32), 0)

    def _constant(self, name: str) -> str:
        values = self._network.constant(name)
        span = (float(values.min()), float(values.max()))
        scale, zero = self._scheme.affine(span)
        first, last = self._scheme.levels
        stored = np.clip(np.rint(values / scale) + zero, first, last).astype(self._scheme.activation)
        return self._dequantize(
            name, stored, np.array(scale, np.float32), np.array(zero, self._scheme.activation), None
        )


def channel_axis(node: Any, rank: int) -> int:
    """The axis of a layer's weights that has one entry for each output channel."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return rank - 1
