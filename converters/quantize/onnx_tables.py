"""Large lookup tables of text models (word embeddings) in 8 bits, each row with a scale of its own.

Half of a small text encoder is its table of words; weight quantizers of matrix products leave it in float.
"""

from typing import Any

import numpy as np

from converters.quantize.onnx_graph import Network
from converters.quantize.scheme import quantized_weights

LARGE = 1 << 18
"""Numbers in a table below which a saved megabyte is not worth three more operators."""


def shrink_tables(network: Network) -> tuple[Any, int]:
    """Store the tables that Gather looks rows up in as int8.

    A looked-up row is cast and multiplied by its scale: standard operators that every engine has.

    Args:
        network: The model; not changed.

    Returns:
        An `onnx.ModelProto`, and how many tables became small.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    nodes: list[Any] = []
    small: set[str] = set()
    for node in model.graph.node:
        if _is_lookup(network, node):
            small.add(node.input[0])
            nodes += _lookup(node)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name in sorted(small):
        _store(network, model, name, {taken for node in nodes for taken in node.input})
    return model, len(small)


def _is_lookup(network: Network, node: Any) -> bool:
    if node.op_type != "Gather" or any(
        attribute.name == "axis" and attribute.i for attribute in node.attribute
    ):
        return False
    table = network.initializers.get(node.input[0])
    return (
        table is not None
        and len(table.dims) == 2
        and int(np.prod(table.dims, dtype=np.int64)) >= LARGE
        and network.is_float(table.name)
    )


def _lookup(node: Any) -> list[Any]:
    from onnx import TensorProto, helper

    table, result = node.input[0], node.output[0]
    return [
        helper.make_node("Gather", [f"{table}_quantized", node.input[1]], [f"{result}_stored"], node.name),
        helper.make_node(
            "Gather", [f"{table}_scale", node.input[1]], [f"{result}_scale"], f"{node.name}_scale"
        ),
        helper.make_node(
            "Cast", [f"{result}_stored"], [f"{result}_float"], f"{node.name}_cast", to=TensorProto.FLOAT
        ),
        helper.make_node("Mul", [f"{result}_float", f"{result}_scale"], [result], f"{node.name}_scaled"),
    ]


def _store(network: Network, model: Any, name: str, used: set[str]) -> None:
    from onnx import numpy_helper

    stored, scale = quantized_weights(network.constant(name), 0, 127)
    if name not in used:
        kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(stored, f"{name}_quantized"),
            numpy_helper.from_array(scale.reshape(-1, 1), f"{name}_scale"),
        ]
    )
