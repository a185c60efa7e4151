"""From a picture to the input tensor of a model.

What a tensor holds for a pixel depends on that byte alone (normalisation, quantization, number type), so one
table of 256 entries a channel says it all, and one look-up a pixel is the whole work. Runs no model.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge_runtime.contract.errors import BundleError, InputError
from edge_runtime.contract.frame import Picture, PixelFormat, Plane
from edge_runtime.contract.task import ImageInput
from edge_runtime.contract.tensors import Array, TensorSpec, format_shape
from edge_runtime.tasks.fitted import Fitter, check_planes, fitter
from edge_runtime.tasks.geometry import Placement, Size, place

_DTYPES = ("uint8", "int8", "int16", "float16", "float32")
_LEAST_LEVELS = 64
"""Of 256 pixel values, so many must stay different in a quantized input. A model calibrated on the declared
values keeps nearly all; one that was not (0–255 into [-1, 1], or the reverse) keeps a handful."""
_SHAPES_KEPT = 8
"""Buffers a thread keeps, one set for each size of picture: as many as cameras differ, not every image of a
folder."""


class ImageTensor:
    """Makes the input tensor of one model. Safe to share between threads; each has its own buffers."""

    def __init__(self, spec: ImageInput, inputs: Sequence[TensorSpec]) -> None:
        """Bind a declaration to the input of a model.

        Args:
            spec: How the picture becomes a tensor.
            inputs: What the model takes: one image, batch 1.

        Raises:
            BundleError: The declaration does not fit the model.
        """
        if len(inputs) != 1:
            raise BundleError(
                "model inputs",
                expected="one image",
                got=", ".join(map(str, inputs)) or "none",
                do="Export the model with a picture as its only input",
            )
        self.name = inputs[0].name
        self._spec = spec
        self._dtype = np.dtype(inputs[0].dtype)
        self._size, self._free = _image_size(spec, inputs[0])
        table = _table(spec, inputs[0])
        self._pad = table[spec.pad]
        as_it_is = table.dtype == np.uint8 and np.array_equal(table, _AS_IT_IS)
        self._tables = [] if as_it_is else _look_ups(table, spec.layout)
        self._local = threading.local()

    @property
    def size(self) -> Size:
        """(height, width) of the tensor; the largest one where the model takes any."""
        return self._size

    def fill(self, picture: Picture) -> tuple[Array, Placement]:
        """Make the tensor.

        Args:
            picture: Any size, any format.

        Returns:
            (1, height, width, 3) or (1, 3, height, width), the model's dtype, overwritten by this
            thread's next call; and where the picture lies in it.

        Raises:
            InputError: The planes of the picture are not what its format and size say.
        """
        if not isinstance(picture, Picture):  # pyright: ignore[reportUnnecessaryIsInstance] - callers read JSON
            raise InputError("input", expected="a picture", got=type(picture).__name__)
        check_planes(picture)
        desk = self._desk(picture)
        desk.fitter.write(picture, desk.pixels)
        planar = self._spec.layout == "nchw"
        if self._tables:
            sources = cv2.split(desk.pixels, desk.channels) if planar else (desk.pixels,)
            for source, table, target in zip(sources, self._tables, desk.targets, strict=True):
                cv2.LUT(source, table, dst=target)
        elif planar:
            cv2.split(desk.pixels, desk.targets)
        return desk.tensor, desk.placement

    def _desk(self, picture: Picture) -> "_Desk":
        desks: dict[tuple[PixelFormat, int, int], _Desk] | None = getattr(self._local, "desks", None)
        if desks is None:
            desks = self._local.desks = {}
        key = picture.format, picture.height, picture.width
        desk = desks.get(key)
        if desk is None:
            if len(desks) >= _SHAPES_KEPT:
                del desks[next(iter(desks))]
            desk = desks[key] = self._new_desk(picture)
        return desk

    def _new_desk(self, picture: Picture) -> "_Desk":
        placement = place(self._spec, (picture.height, picture.width), self._size, self._free)
        spot = placement.spot
        size = spot.height, spot.width
        rows, columns = slice(spot.top, spot.top + spot.height), slice(spot.left, spot.left + spot.width)
        if self._spec.layout == "nchw":
            tensor = np.empty((1, 3, *placement.canvas), self._dtype)
            tensor[:] = self._pad[:, None, None]
            targets = [_movable(tensor)[0, channel, rows, columns] for channel in range(3)]
        else:
            tensor = np.empty((1, *placement.canvas, 3), self._dtype)
            tensor[:] = self._pad
            targets = [_movable(tensor)[0, rows, columns]]
        in_place = self._spec.layout == "nhwc" and not self._tables
        return _Desk(
            placement=placement,
            fitter=fitter(picture.format, placement.crop, size, self._spec.colour),
            pixels=targets[0] if in_place else np.empty((*size, 3), np.uint8),
            channels=[np.empty(size, np.uint8) for _ in range(3)] if self._tables else [],
            tensor=tensor,
            targets=targets,
        )


@dataclass(frozen=True, slots=True)
class _Desk:
    """What one thread needs for pictures of one size and format; padding is written here once."""

    placement: Placement
    fitter: Fitter
    pixels: Plane
    channels: list[Plane]
    tensor: Array
    targets: list[Array]


_AS_IT_IS = np.repeat(np.arange(256)[:, None], 3, axis=1)


def _movable(array: Array) -> Array:
    """The same bits as integers: OpenCV moves them by look-up, float16 in some versions only so."""
    return array.view({1: np.uint8, 2: np.int16, 4: np.int32}[array.itemsize])


def _look_ups(table: Array, layout: Literal["nhwc", "nchw"]) -> list[Array]:
    """Cut a (256, 3) table as `cv2.LUT` takes it: one a plane, or one for the interleaved picture."""
    if layout == "nchw":
        return [_movable(np.ascontiguousarray(table[:, channel])) for channel in range(3)]
    if (table == table[:, :1]).all():
        return [_movable(np.ascontiguousarray(table[:, 0]))]
    return [_movable(np.ascontiguousarray(table[None]))]


def _image_size(spec: ImageInput, tensor: TensorSpec) -> tuple[Size, tuple[bool, bool]]:
    """Read height and width from the model, and tell which of them it leaves free."""
    nchw = spec.layout == "nchw"
    shape = tensor.shape
    wanted = "(1, 3, height, width)" if nchw else "(1, height, width, 3)"
    fits = len(shape) == 4 and shape[0] in {1, None} and shape[1 if nchw else 3] in {3, None}
    if not fits:
        raise BundleError(
            f"input '{tensor.name}'",
            expected=f"{wanted} for layout {spec.layout}",
            got=format_shape(shape),
            do="Correct `layout` in the task, or export the model for batch 1 and three channels",
        )
    height, width = shape[2:] if nchw else shape[1:3]
    free = height is None, width is None
    if spec.size is None:
        if height is None or width is None:
            raise BundleError(
                f"input '{tensor.name}' takes any size",
                got=format_shape(shape),
                do="Say `size: [height, width]` in the task's input",
            )
        return (height, width), free
    if height not in {None, spec.size[0]} or width not in {None, spec.size[1]}:
        raise BundleError(
            f"input '{tensor.name}' does not have the declared size",
            expected=f"height and width {format_shape(spec.size)}",
            got=format_shape(shape),
            do="Remove `size` from the task's input: it is read from the model",
        )
    return spec.size, free


def _table(spec: ImageInput, tensor: TensorSpec) -> Array:
    """What the tensor holds for each pixel value: (256, 3), the tensor's dtype."""
    if tensor.dtype not in _DTYPES:
        raise BundleError(f"input '{tensor.name}'", expected=f"one of {', '.join(_DTYPES)}", got=tensor.dtype)
    dtype = np.dtype(tensor.dtype)
    plain = spec.scale == 1 and not any(spec.mean) and set(spec.std) == {1}
    if dtype == np.uint8 and (plain or tensor.quantization is None):
        return _AS_IT_IS.astype(np.uint8)
    real = (_AS_IT_IS * spec.scale - np.array(spec.mean)) / np.array(spec.std)
    if dtype.kind == "f":
        return real.astype(dtype)
    quantization = tensor.quantization
    if quantization is None or len(quantization.scale) != 1:
        raise BundleError(
            f"input '{tensor.name}'",
            expected=f"one quantization scale for its {tensor.dtype}",
            got="none" if quantization is None else f"{len(quantization.scale)} scales",
            do="Export the model with a float or uint8 input",
        )
    limits = np.iinfo(tensor.dtype)
    stored = np.rint(real / quantization.scale[0] + quantization.zero_point[0])
    table = np.clip(stored, limits.min, limits.max).astype(dtype)
    levels = min(len(np.unique(table[:, channel])) for channel in range(3))
    if levels < _LEAST_LEVELS:
        ends = (np.array((limits.min, limits.max)) - quantization.zero_point[0]) * quantization.scale[0]
        raise BundleError(
            f"input '{tensor.name}' and the declared scale, mean and std do not belong together",
            expected=f"pixels within [{ends[0]:.3g}, {ends[1]:.3g}], the range the model stores",
            got=f"[{real.min():.3g}, {real.max():.3g}]",
            do="Declare the scale, mean and std the model was trained with",
        )
    return table
