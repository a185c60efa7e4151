"""Ranges of a model's tensors over real inputs: what 8 bits have to cover.

Streams: of each tensor only its extremes and an even sample stay in memory. Quantizes nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from converters.quantize.onnx_graph import LARGEST, Network, save, weights_bytes
from converters.quantize.scheme import Range
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Tensors

Method: TypeAlias = Literal["minmax", "percentile", "entropy", "mse"]
Floats: TypeAlias = NDArray[np.float32]

KEPT = 4096
"""Values kept of a tensor from each input, evenly spread."""


@dataclass(slots=True)
class Seen:
    """What was seen of one tensor.

    Attributes:
        low: Lowest value.
        high: Highest value.
        sample: `(n,)` float32.
    """

    low: float
    high: float
    sample: Floats


def observe(
    network: Network, names: Sequence[str], batches: Iterable[Tensors], *, infinite: bool = False
) -> dict[str, Seen]:
    """Run the float model and look at tensors inside it.

    Args:
        network: The model.
        names: Float tensors.
        batches: Inputs, one run each.
        infinite: A value may be: a logarithm of 0 that a mask leaves out, or the mask itself.

    Raises:
        ConversionError: A value is not a number, or infinite where that may not be.
    """
    inside = [name for name in names if name in network.producers]
    session = open_session(with_outputs(network, inside))
    parts: dict[str, list[Floats]] = {name: [] for name in names}
    lows = dict.fromkeys(names, np.inf)
    highs = dict.fromkeys(names, -np.inf)
    for batch in batches:
        given = zip(inside, session.run(inside, dict(batch)), strict=True)
        for name, array in (*given, *((name, batch[name]) for name in names if name in batch)):
            flat = array.reshape(-1)
            if not flat.size:
                continue
            low, high = float(flat.min()), float(flat.max())
            if np.isnan((low, high)).any() or not (infinite or np.isfinite((low, high)).all()):
                raise _no_number(network, name)
            lows[name], highs[name] = min(lows[name], low), max(highs[name], high)
            step = max(1, flat.size // KEPT) | 1  # odd: an even one would see only some channels of NHWC
            parts[name].append(flat[::step].astype(np.float32))
    return {
        name: Seen(lows[name], highs[name], np.concatenate(parts[name]))
        if parts[name]
        else Seen(0.0, 0.0, np.zeros(1, np.float32))
        for name in names
    }


def open_session(model: Any, threads: int = 1) -> Any:
    """Open a model in memory in onnxruntime, on the CPU."""
    import onnxruntime

    vendor: Any = onnxruntime
    options = vendor.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if weights_bytes(model) < LARGEST:
        return vendor.InferenceSession(model.SerializeToString(), options, providers)
    with TemporaryDirectory() as folder:
        return vendor.InferenceSession(str(save(model, Path(folder))), options, providers)


def with_outputs(network: Network, names: Sequence[str]) -> Any:
    """Give a model further outputs: float tensors inside it."""
    import onnx
    from onnx import helper

    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in network.outputs
    )
    return model


def _no_number(network: Network, name: str) -> ConversionError:
    node = network.producers.get(name)
    return ConversionError(
        f"tensor '{name}' is not a number for one of the samples",
        do="Check the samples and the model in float first",
        operator=None if node is None else node.op_type,
        layer=None if node is None else node.name,
    )


def ranges(network: Network, seen: Mapping[str, Seen], method: Method) -> dict[str, Range]:
    """Choose the range of each tensor.

    Args:
        network: The model, for what becomes of a tensor.
        seen: Of `observe`.
        method: `minmax` takes all that was seen; `percentile` leaves 1 value of 10,000 outside on each side;
            `entropy` keeps the distribution most alike (Kullback-Leibler, as TensorRT does); `mse` makes the
            squared error least, after SiLU where that is what takes the tensor.
    """
    found: dict[str, Range] = {}
    for name, what in seen.items():
        silu = method == "mse" and feeds_silu(network, name)
        found[name] = _CHOOSE[method](what) if not silu else _least_error(what, _silu)
    return found


def feeds_silu(network: Network, name: str) -> bool:
    """Tell whether all that takes a tensor is x · sigmoid(x), which is blind to what is far below zero."""
    takers = network.consumers.get(name, [])
    kinds = sorted(node.op_type for node in takers)
    if kinds != ["Mul", "Sigmoid"] or name in network.outputs:
        return False
    multiply, gate = sorted(takers, key=lambda node: node.op_type)
    return gate.output[0] in multiply.input


def _minmax(seen: Seen) -> Range:
    return seen.low, seen.high


def _percentile(seen: Seen) -> Range:
    low, high = np.percentile(seen.sample, (_OUTSIDE, 100 - _OUTSIDE))
    return float(low), float(high)


_OUTSIDE = 0.01


def _silu(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return (values / (1 + np.exp(-values))).astype(np.float32)


def _same(values: Floats) -> Floats:
    return values


def _least_error(seen: Seen, after: Callable[[Floats], Floats] = _same) -> Range:
    """Try narrower ranges, either side by itself."""
    values = seen.sample[:: max(1, len(seen.sample) // _TRIED)]
    want = after(values)
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)

    def error(span: Range) -> float:
        scale = max((span[1] - span[0]) / 255, 1e-30)
        zero = np.rint(-span[0] / scale)
        stored = np.clip(np.rint(values / scale) + zero, 0, 255)
        difference = after(((stored - zero) * scale).astype(np.float32)) - want
        return float(np.dot(difference, difference))

    best = (low, high)
    for _ in range(2):
        best = min(((low * share, best[1]) for share in _SHARES), key=error)
        best = min(((best[0], high * share) for share in _SHARES), key=error)
    return best


def _entropy(seen: Seen) -> Range:
    """Keep the part of the histogram of magnitudes that 128 levels tell best.

    As S. Migacz, "8-bit inference with TensorRT", GTC 2017: what lies outside counts at the edge of the part
    that is kept; then it is merged into 128 levels and compared with itself by Kullback-Leibler divergence.
    Zeros do not count (so in NVIDIA's pytorch-quantization): after a ReLU they outweigh all that is cut off.
    """
    counts, edges = np.histogram(np.abs(seen.sample), _BINS, (0.0, max(abs(seen.low), abs(seen.high), 1e-30)))
    counts[0] = counts[1]
    best, least = _BINS, np.inf
    for kept in range(_LEVELS, _BINS + 1, _LEVELS // 8):
        part = counts[:kept].astype(np.float64)
        clipped = part.copy()
        clipped[-1] += counts[kept:].sum()
        starts = np.arange(_LEVELS) * kept // _LEVELS
        lengths = np.diff(np.append(starts, kept))
        filled = np.maximum(np.add.reduceat((part > 0).astype(np.float64), starts), 1)
        merged = np.repeat(np.add.reduceat(part, starts) / filled, lengths) * (part > 0)
        divergence = _divergence(clipped, merged)
        if divergence < least:
            best, least = kept, divergence
    edge = float(edges[best])
    return max(seen.low, -edge), min(seen.high, edge)


def _divergence(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Kullback-Leibler; where the other has nothing it gets next to nothing, as its logarithm is infinite."""
    p = own / max(own.sum(), 1e-30)
    q = np.maximum(other / max(other.sum(), 1e-30), 1e-9)
    here = p > 0
    return float(np.sum(p[here] * np.log(p[here] / q[here])))


_BINS = 2048
_LEVELS = 128
_TRIED = 1 << 16
_SHARES = tuple(float(share) for share in np.linspace(1.0, 0.1, 31))
_CHOOSE: Mapping[Method, Callable[[Seen], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _least_error,
}
