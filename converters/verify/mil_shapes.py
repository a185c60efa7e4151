"""MIL operations on shapes and places: reshape, slice, gather, concatenate, sort. Computes no numbers.

Definitions: Core ML Tools, "MIL Ops" reference. Called as those of `mil_math`.
"""

# torch comes in as an argument, untyped on purpose: importing a table must not import it.
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from collections.abc import Callable, Mapping
from typing import Any

from converters.verify.mil_math import ints


def _reshape(torch: Any, x: Any, shape: Any) -> Any:
    sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(ints(shape))]
    return x.reshape(sizes)


def _expand_dims(torch: Any, x: Any, axes: Any) -> Any:
    x = torch.as_tensor(x)
    rank = x.dim() + len(ints(axes))
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _squeeze(torch: Any, x: Any, axes: Any = None) -> Any:
    if axes is None:
        return x.squeeze()
    for axis in sorted((axis % x.dim() for axis in ints(axes)), reverse=True):
        x = x.squeeze(axis)
    return x


def _slice_by_index(
    torch: Any,
    x: Any,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Any:
    x = torch.as_tensor(x)
    rank = x.dim()
    steps = [1] * rank if stride is None else ints(stride)
    open_begin, open_end, dropped = (
        [False] * rank if mask is None else [bool(one) for one in ints(mask)]
        for mask in (begin_mask, end_mask, squeeze_mask)
    )
    for axis, (first, last) in enumerate(zip(ints(begin), ints(end), strict=True)):
        places = list(range(x.shape[axis]))
        chosen = (
            [places[first]]
            if dropped[axis]
            else places[None if open_begin[axis] else first : None if open_end[axis] else last : steps[axis]]
        )
        x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    kept = [size for axis, size in enumerate(x.shape) if not dropped[axis]]
    return x.reshape(kept)


def _slice_by_size(torch: Any, x: Any, begin: Any, size: Any) -> Any:
    for axis, (first, length) in enumerate(zip(ints(begin), ints(size), strict=True)):
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


def _split(torch: Any, x: Any, axis: Any, num_splits: Any = None, split_sizes: Any = None) -> Any:
    sizes = x.shape[int(axis)] // int(num_splits) if split_sizes is None else ints(split_sizes)
    return tuple(torch.split(x, sizes, dim=int(axis)))


def _concat(torch: Any, values: Any, axis: Any, interleave: Any = False) -> Any:
    tensors = [torch.as_tensor(value) for value in values]
    if interleave:
        return torch.stack(tensors, int(axis) % tensors[0].dim() + 1).flatten(int(axis), int(axis) + 1)
    return torch.cat(tensors, dim=int(axis))


def _pad(torch: Any, x: Any, pad: Any, mode: Any = "constant", constant_val: Any = 0.0) -> Any:
    sides = ints(pad)
    pairs = [(sides[place], sides[place + 1]) for place in range(0, len(sides), 2)]
    if str(mode) == "constant":
        backwards = [side for pair in reversed(pairs) for side in pair]
        return torch.nn.functional.pad(x, backwards, value=float(constant_val))
    while pairs and pairs[0] == (0, 0):  # torch wants the padded axes only
        pairs.pop(0)
    backwards = [side for pair in reversed(pairs) for side in pair]
    return torch.nn.functional.pad(
        x, backwards, mode={"reflect": "reflect", "replicate": "replicate"}[str(mode)]
    )


def _gather(torch: Any, x: Any, indices: Any, axis: Any = 0, batch_dims: Any = 0, **_: Any) -> Any:
    if int(batch_dims):
        raise ValueError("gather with batch_dims is not covered")
    x, indices = torch.as_tensor(x), torch.as_tensor(indices).to(torch.int64)
    axis = int(axis) % x.dim()
    picked = x.index_select(axis, (indices % x.shape[axis]).reshape(-1))
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _gather_along_axis(torch: Any, x: Any, indices: Any, axis: Any = 0, **_: Any) -> Any:
    indices = torch.as_tensor(indices).to(torch.int64)
    return torch.gather(x, int(axis), indices % x.shape[int(axis)])


def _gather_nd(torch: Any, x: Any, indices: Any, batch_dims: Any = 0, **_: Any) -> Any:
    if int(batch_dims):
        raise ValueError("gather_nd with batch_dims is not covered")
    return x[tuple(torch.as_tensor(indices).to(torch.int64).unbind(-1))]


def _topk(
    torch: Any, x: Any, k: Any, axis: Any = -1, ascending: Any = False, sort: Any = True, **_: Any
) -> Any:
    order = torch.argsort(x, dim=int(axis), descending=not bool(ascending), stable=True)
    indices = order.narrow(int(axis), 0, int(k))
    return torch.gather(x, int(axis), indices), indices


def _argsort(torch: Any, x: Any, axis: Any = -1, ascending: Any = False) -> Any:
    return torch.argsort(x, dim=int(axis), descending=not bool(ascending), stable=True)


def _band_part(torch: Any, x: Any, lower: Any = -1, upper: Any = -1) -> Any:
    rows, columns = torch.arange(x.shape[-2])[:, None], torch.arange(x.shape[-1])[None]
    keep = torch.ones(x.shape[-2:], dtype=torch.bool)
    keep = keep & (rows - columns <= int(lower)) if int(lower) >= 0 else keep
    keep = keep & (columns - rows <= int(upper)) if int(upper) >= 0 else keep
    return x * keep.to(x.dtype)


def _one_hot(
    torch: Any, indices: Any, one_hot_vector_size: Any, axis: Any = -1, on_value: Any = 1, off_value: Any = 0
) -> Any:
    size = int(one_hot_vector_size)
    hot = torch.nn.functional.one_hot(torch.as_tensor(indices).to(torch.int64), size)
    values = torch.where(hot.bool(), float(on_value), float(off_value))
    return values.movedim(-1, int(axis))


def _space_to_depth(torch: Any, x: Any, block_size: Any) -> Any:
    # Channels of a block in row-major order before the old channels, as TensorFlow's and MIL's definition.
    batch, channels, height, width = x.shape
    block = int(block_size)
    cells = x.reshape(batch, channels, height // block, block, width // block, block)
    return cells.permute(0, 3, 5, 1, 2, 4).reshape(
        batch, channels * block * block, height // block, width // block
    )


def _depth_to_space(torch: Any, x: Any, block_size: Any) -> Any:
    batch, channels, height, width = x.shape
    block = int(block_size)
    cells = x.reshape(batch, block, block, channels // block**2, height, width)
    return cells.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // block**2, height * block, width * block)


SHAPES: Mapping[str, Callable[..., Any]] = {
    "reshape": _reshape,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "transpose": lambda torch, x, perm: x.permute(ints(perm)),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "split": _split,
    "concat": _concat,
    "stack": lambda torch, values, axis: torch.stack([torch.as_tensor(v) for v in values], dim=int(axis)),
    "tile": lambda torch, x, reps: x.repeat(ints(reps)),
    "pad": _pad,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "topk": _topk,
    "argsort": _argsort,
    "band_part": _band_part,
    "one_hot": _one_hot,
    "identity": lambda torch, x: x,
    "shape": lambda torch, x: torch.tensor(x.shape, dtype=torch.int64),
    "fill": lambda torch, shape, value=0.0: torch.full(ints(shape), float(value)),
    "fill_like": lambda torch, ref_tensor, value=0.0: torch.full(ref_tensor.shape, float(value)),
    "range_1d": lambda torch, start, end, step: torch.arange(float(start), float(end), float(step)),
    "reverse": lambda torch, x, axes=None: x.flip(list(range(x.dim())) if axes is None else ints(axes)),
    "flatten2d": lambda torch, x, axis=1: x.reshape(int(torch.tensor(x.shape[: int(axis)]).prod()), -1),
    "pixel_shuffle": lambda torch, x, upscale_factor: torch.nn.functional.pixel_shuffle(
        x, int(upscale_factor)
    ),
    "pixel_unshuffle": lambda torch, x, downscale_factor: torch.nn.functional.pixel_unshuffle(
        x, int(downscale_factor)
    ),
    "space_to_depth": _space_to_depth,
    "depth_to_space": _depth_to_space,
}
