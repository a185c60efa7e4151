"""From the planes of a picture to a small RGB or BGR one: resize first, convert the few pixels that are left.

Converting 1080p and then resizing touches nine times the pixels. Knows no model and no padding.
"""

from typing import Literal, Protocol, TypeAlias

import cv2
import numpy as np

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.frame import Picture, PixelFormat, Plane
from edge_runtime.contract.tensors import format_shape
from edge_runtime.tasks.geometry import Rect, Size

Colour: TypeAlias = Literal["rgb", "bgr"]

_FROM_I420 = {"rgb": cv2.COLOR_YUV2RGB_I420, "bgr": cv2.COLOR_YUV2BGR_I420}
_FROM_NV12 = {"rgb": cv2.COLOR_YUV2RGB_NV12, "bgr": cv2.COLOR_YUV2BGR_NV12}
_FROM_FULL = {"rgb": cv2.COLOR_YCrCb2RGB, "bgr": cv2.COLOR_YCrCb2BGR}


class Fitter(Protocol):
    """Fits pictures of one size and format. Owns its buffers, so it belongs to one thread."""

    def write(self, picture: Picture, out: Plane) -> None:
        """Write the fitted picture.

        Args:
            picture: What comes in.
            out: (height, width, 3) uint8 to be written to, a view into something larger or not.
        """
        ...


def fitter(pixels: PixelFormat, crop: Rect, size: Size, colour: Colour) -> Fitter:
    """Make a fitter.

    Args:
        pixels: Format of the pictures.
        crop: The part of the picture to take.
        size: Size of what comes out.
        colour: Channel order of what comes out.
    """
    match pixels:
        case PixelFormat.I420 | PixelFormat.NV12:
            return _Subsampled(pixels, crop, size, colour)
        case PixelFormat.I420_FULL:
            return _FullRange(crop, size, colour)
        case PixelFormat.BGR:
            return _Packed(crop, size, colour)


def check_planes(picture: Picture) -> None:
    """Refuse a picture whose planes are not what its format and size say.

    Raises:
        InputError: Names the plane that does not fit.
    """
    height, width = picture.height, picture.width
    if height < 1 or width < 1:
        raise InputError("picture", expected="at least 1 × 1 pixel", got=f"{width} × {height}")
    half = (height + 1) // 2, (width + 1) // 2
    wanted: tuple[tuple[int, ...], ...]
    match picture.format:
        case PixelFormat.I420 | PixelFormat.I420_FULL:
            wanted = (height, width), half, half
        case PixelFormat.NV12:
            wanted = (height, width), (*half, 2)
        case PixelFormat.BGR:
            wanted = ((height, width, 3),)
    have = tuple(plane.shape for plane in picture.planes)
    if have != wanted or any(plane.dtype != np.uint8 for plane in picture.planes):
        raise InputError(
            f"planes of a {width} × {height} {picture.format} picture",
            expected=f"uint8 {' '.join(map(format_shape, wanted))}",
            got=" ".join(f"{plane.dtype} {format_shape(plane.shape)}" for plane in picture.planes) or "none",
        )


def _cut(plane: Plane, crop: Rect) -> Plane:
    return plane[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def _half(crop: Rect) -> Rect:
    """The same part in a plane of half the size; the corner of a crop is even."""
    return Rect(crop.top // 2, crop.left // 2, (crop.height + 1) // 2, (crop.width + 1) // 2)


class _Subsampled:
    """I420 and NV12. OpenCV converts one buffer of even size; the planes are resized into views of it."""

    def __init__(self, pixels: PixelFormat, crop: Rect, size: Size, colour: Colour) -> None:
        height, width = size
        rows, columns = height + height % 2, width + width % 2
        # The row and column that make an odd size even are converted too, then left behind.
        self._buffer = np.zeros((rows * 3 // 2, columns), np.uint8)
        luma = self._buffer[:height, :width]
        chroma = self._buffer[rows:].reshape(-1)
        half = rows // 2, columns // 2
        if pixels is PixelFormat.NV12:
            self._code = _FROM_NV12[colour]
            self._targets: tuple[Plane, ...] = (luma, chroma.reshape(*half, 2))
        else:
            self._code = _FROM_I420[colour]
            self._targets = (luma, *chroma.reshape(2, *half))
        self._crops = (crop, _half(crop), _half(crop))
        self._even = None if (rows, columns) == size else np.empty((rows, columns, 3), np.uint8)

    def write(self, picture: Picture, out: Plane) -> None:
        for plane, crop, target in zip(picture.planes, self._crops, self._targets, strict=False):
            cv2.resize(_cut(plane, crop), target.shape[1::-1], dst=target, interpolation=cv2.INTER_LINEAR)
        if self._even is None:
            cv2.cvtColor(self._buffer, self._code, dst=out)
        else:
            cv2.cvtColor(self._buffer, self._code, dst=self._even)
            np.copyto(out, self._even[: out.shape[0], : out.shape[1]])


class _FullRange:
    """I420 of JPEG cameras. OpenCV has no full-range conversion of it, so the colours are made full-size."""

    def __init__(self, crop: Rect, size: Size, colour: Colour) -> None:
        self._crops = (crop, _half(crop), _half(crop))
        self._merged = np.empty((*size, 3), np.uint8)
        self._planes = tuple(np.empty(size, np.uint8) for _ in self._crops)
        self._code = _FROM_FULL[colour]

    def write(self, picture: Picture, out: Plane) -> None:
        for plane, crop, target in zip(picture.planes, self._crops, self._planes, strict=True):
            cv2.resize(_cut(plane, crop), target.shape[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
        y, cb, cr = self._planes
        cv2.merge((y, cr, cb), dst=self._merged)
        cv2.cvtColor(self._merged, self._code, dst=out)


class _Packed:
    """BGR, as pictures from files are."""

    def __init__(self, crop: Rect, size: Size, colour: Colour) -> None:
        self._crop = crop
        self._bgr = np.empty((*size, 3), np.uint8) if colour == "rgb" else None

    def write(self, picture: Picture, out: Plane) -> None:
        target = out if self._bgr is None else self._bgr
        cut = _cut(picture.planes[0], self._crop)
        cv2.resize(cut, target.shape[1::-1], dst=target, interpolation=cv2.INTER_LINEAR)
        if self._bgr is not None:
            cv2.cvtColor(self._bgr, cv2.COLOR_BGR2RGB, dst=out)
