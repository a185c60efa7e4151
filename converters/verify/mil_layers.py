"""MIL operations that are layers: convolution, pooling, normalisation, resizing, attention, stored numbers.

Definitions: Core ML Tools, "MIL Ops" reference. Called as those of `mil_math`. What a definition allows and
no test holds against a source framework is refused with a `ValueError`.
"""

# torch comes in as an argument, untyped on purpose: importing a table must not import it.
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from converters.verify.mil_math import ints

_Pads = list[tuple[int, int]]


def _each(told: Any, axes: int) -> Sequence[int]:
    """Give a number for each axis: 1 where nothing is told."""
    return [1] * axes if told is None else ints(told)


def _pads(
    pad_type: Any, pad: Any, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> _Pads:
    """Say what is added before and behind each axis."""
    match str(pad_type):
        case "valid":
            return [(0, 0)] * len(kernel)
        case "custom":
            sides = ints(pad)
            return [(sides[2 * axis], sides[2 * axis + 1]) for axis in range(len(kernel))]
        case "same" | "same_lower" as kind:
            made: _Pads = []
            for size, wide, stride in zip(sizes, kernel, strides, strict=True):
                total = max((-(-size // stride) - 1) * stride + wide - size, 0)
                less, more = total // 2, total - total // 2
                made.append((less, more) if kind == "same" else (more, less))
            return made
        case other:
            raise ValueError(f"pad_type {other} is not covered")


def _padded(torch: Any, x: Any, pads: _Pads, value: float = 0.0) -> Any:
    backwards = [side for pair in reversed(pads) for side in pair]
    return torch.nn.functional.pad(x, backwards, value=value) if any(backwards) else x


def _conv(
    torch: Any,
    x: Any,
    weight: Any,
    bias: Any = None,
    strides: Any = None,
    pad_type: Any = "valid",
    pad: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Any:
    axes = x.dim() - 2
    steps, spread = _each(strides, axes), _each(dilations, axes)
    wide = [(size - 1) * gap + 1 for size, gap in zip(weight.shape[2:], spread, strict=True)]
    x = _padded(torch, x, _pads(pad_type, pad, x.shape[2:], wide, steps))
    convolve = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[axes - 1]
    return convolve(x, weight, bias, stride=steps, dilation=spread, groups=int(groups))


def _conv_transpose(
    torch: Any,
    x: Any,
    weight: Any,
    bias: Any = None,
    pad: Any = None,
    output_shape: Any = None,
    pad_type: Any = "valid",
    strides: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Any:
    axes = x.dim() - 2
    steps, spread = _each(strides, axes), _each(dilations, axes)
    spell = "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"
    whole = getattr(torch.nn.functional, spell[axes - 1])(
        x, weight, bias, stride=steps, dilation=spread, groups=int(groups)
    )
    if str(pad_type) not in {"valid", "custom"}:
        raise ValueError(f"pad_type {pad_type} is not covered")
    pads = _pads(pad_type, pad, x.shape[2:], [1] * axes, steps)
    wanted = None if output_shape is None else ints(output_shape)[-axes:]
    for axis, (before, behind) in enumerate(pads):
        length = whole.shape[2 + axis] - before - behind if wanted is None else wanted[axis]
        missing = before + length - whole.shape[2 + axis]
        if missing > 0:
            raise ValueError("an output larger than what the input reaches is not covered")
        whole = whole.narrow(2 + axis, before, length)
    return whole


def _pool(name: str, empty: float) -> Callable[..., Any]:
    def pool(
        torch: Any,
        x: Any,
        kernel_sizes: Any,
        strides: Any = None,
        pad_type: Any = "valid",
        pad: Any = None,
        exclude_padding_from_average: Any = False,
        ceil_mode: Any = False,
    ) -> Any:
        kernel = ints(kernel_sizes)
        steps = _each(strides, len(kernel))
        pads = _pads(pad_type, pad, x.shape[2:], kernel, steps)
        run = getattr(torch.nn.functional, f"{name}_pool{len(kernel)}d")
        if ceil_mode and any(any(pair) for pair in pads) and name == "avg":
            raise ValueError("a padded average with ceil_mode is not covered")
        made = run(_padded(torch, x, pads, empty), kernel, steps, ceil_mode=bool(ceil_mode))
        if name == "avg" and exclude_padding_from_average and any(any(pair) for pair in pads):
            made = made / run(_padded(torch, torch.ones_like(x), pads), kernel, steps)
        return made

    return pool


def _along(x: Any, vector: Any) -> Any:
    return vector.reshape(1, -1, *([1] * (x.dim() - 2)))


def _batch_norm(
    torch: Any, x: Any, mean: Any, variance: Any, gamma: Any = None, beta: Any = None, epsilon: Any = 1e-5
) -> Any:
    made = (x - _along(x, mean)) * torch.rsqrt(_along(x, variance) + float(epsilon))
    made = made if gamma is None else made * _along(x, gamma)
    return made if beta is None else made + _along(x, beta)


def _instance_norm(torch: Any, x: Any, gamma: Any = None, beta: Any = None, epsilon: Any = 1e-5) -> Any:
    return torch.nn.functional.instance_norm(x, weight=gamma, bias=beta, eps=float(epsilon))


def _layer_norm(
    torch: Any, x: Any, axes: Any = None, gamma: Any = None, beta: Any = None, epsilon: Any = 1e-5
) -> Any:
    dims = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in ints(axes)]
    centred = x - x.mean(dims, keepdim=True)
    made = centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + float(epsilon))
    shape = [size if axis in dims else 1 for axis, size in enumerate(x.shape)]
    made = made if gamma is None else made * gamma.reshape(shape)
    return made if beta is None else made + beta.reshape(shape)


def _l2_norm(torch: Any, x: Any, epsilon: Any = 1e-6) -> Any:
    return x * torch.rsqrt((x * x).sum(dim=(-3, -2, -1), keepdim=True) + float(epsilon))


def _local_response_norm(
    torch: Any, x: Any, size: Any, alpha: Any = 1e-4, beta: Any = 0.75, k: Any = 1.0
) -> Any:
    return torch.nn.functional.local_response_norm(x, int(size), float(alpha), float(beta), float(k))


def _scaled(x: Any, height: Any, width: Any) -> list[int]:
    return [round(x.shape[-2] * float(height)), round(x.shape[-1] * float(width))]


def _upsample_nearest(torch: Any, x: Any, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Any:
    size = _scaled(x, scale_factor_height, scale_factor_width)
    return torch.nn.functional.interpolate(x, size=size, mode="nearest")


def _upsample_bilinear(
    torch: Any,
    x: Any,
    scale_factor_height: Any = 1,
    scale_factor_width: Any = 1,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Any:
    if half_pixel_centers is not None and bool(half_pixel_centers) == bool(align_corners):
        raise ValueError("bilinear upsampling with these corners is not covered")
    size = _scaled(x, scale_factor_height, scale_factor_width)
    return torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=bool(align_corners))


def _resize_nearest(torch: Any, x: Any, target_size_height: Any, target_size_width: Any) -> Any:
    size = [int(target_size_height), int(target_size_width)]
    return torch.nn.functional.interpolate(x, size=size, mode="nearest")


_CORNERS = {"STRICT_ALIGN_CORNERS": True, "ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}


def _resize_bilinear(
    torch: Any,
    x: Any,
    target_size_height: Any = 1,
    target_size_width: Any = 1,
    sampling_mode: Any = "DEFAULT",
) -> Any:
    if str(sampling_mode) not in _CORNERS:
        raise ValueError(f"sampling_mode {sampling_mode} is not covered")
    size = [int(target_size_height), int(target_size_width)]
    corners = _CORNERS[str(sampling_mode)]
    return torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=corners)


def _attention(torch: Any, query: Any, key: Any, value: Any, attn_mask: Any = None) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)


def _stored_along(torch: Any, vector: Any, x: Any, axis: Any) -> Any:
    tensor = torch.as_tensor(vector).float()
    if tensor.dim() == 0:
        return tensor
    shape = [1] * x.dim()
    shape[int(axis)] = -1
    return tensor.reshape(shape)


def _quantize(
    torch: Any,
    input: Any,  # noqa: A002  MIL calls it so
    scale: Any,
    output_dtype: Any,
    zero_point: Any = None,
    axis: Any = None,
) -> Any:
    low, high = (0, 255) if str(output_dtype) == "uint8" else (-128, 127)
    made = torch.round(input / _stored_along(torch, scale, input, axis))
    made = made if zero_point is None else made + _stored_along(torch, zero_point, input, axis)
    return torch.clamp(made, low, high)


def _dequantize(
    torch: Any,
    input: Any,  # noqa: A002  MIL calls it so
    scale: Any,
    zero_point: Any = None,
    axis: Any = None,
) -> Any:
    made = input.float()
    made = made if zero_point is None else made - _stored_along(torch, zero_point, input, axis)
    return made * _stored_along(torch, scale, input, axis)


def _crop(torch: Any, x: Any, crop_height: Any, crop_width: Any) -> Any:
    (top, bottom), (left, right) = ints(crop_height), ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


LAYERS: Mapping[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _pool("max", float("-inf")),
    "avg_pool": _pool("avg", 0.0),
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "l2_norm": _l2_norm,
    "local_response_norm": _local_response_norm,
    "upsample_nearest_neighbor": _upsample_nearest,
    "upsample_bilinear": _upsample_bilinear,
    "resize_nearest_neighbor": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "scaled_dot_product_attention": _attention,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "crop": _crop,
}
