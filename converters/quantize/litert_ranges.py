"""Ranges of a TFLite model's tensors, measured on samples by the AI Edge Quantizer; mended for dead channels.

A bias is stored in units of input scale times weight scale, in 32 bits. Where training left a channel nearly
no weights, those units are so small that its bias overflows to a large negative one, and the quantizer lets
it: 27 layers of an EfficientNet-Lite0 have such channels. Quantizes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.quantize.litert_graph import Graph, Layer
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.engines.vendor import brief

_BIAS_LIMIT = 2.0**30
"""Half of what 32 bits hold: the input's scale may come out a little smaller than foreseen here."""
_WEIGHT_STEPS = 127
_LEAST = 1e-9
"""Of a range; as the quantizer has it."""


def measure(graph: Graph, rows: Sequence[Tensors], recipe: Sequence[Mapping[str, Any]], bits: int) -> Any:
    """Run the float model and note the range of every tensor.

    Args:
        graph: The model.
        rows: Its inputs, by the names of tensors.
        recipe: Names the tensors whose range is wanted.
        bits: Of activations.

    Returns:
        As the quantizer takes it: tensor -> `min` and `max`.

    Raises:
        ConversionError: The tool fails on an operator.
    """
    from ai_edge_quantizer import quantizer

    vendor: Any = quantizer
    given = [{graph.arguments[name]: array for name, array in row.items()} for row in rows]
    try:
        ranges = vendor.Quantizer(graph.content, list(recipe)).calibrate(
            {graph.signature: given}, num_threads=1
        )
    except Exception as error:
        raise ConversionError(
            f"AI Edge Quantizer cannot measure ranges: {brief(error)}", do="Leave this precision out"
        ) from error
    for layer in graph.details:
        if layer.bias is not None and layer.input in ranges:
            _widen(ranges, layer, layer.bias, bits)
    return ranges


def _widen(ranges: Any, layer: Layer, bias: Array, bits: int) -> None:
    """Give channels of nearly no weights a range wide enough for their bias; the weights become zero."""
    low, high = (float(np.asarray(ranges[layer.input][end]).reshape(-1)[0]) for end in ("min", "max"))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(max(-low, high) / 32767 if bits == 16 else (high - low) / 255, _LEAST)
    others = tuple(axis for axis in range(layer.weights.ndim) if axis != layer.channels)
    largest = np.abs(layer.weights).max(axis=others, keepdims=True).astype(np.float64)
    needed = np.abs(bias.astype(np.float64)) * _WEIGHT_STEPS / (scale * _BIAS_LIMIT)
    needed = needed.reshape(largest.shape)
    if (needed > largest).any():
        span = np.maximum(largest, needed).astype(np.float32)
        ranges[layer.weights_name] = {"min": -span, "max": span}
