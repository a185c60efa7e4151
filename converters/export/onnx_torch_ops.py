"""Operators of ONNX in torch that are no layers: arithmetic, comparison, shapes, reductions, selection.

Table `HANDLERS`. Rules are those of the ONNX operator documentation, from opset 13 on.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from converters.export.onnx_torch_operands import (
    Handler,
    Inputs,
    Operands,
    Outputs,
    Tensor,
    as_tensor,
    dtype_of,
)


def _unary(function: Callable[[Tensor], Tensor]) -> Handler:
    return lambda o, x: function(x[0])


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    return lambda o, x: function(x[0], x[1])


def _any_number(function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    return lambda o, x: reduce(function, x.all())


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _modulo(o: Operands, x: Inputs) -> Outputs:
    return torch.fmod(x[0], x[1]) if o.attribute("fmod", 0) else torch.remainder(x[0], x[1])


def _mean(o: Operands, x: Inputs) -> Outputs:
    return reduce(torch.add, x.all()) / len(x)


def _clip(o: Operands, x: Inputs) -> Outputs:
    value = x[0]
    for index, bound, known_bound in ((1, torch.maximum, "min"), (2, torch.minimum, "max")):
        limit = o.known(index)
        if limit is not None:
            value = torch.clamp(value, **{known_bound: limit.reshape(-1)[0].item()})
        elif (tensor := x.get(index)) is not None:
            value = bound(value, tensor)
    return value


def _cast(o: Operands, x: Inputs) -> Outputs:
    return x[0].to(dtype_of(o.attribute("to")))


def _softmax(o: Operands, x: Inputs) -> Outputs:
    return torch.softmax(x[0], o.attribute("axis", -1))


def _log_softmax(o: Operands, x: Inputs) -> Outputs:
    return torch.log_softmax(x[0], o.attribute("axis", -1))


def _einsum(o: Operands, x: Inputs) -> Outputs:
    return torch.einsum(o.attribute("equation"), *x.all())


def _reshape(o: Operands, x: Inputs) -> Outputs:
    want, have = o.numbers(1) or [], o.shapes[0]
    if not o.attribute("allowzero", 0):
        want = [have[axis] if length == 0 else length for axis, length in enumerate(want)]
    return x[0].reshape(_without_minus_one(want, have))


def _without_minus_one(want: list[int], have: tuple[int, ...]) -> list[int]:
    """Say a shape in full: exporters of fixed shapes trace nothing then."""
    known = prod(length for length in want if length != -1)
    return [prod(have) // known if length == -1 and known else length for length in want]


def _flatten(o: Operands, x: Inputs) -> Outputs:
    have, axis = o.shapes[0], o.attribute("axis", 1)
    axis = axis + len(have) if axis < 0 else axis
    return x[0].reshape(prod(have[:axis]), prod(have[axis:]))


def _squeeze(o: Operands, x: Inputs) -> Outputs:
    have, axes = o.shapes[0], o.numbers(1)
    gone = (
        {axis % len(have) for axis in axes} if axes is not None else {i for i, n in enumerate(have) if n == 1}
    )
    return x[0].reshape([length for axis, length in enumerate(have) if axis not in gone])


def _unsqueeze(o: Operands, x: Inputs) -> Outputs:
    axes = o.numbers(1) or []
    rank = len(o.shapes[0]) + len(axes)
    new = {axis % rank for axis in axes}
    old = iter(o.shapes[0])
    return x[0].reshape([1 if axis in new else next(old) for axis in range(rank)])


def _transpose(o: Operands, x: Inputs) -> Outputs:
    order = o.attribute("perm")
    return x[0].permute(list(reversed(range(len(o.shapes[0])))) if order is None else list(order))


def _concat(o: Operands, x: Inputs) -> Outputs:
    return torch.cat(x.all(), dim=o.attribute("axis"))


def _split(o: Operands, x: Inputs) -> Outputs:
    axis, sizes = int(o.attribute("axis", 0)), o.numbers(1)
    if sizes is None:
        length, parts = o.shapes[0][axis], int(o.attribute("num_outputs", o.outputs))
        each = -(-length // parts)
        sizes = [min(each, length - start) for start in range(0, length, each)]
    return tuple(torch.split(x[0], sizes, dim=axis))


def _slice(o: Operands, x: Inputs) -> Outputs:
    starts, ends = o.numbers(1) or [], o.numbers(2) or []
    axes = o.numbers(3) or list(range(len(starts)))
    steps = o.numbers(4) or [1] * len(starts)
    value, have = x[0], o.shapes[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = range(have[axis])[_limits(start, end, step)]
        if step == 1:
            value = value.narrow(axis, places.start, len(places))
        elif step > 1:
            index = [slice(None)] * len(have)
            index[axis] = slice(places.start, places.stop, step)
            value = value[tuple(index)]
        else:
            value = value.index_select(axis, as_tensor(np.array(places, np.int64)))
    return value


def _limits(start: int, end: int, step: int) -> slice:
    """Say a range as Python does: backwards, ONNX means "from before the first" by a large negative end."""
    return slice(start, None if step < 0 and end < -(2**30) else end, step)


def _expand(o: Operands, x: Inputs) -> Outputs:
    return x[0].expand(np.broadcast_shapes(o.shapes[0], tuple(o.numbers(1) or [])))


def _tile(o: Operands, x: Inputs) -> Outputs:
    return x[0].repeat(o.numbers(1) or [])


def _gather(o: Operands, x: Inputs) -> Outputs:
    axis, have = int(o.attribute("axis", 0)), o.shapes[0]
    axis = axis + len(have) if axis < 0 else axis
    known = o.known(1)
    if known is not None and known.ndim == 0:
        return x[0].select(axis, int(known) % have[axis])
    if known is not None:
        places = (known.astype(np.int64) % have[axis]).reshape(-1).tolist()
        if known.ndim == 1 and places == list(range(have[axis]))[::-1]:
            return x[0].flip(axis)  # the colours of a picture turned round: cheaper than picking them
        index = as_tensor(np.array(places, np.int64))
    else:  # calculated indices count from the front: those of a table of words, of TopK, of ArgMax
        index = x[1].long()
        if axis == 0 and len(have) == 2:
            return functional.embedding(index, x[0])
        index = index.reshape(-1)
    shape = (*have[:axis], *o.shapes[1], *have[axis + 1 :])
    return _pick(x[0], axis, index).reshape(shape)


def _pick(value: Tensor, axis: int, index: Tensor) -> Tensor:
    """Select along an axis; truth values as numbers, for Core ML picks no others."""
    if value.dtype is torch.bool:
        return value.to(torch.int32).index_select(axis, index).to(torch.bool)
    return value.index_select(axis, index)


def _gather_elements(o: Operands, x: Inputs) -> Outputs:
    return torch.gather(x[0], o.attribute("axis", 0), x[1].long())


def _gather_nd(o: Operands, x: Inputs) -> Outputs:
    if o.attribute("batch_dims", 0):
        raise o.failure("batch_dims are not supported")
    have, depth = o.shapes[0], o.shapes[1][-1]
    steps = [prod(have[axis + 1 : depth]) for axis in range(depth)]
    flat = x[0].reshape(prod(have[:depth]), *have[depth:])
    index = (x[1].long() * as_tensor(np.array(steps, np.int64))).sum(dim=-1)
    return _pick(flat, 0, index.reshape(-1)).reshape(*o.shapes[1][:-1], *have[depth:])


def _scatter_elements(o: Operands, x: Inputs) -> Outputs:
    if o.attribute("reduction", "none") != "none":
        raise o.failure("a reduction is not supported")
    return torch.scatter(x[0], o.attribute("axis", 0), x[1].long(), x[2])


def _depth_to_space(o: Operands, x: Inputs) -> Outputs:
    block, channels = int(o.attribute("blocksize")), o.shapes[0][1]
    value = x[0]
    if o.attribute("mode", "DCR") == "DCR":  # torch has the block's place innermost among the channels
        order = np.arange(channels).reshape(block * block, -1).T.reshape(-1)
        value = value.index_select(1, as_tensor(order))
    return functional.pixel_shuffle(value, block)


def _space_to_depth(o: Operands, x: Inputs) -> Outputs:
    block, channels = int(o.attribute("blocksize")), o.shapes[0][1]
    order = np.arange(channels * block * block).reshape(channels, -1).T.reshape(-1)
    return functional.pixel_unshuffle(x[0], block).index_select(1, as_tensor(order))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Handler:
    def run(o: Operands, x: Inputs) -> Outputs:
        axes = o.attribute("axes") or o.numbers(1)
        if not axes and o.attribute("noop_with_empty_axes", 0):
            return x[0]
        every = list(axes or range(len(o.shapes[0])))
        return function(x[0], every, bool(o.attribute("keepdims", 1)))

    return run


def _product(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % value.ndim for axis in axes), reverse=True):
        value = value.prod(dim=axis, keepdim=keep)
    return value


def _index_of_best(function: Any) -> Handler:
    def run(o: Operands, x: Inputs) -> Outputs:
        if o.attribute("select_last_index", 0):
            raise o.failure("select_last_index is not supported")
        return function(x[0], dim=o.attribute("axis", 0), keepdim=bool(o.attribute("keepdims", 1)))

    return run


def _top_k(o: Operands, x: Inputs) -> Outputs:
    count = (o.numbers(1) or [0])[0]
    axis, largest = o.attribute("axis", -1), bool(o.attribute("largest", 1))
    values, indices = torch.topk(x[0], count, axis, largest=largest, sorted=True)
    return values, indices


def _cumulative_sum(o: Operands, x: Inputs) -> Outputs:
    axis = (o.numbers(1) or [0])[0]
    value = x[0].flip(axis) if o.attribute("reverse", 0) else x[0]
    total = torch.cumsum(value, dim=axis)
    if o.attribute("exclusive", 0):
        total = total - value
    return total.flip(axis) if o.attribute("reverse", 0) else total


def _triangle(o: Operands, x: Inputs) -> Outputs:
    diagonal = (o.numbers(1) or [0])[0]
    return torch.triu(x[0], diagonal) if o.attribute("upper", 1) else torch.tril(x[0], diagonal)


def _one_hot(o: Operands, x: Inputs) -> Outputs:
    depth, axis = (o.numbers(1) or [0])[0], o.attribute("axis", -1)
    axis = axis + len(o.shapes[0]) + 1 if axis < 0 else axis
    index = x[0].long().remainder(depth).unsqueeze(axis)
    places = torch.arange(depth).reshape([depth if i == axis else 1 for i in range(len(o.shapes[0]) + 1)])
    return torch.where(index == places, x[2][1], x[2][0])


def _where(o: Operands, x: Inputs) -> Outputs:
    return torch.where(x[0], x[1], x[2])


_UNARY: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Atan": torch.atan,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Dropout": lambda value: value,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "Identity": lambda value: value,
    "IsNaN": lambda value: value != value,  # noqa: PLR0124 - that is what it is; targets know it as a comparison
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": functional.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
_BINARY: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Div": _divide,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
_REDUCTIONS: Mapping[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda value, axes, keep: value.abs().sum(dim=axes, keepdim=keep),
    "ReduceL2": lambda value, axes, keep: (value * value).sum(dim=axes, keepdim=keep).sqrt(),
    "ReduceLogSumExp": lambda value, axes, keep: value.logsumexp(dim=axes, keepdim=keep),
    "ReduceMax": lambda value, axes, keep: value.amax(dim=axes, keepdim=keep),
    "ReduceMean": lambda value, axes, keep: value.mean(dim=axes, keepdim=keep),
    "ReduceMin": lambda value, axes, keep: value.amin(dim=axes, keepdim=keep),
    "ReduceProd": _product,
    "ReduceSum": lambda value, axes, keep: value.sum(dim=axes, keepdim=keep),
    "ReduceSumSquare": lambda value, axes, keep: (value * value).sum(dim=axes, keepdim=keep),
}
HANDLERS: Mapping[str, Handler] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    "ArgMax": _index_of_best(torch.argmax),
    "ArgMin": _index_of_best(torch.argmin),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "CumSum": _cumulative_sum,
    "DepthToSpace": _depth_to_space,
    "Einsum": _einsum,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "LogSoftmax": _log_softmax,
    "Max": _any_number(torch.maximum),
    "Mean": _mean,
    "Min": _any_number(torch.minimum),
    "Mod": _modulo,
    "OneHot": _one_hot,
    "Reshape": _reshape,
    "ScatterElements": _scatter_elements,
    "Slice": _slice,
    "Softmax": _softmax,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sum": _any_number(torch.add),
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
