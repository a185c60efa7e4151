"""Layers of ONNX in torch: convolutions, pooling, normalisation, activations, resizing, padding.

Table `HANDLERS`; arithmetic, shapes and the rest are in `onnx_torch_ops`. Rules are those of the operator
documentation of ONNX.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from converters.export.onnx_torch_operands import Handler, Inputs, Operands, Outputs, Tensor, as_tensor
from edge_runtime.contract.tensors import Array

_CONVOLUTIONS: Mapping[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: Mapping[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX_POOLS: Mapping[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN_POOLS: Mapping[int, Any] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


class _Window:
    """Kernel, strides, dilations and padding of a sliding window, begin and end of each spatial axis."""

    def __init__(self, o: Operands, kernel: Sequence[int]) -> None:
        axes = len(kernel)
        self.kernel = list(kernel)
        self.strides: list[int] = list(o.attribute("strides") or [1] * axes)
        self.dilations: list[int] = list(o.attribute("dilations") or [1] * axes)
        pads: list[int] = list(o.attribute("pads") or [0] * 2 * axes)
        auto = o.attribute("auto_pad", "NOTSET")
        if auto in {"SAME_UPPER", "SAME_LOWER"}:
            pads = self._same(o.shapes[0][2:], lower=auto == "SAME_LOWER")
        self.begin, self.end = pads[:axes], pads[axes:]

    def _same(self, lengths: Sequence[int], *, lower: bool) -> list[int]:
        window = zip(lengths, self.kernel, self.strides, self.dilations, strict=True)
        totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in window]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return large + small if lower else small + large

    @property
    def symmetric(self) -> bool:
        return self.begin == self.end

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """Pad by hand what the layer itself cannot."""
        return functional.pad(x, _torch_pads(self.begin, self.end), value=value)


def _torch_pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Bring pads into torch's order, the last axis first."""
    return [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]


def _convolution(o: Operands, x: Inputs) -> Outputs:
    window = _Window(o, o.shapes[1][2:])
    value, padding = x[0], window.begin
    if not window.symmetric:
        value, padding = window.pad(value), [0] * len(window.kernel)
    run = _CONVOLUTIONS[len(window.kernel)]
    return run(value, x[1], x.get(2), window.strides, padding, window.dilations, o.attribute("group", 1))


def _transposed_convolution(o: Operands, x: Inputs) -> Outputs:
    window = _Window(o, o.shapes[1][2:])
    if o.attribute("output_shape") or o.attribute("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        raise o.failure("output_shape and auto_pad are not supported")
    axes = len(window.kernel)
    extra = list(o.attribute("output_padding") or [0] * axes)
    padding = window.begin if window.symmetric else [0] * axes
    run = _TRANSPOSED[axes]
    group = o.attribute("group", 1)
    value: Tensor = run(x[0], x[1], x.get(2), window.strides, padding, extra, group, window.dilations)
    if window.symmetric:
        return value
    cut = zip(window.begin, window.end, value.shape[2:], strict=True)
    return value[(slice(None), slice(None), *(slice(b, int(n) - e) for b, e, n in cut))]


def _max_pool(o: Operands, x: Inputs) -> Outputs:
    if o.outputs > 1:
        raise o.failure("the indices of the largest are not supported")
    window = _Window(o, o.attribute("kernel_shape"))
    value, padding = x[0], window.begin
    if not window.symmetric or any(2 * p > k for p, k in zip(padding, window.kernel, strict=True)):
        value = window.pad(value, torch.finfo(torch.float32).min)
        padding = [0] * len(window.kernel)
    ceil = bool(o.attribute("ceil_mode", 0))
    return _MAX_POOLS[len(window.kernel)](
        value, window.kernel, window.strides, padding, window.dilations, ceil_mode=ceil
    )


def _mean_pool(o: Operands, x: Inputs) -> Outputs:
    window = _Window(o, o.attribute("kernel_shape"))
    if any(d != 1 for d in window.dilations):
        raise o.failure("dilations are not supported")
    pool = _MEAN_POOLS[len(window.kernel)]
    ceil, padded = bool(o.attribute("ceil_mode", 0)), bool(o.attribute("count_include_pad", 0))
    if window.symmetric and all(2 * p <= k for p, k in zip(window.begin, window.kernel, strict=True)):
        return pool(x[0], window.kernel, window.strides, window.begin, ceil, padded)
    mean: Tensor = pool(window.pad(x[0]), window.kernel, window.strides, 0, ceil, True)
    if padded:
        return mean
    share: Tensor = pool(
        window.pad(torch.ones(1, 1, *o.shapes[0][2:])), window.kernel, window.strides, 0, ceil, True
    )
    return mean / share


def _global_mean(o: Operands, x: Inputs) -> Outputs:
    return x[0].mean(dim=list(range(2, len(o.shapes[0]))), keepdim=True)


def _global_max(o: Operands, x: Inputs) -> Outputs:
    return x[0].amax(dim=list(range(2, len(o.shapes[0]))), keepdim=True)


def _batch_norm(o: Operands, x: Inputs) -> Outputs:
    if o.attribute("training_mode", 0):
        raise o.failure("it is in training mode", do="Export the model in evaluation mode")
    epsilon = o.attribute("epsilon", 1e-5)
    return functional.batch_norm(x[0], x[3], x[4], x[1], x[2], training=False, eps=epsilon)


def _instance_norm(o: Operands, x: Inputs) -> Outputs:
    return functional.instance_norm(x[0], weight=x[1], bias=x[2], eps=o.attribute("epsilon", 1e-5))


def _layer_norm(o: Operands, x: Inputs) -> Outputs:
    if o.outputs > 1:
        raise o.failure("mean and deviation as outputs are not supported")
    axis = o.attribute("axis", -1)
    lengths = list(o.shapes[0][axis:])
    epsilon = o.attribute("epsilon", 1e-5)
    if list(o.shapes[1]) == lengths:
        return functional.layer_norm(x[0], lengths, x[1], x.get(2), epsilon)
    value, bias = functional.layer_norm(x[0], lengths, eps=epsilon) * x[1], x.get(2)
    return value if bias is None else value + bias


def _group_norm(o: Operands, x: Inputs) -> Outputs:
    groups, channels = o.attribute("num_groups"), o.shapes[0][1]
    scale, bias = x[1], x[2]
    if o.shapes[1][0] == groups != channels:  # until opset 21 one value a group
        scale, bias = (each.repeat_interleave(channels // groups) for each in (scale, bias))
    return functional.group_norm(x[0], groups, scale, bias, o.attribute("epsilon", 1e-5))


def _lp_norm(o: Operands, x: Inputs) -> Outputs:
    return functional.normalize(x[0], p=float(o.attribute("p", 2)), dim=o.attribute("axis", -1), eps=0.0)


def _local_response(o: Operands, x: Inputs) -> Outputs:
    size = o.attribute("size")
    alpha, beta, bias = o.attribute("alpha", 1e-4), o.attribute("beta", 0.75), o.attribute("bias", 1.0)
    return functional.local_response_norm(x[0], size, alpha, beta, bias)


def _leaky_relu(o: Operands, x: Inputs) -> Outputs:
    return functional.leaky_relu(x[0], o.attribute("alpha", 0.01))


def _prelu(o: Operands, x: Inputs) -> Outputs:
    slope, shape = x[1], o.shapes[1]
    channels = o.shapes[0][1] if len(o.shapes[0]) > 1 else 1
    if prod(shape) == 1 or (
        prod(shape) == channels and len(shape) in {len(o.shapes[0]) - 1, len(o.shapes[0])}
    ):
        return functional.prelu(x[0], slope.reshape(-1))
    return functional.relu(x[0]) - slope * functional.relu(-x[0])


def _elu(o: Operands, x: Inputs) -> Outputs:
    return functional.elu(x[0], o.attribute("alpha", 1.0))


def _selu(o: Operands, x: Inputs) -> Outputs:
    alpha = o.attribute("alpha", 1.6732632423543772)
    return functional.elu(x[0], alpha) * o.attribute("gamma", 1.0507009873554805)


def _celu(o: Operands, x: Inputs) -> Outputs:
    return functional.celu(x[0], o.attribute("alpha", 1.0))


def _hard_sigmoid(o: Operands, x: Inputs) -> Outputs:
    return torch.clamp(x[0] * o.attribute("alpha", 0.2) + o.attribute("beta", 0.5), 0.0, 1.0)


def _gelu(o: Operands, x: Inputs) -> Outputs:
    return functional.gelu(x[0], approximate=o.attribute("approximate", "none"))


def _gemm(o: Operands, x: Inputs) -> Outputs:
    first = x[0].t() if o.attribute("transA", 0) else x[0]
    alpha, beta, bias = o.attribute("alpha", 1.0), o.attribute("beta", 1.0), x.get(2)
    if o.attribute("transB", 0) and alpha == 1 and (bias is None or (beta == 1 and len(o.shapes[2]) == 1)):
        return functional.linear(first, x[1], bias)
    value = first @ (x[1].t() if o.attribute("transB", 0) else x[1])
    value = value if alpha == 1 else value * alpha
    return value if bias is None else value + (bias if beta == 1 else bias * beta)


def _pad(o: Operands, x: Inputs) -> Outputs:
    pads = list(o.numbers(1) or [])
    rank = len(o.shapes[0])
    axes = [axis % rank for axis in (o.numbers(3) or range(rank))]
    begin, end = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        begin[axis], end[axis] = pads[index], pads[index + len(axes)]
    mode = o.attribute("mode", "constant")
    if mode == "constant":
        filling = o.known(2)
        value = 0.0 if filling is None else float(filling.reshape(-1)[0])
        return functional.pad(x[0], _torch_pads(begin, end), value=value)
    if mode not in {"reflect", "edge"} or any(begin[:2] + end[:2]):
        raise o.failure(f"mode '{mode}' is supported for spatial axes, as 'reflect' or 'edge'")
    return functional.pad(
        x[0], _torch_pads(begin[2:], end[2:]), mode="replicate" if mode == "edge" else "reflect"
    )


def _resize(o: Operands, x: Inputs) -> Outputs:
    """Resize as torch does where that is the same, otherwise by one matrix an axis, which is exact always."""
    have = list(o.shapes[0])
    want = _wanted_size(o, have)
    mode, spots = o.attribute("mode", "nearest"), o.attribute("coordinate_transformation_mode", "half_pixel")
    plain = have[:2] == want[:2] and len(have) == 4 and not o.attribute("antialias", 0)
    known_spots = spots in {"half_pixel", "pytorch_half_pixel", "align_corners"} and min(want[2:]) > 1
    if plain and mode == "linear" and known_spots and _whole_scales(o, have, want):
        return functional.interpolate(x[0], want[2:], mode="bilinear", align_corners=spots == "align_corners")
    value = x[0]
    maps = {axis: _matrix(o, axis, want[axis]) for axis in range(len(have)) if have[axis] != want[axis]}
    if plain and mode == "nearest" and all(_as_torch(m) for m in maps.values()):
        return functional.interpolate(value, want[2:], mode="nearest")
    for axis, matrix in maps.items():
        if mode == "nearest":
            value = value.index_select(axis, as_tensor(matrix.argmax(axis=1)))
        else:
            value = (value.transpose(axis, -1) @ as_tensor(matrix.T.copy())).transpose(axis, -1)
    return value


def _wanted_size(o: Operands, have: Sequence[int]) -> list[int]:
    if o.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise o.failure("keep_aspect_ratio_policy is not supported")
    axes = o.attribute("axes") or range(len(have))
    sizes, scales, want = o.numbers(3), o.known(2), list(have)
    if not sizes and (scales is None or not scales.size):
        raise o.failure("its size depends on the input's content", expected="fixed shapes")
    for index, axis in enumerate(axes):
        want[axis] = sizes[index] if sizes else int(have[axis] * float(np.asarray(scales)[index]))
    return want


def _whole_scales(o: Operands, have: Sequence[int], want: Sequence[int]) -> bool:
    """Torch takes the ratio of the sizes; an operator's own scales may differ from it by rounding."""
    scales = o.known(2)
    if o.numbers(3) or scales is None or o.attribute("coordinate_transformation_mode") == "align_corners":
        return True
    return np.allclose(scales, np.array(want) / np.array(have), rtol=1e-6)


def _matrix(o: Operands, axis: int, length: int) -> Array:
    """Give what each place of the result takes of each place of the input: (length, input length)."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    have = o.shapes[0][axis]
    scales = o.known(2)
    named = {key: o.attribute(key) for key in _RESIZE_RULES if o.attribute(key) is not None}
    by_scale = scales is not None and scales.size and not o.numbers(3)
    node = helper.make_node(
        "Resize", ["x", "", "s" if by_scale else "", "" if by_scale else "n"], ["y"], **named
    )
    if by_scale:
        position = list(o.attribute("axes") or range(len(o.shapes[0]))).index(axis)
        feeds: dict[str, Array] = {"s": np.array([1, np.asarray(scales)[position]], np.float32)}
    else:
        feeds = {"n": np.array([have, length], np.int64)}
    evaluator = ReferenceEvaluator(node, opsets={"": max(o.opset, 13)})
    result: Any = evaluator.run(None, {"x": np.eye(have, dtype=np.float32)} | feeds)
    return np.asarray(result[0]).T.astype(np.float32)


_RESIZE_RULES = (
    "antialias",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "mode",
    "nearest_mode",
)


def _as_torch(matrix: Array) -> bool:
    """Tell whether torch's nearest neighbour, `floor(i * have / want)`, takes the same places."""
    want, have = matrix.shape
    return matrix.argmax(axis=1).tolist() == [place * have // want for place in range(want)]


HANDLERS: Mapping[str, Handler] = {
    "AveragePool": _mean_pool,
    "BatchNormalization": _batch_norm,
    "Celu": _celu,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Elu": _elu,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_mean,
    "GlobalMaxPool": _global_max,
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "LpNormalization": _lp_norm,
    "MaxPool": _max_pool,
    "PRelu": _prelu,
    "Pad": _pad,
    "Resize": _resize,
    "Selu": _selu,
}
