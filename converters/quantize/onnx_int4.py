"""int4: weights of matrix products in blocks of 4 bits; 8 where the accuracy budget wants it. For text.

With samples the rounding is GPTQ's, and the layers that disturb the task's answers most get 8 bits until the
budget holds. The operator is onnxruntime's own (`com.microsoft.MatMulNBits`), so the file runs nowhere else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from converters.quantize.gptq import Blocks, round_blocks
from converters.quantize.onnx_dynamic import require_products
from converters.quantize.onnx_graph import Network, open_network, save
from converters.quantize.onnx_ranges import open_session, with_outputs
from converters.quantize.onnx_static import judged
from converters.quantize.onnx_subject import Subject, open_subject, tools
from converters.quantize.onnx_tables import shrink_tables
from converters.quantize.search import fewest
from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError

_BLOCK = 32
_BLOCKS = (16, 32, 64, 128, 256)
"""What onnxruntime has kernels for."""
_INT8 = 4
"""accuracy_level: activations become int8 for the product (onnxruntime, contrib operators, MatMulNBits)."""
_DROP = 0.01
_SAMPLES = 8

Inputs = Mapping[str, NDArray[np.float64]]
"""Name of a tensor -> sum of x xᵀ over its rows."""


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Quantize the weights of a text model's matrix products to 4 bits, its lookup tables to 8.

    Args:
        inputs: `model` (folder); `samples` (folder) and `tokenizer` (file), without which nothing is judged.
        out: Gets `model.onnx`.
        options: `block` (32): weights that share a scale; with samples `task`, `calibration` and
            `accuracy_drop` (0.01), as for `onnx_mixed.convert`.
        tell: Progress.

    Returns:
        Facts; `layers` says for each its error alone and its precision.

    Raises:
        ConversionError: The model has no matrix product with weights, or there is no such block size.
    """
    block = int(str(options.get("block", _BLOCK)))
    if block not in _BLOCKS:
        raise ConversionError("option 'block'", expected=f"one of {_BLOCKS}", got=str(block))
    tell(0.0, "reading the model")
    facts: Facts = {"tools": tools(), "block": block}
    if "samples" in inputs:
        subject = open_subject(inputs, options)
        require_products(subject.network, "int8 or fp16")
        budget = float(str(options.get("accuracy_drop", _DROP)))
        model, more = _within(subject, block, budget, tell)
        facts |= {"warnings": list[JsonValue](subject.warnings), **more}
    else:
        network = open_network(inputs["model"])
        require_products(network, "int8 or fp16")
        bits = dict.fromkeys(products(network), 4)
        model = write(network, bits, {}, block)
        facts |= {
            "warnings": ["no samples: weights are rounded to the nearest, and nobody judged the answers"]
        }
    tell(0.95, "writing")
    model, facts["tables"] = shrink_tables(Network(model))
    save(model, out)
    tell(1.0, "done")
    return facts


def products(network: Network) -> list[str]:
    """Name the matrix products that have a 4 bit form."""
    return [
        layer
        for layer in network.layers
        if network.nodes[layer].op_type == "MatMul"
        and len(network.initializers[network.nodes[layer].input[1]].dims) == 2
    ]


def _within(subject: Subject, block: int, budget: float, tell: Tell) -> tuple[Any, Facts]:
    """Give layers 8 bits, most sensitive first, until the budget holds."""
    network, layers = subject.network, products(subject.network)
    tell(0.2, "rounding weights")
    seen = _inputs(subject, layers)
    rounded: dict[tuple[str, int], Blocks] = {}
    for layer in layers:
        node = network.nodes[layer]
        for bits in (4, 8):
            rounded[layer, bits] = round_blocks(
                network.constant(node.input[1]), block, bits, seen[node.input[0]]
            )

    def candidate(bits: Mapping[str, int]) -> Any:
        return write(network, bits, {layer: rounded[layer, count] for layer, count in bits.items()}, block)

    errors: dict[str, float] = {}
    for index, layer in enumerate(layers):
        tell(0.4 + 0.4 * index / len(layers), f"sensitivity of {layer}")
        errors[layer] = subject.verdict(candidate({layer: 4}), _SAMPLES).error
    order = sorted(layers, key=lambda layer: (-errors[layer], network.weight_count(layer), layer))

    def mix(finer: int) -> dict[str, int]:
        return {layer: 8 if order.index(layer) < finer else 4 for layer in layers}

    def good(finer: int) -> bool:
        tell(0.85, f"{finer} of {len(order)} layers in 8 bits")
        return subject.verdict(candidate(mix(finer))).loss <= budget

    bits = mix(fewest(len(order), good))
    model = candidate(bits)
    return model, {
        "judged": judged(subject.verdict(model)),
        "layers": [
            {"name": layer, "error": errors[layer], "precision": f"int{bits[layer]}"} for layer in layers
        ],
    }


def _inputs(subject: Subject, layers: list[str]) -> Inputs:
    """Look at what the layers are given."""
    names = list(dict.fromkeys(subject.network.nodes[layer].input[0] for layer in layers))
    session = open_session(with_outputs(subject.network, names))
    sums: dict[str, NDArray[np.float64]] = {}
    for sample in subject.calibration:
        for name, array in zip(names, session.run(names, dict(sample.tensors)), strict=True):
            rows = array.reshape(-1, array.shape[-1])
            sums[name] = sums.get(name, 0) + (rows.T @ rows).astype(np.float64)
    return sums


def write(network: Network, bits: Mapping[str, int], rounded: Mapping[str, Blocks], block: int) -> Any:
    """Write matrix products as MatMulNBits.

    Args:
        network: The float model; not changed.
        bits: Layers to write, and how many bits their weights get.
        rounded: Their weights; those missing are rounded to the nearest.
        block: Weights that share a scale and a zero point.

    Returns:
        An `onnx.ModelProto`.
    """
    import onnx
    from onnx import helper

    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    nodes: list[Any] = []
    stored: list[Any] = []
    for node in model.graph.node:
        if node.name not in bits:
            nodes.append(node)
            continue
        weights = network.constant(node.input[1])
        blocks = rounded.get(node.name) or round_blocks(weights, block, bits[node.name])
        names = [f"{node.name}_{part}" for part in ("weights", "scales", "zeros")]
        stored += _tensors(blocks, names, block, bits[node.name])
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                [node.input[0], *names],
                [node.output[0]],
                node.name,
                domain="com.microsoft",
                K=weights.shape[0],
                N=weights.shape[1],
                bits=bits[node.name],
                block_size=block,
                accuracy_level=_INT8,
            )
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | network.outputs
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *stored])
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def _tensors(blocks: Blocks, names: list[str], block: int, bits: int) -> list[Any]:
    """Lay weights out for the operator: (outputs, blocks, bytes), the lower half of a byte first."""
    from onnx import numpy_helper

    count, outputs = blocks.codes.shape
    padded = np.repeat(blocks.zeros, block, axis=0)  # zero weights where the last block is not full
    padded[:count] = blocks.codes
    codes = padded.T.reshape(outputs, len(blocks.zeros), block)
    zeros = np.ascontiguousarray(blocks.zeros.T)
    if bits == 4:
        codes = codes[..., ::2] | codes[..., 1::2] << 4
        zeros = np.pad(zeros, ((0, 0), (0, zeros.shape[1] % 2)))
        zeros = zeros[:, ::2] | zeros[:, 1::2] << 4
    arrays = (codes, blocks.scales.T, zeros)
    return [
        numpy_helper.from_array(np.ascontiguousarray(array), name)
        for name, array in zip(names, arrays, strict=True)
    ]
