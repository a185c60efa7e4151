"""Where a picture lies in the input of a model, and the exact way back.

Coordinates are continuous: pixel i covers [i, i + 1). Resizes no pixels.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edge_runtime.contract.result import Boxes
from edge_runtime.contract.task import ImageInput

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True)
class Rect:
    """Whole pixels: `height` rows from `top`, `width` columns from `left`."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Placement:
    """How a picture was brought into a model's input.

    Args:
        picture: Size of the source picture.
        canvas: Size of the model's input.
        crop: The part of the picture that the model sees.
        spot: The part of the canvas that `crop` was resized to; the rest is padding.
    """

    picture: Size
    canvas: Size
    crop: Rect
    spot: Rect

    def to_picture(self, boxes: Boxes) -> Boxes:
        """Bring boxes back to the picture.

        Args:
            boxes: (n, 4) float32 xyxy, canvas pixels.

        Returns:
            (n, 4) float32 xyxy, source pixels, cut at the borders of the picture.
        """
        height, width = self.picture
        scale = np.array((self.crop.width / self.spot.width, self.crop.height / self.spot.height) * 2)
        shift = np.array((self.crop.left, self.crop.top) * 2) - scale * ((self.spot.left, self.spot.top) * 2)
        return np.clip(boxes * scale + shift, 0, (width, height) * 2).astype(np.float32)

    def to_canvas(self, boxes: Boxes) -> Boxes:
        """Bring boxes to the model's input: what `to_picture` undoes.

        Args:
            boxes: (n, 4) float32 xyxy, source pixels.

        Returns:
            (n, 4) float32 xyxy, canvas pixels, not cut.
        """
        scale = np.array((self.spot.width / self.crop.width, self.spot.height / self.crop.height) * 2)
        shift = np.array((self.spot.left, self.spot.top) * 2) - scale * ((self.crop.left, self.crop.top) * 2)
        return (boxes * scale + shift).astype(np.float32)


def place(spec: ImageInput, picture: Size, size: Size, free: tuple[bool, bool] = (False, False)) -> Placement:
    """Decide where a picture goes.

    Args:
        spec: What the task declares: fit, align and stride.
        picture: Size of the picture.
        size: Size of the model's input, or the largest one where it is free.
        free: Whether the model takes any height, and any width. With a `stride`, a letterbox then is only as
            large as the picture needs, rounded up to the stride.
    """
    match spec.fit:
        case "stretch":
            return Placement(picture, size, Rect(0, 0, *picture), Rect(0, 0, *size))
        case "center_crop":
            return Placement(picture, size, _central(picture, size), Rect(0, 0, *size))
        case "letterbox":
            fitted = _fitted(picture, size)
            canvas = size
            if spec.stride is not None:
                rows, columns = (-(-side // spec.stride) * spec.stride for side in fitted)
                canvas = (rows if free[0] else size[0], columns if free[1] else size[1])
            spot = _aligned(fitted, canvas, spec.align)
            return Placement(picture, canvas, Rect(0, 0, *picture), spot)


def _fitted(picture: Size, size: Size) -> Size:
    """The largest size of the picture's shape inside `size`, in whole pixels, never empty."""
    scale = min(size[0] / picture[0], size[1] / picture[1])
    height, width = (max(1, round(side * scale)) for side in picture)
    return min(height, size[0]), min(width, size[1])


def _aligned(fitted: Size, canvas: Size, align: Literal["center", "top_left"]) -> Rect:
    if align == "top_left":
        return Rect(0, 0, *fitted)
    return Rect((canvas[0] - fitted[0]) // 2, (canvas[1] - fitted[1]) // 2, *fitted)


def _central(picture: Size, size: Size) -> Rect:
    """The largest part of the picture, around its middle, that has the shape of `size`."""
    scale = max(size[0] / picture[0], size[1] / picture[1])
    height, width = (min(have, max(1, round(want / scale))) for have, want in zip(picture, size, strict=True))
    # An even corner, so that it falls between two samples of half-size colour planes.
    top, left = ((have - cut) // 2 & ~1 for have, cut in zip(picture, (height, width), strict=True))
    return Rect(top, left, height, width)
