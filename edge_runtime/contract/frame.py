"""Frame: one decoded picture of a camera, with its times.

Converts and resizes nothing; a picture stays in the planes the decoder gave until a task needs it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[np.uint8]


class PixelFormat(StrEnum):
    """How the planes of a `Picture` are laid out."""

    I420 = "i420"
    """Y (h, w), U and V (ceil(h/2), ceil(w/2)); BT.601, limited range."""
    I420_FULL = "i420-full"
    """As I420, full range (JPEG)."""
    NV12 = "nv12"
    """Y (h, w), UV interleaved (ceil(h/2), ceil(w/2), 2); BT.601, limited range."""
    BGR = "bgr"
    """One plane (h, w, 3)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels as decoded.

    Args:
        format: The layout of `planes`.
        planes: uint8 arrays; rows may be padded (views into the decoder's own buffer, kept alive by them).
            Read-only by agreement: several consumers share them.
        height: Pixels.
        width: Pixels.
    """

    format: PixelFormat
    planes: tuple[Plane, ...]
    height: int
    width: int

    @classmethod
    def from_bgr(cls, image: Plane) -> "Picture":
        """Wrap a `(h, w, 3)` uint8 BGR array without copying it."""
        return cls(PixelFormat.BGR, (image,), image.shape[0], image.shape[1])

    @property
    def luma(self) -> Plane:
        """The picture's brightness, (h, w) uint8; the green channel stands in for it in a BGR picture."""
        first = self.planes[0]
        return first[:, :, 1] if self.format is PixelFormat.BGR else first


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one camera.

    Args:
        camera: The camera's name.
        index: Number of decoded frames before it since the stream was opened.
        pts_ns: Source time since the camera's first frame; never runs backwards, also across reconnects.
        time_ns: Unix time of the picture as well as the source tells it.
        received_ns: Monotonic clock when decoding was done; latency is counted from here.
        picture: The pixels.
    """

    camera: str
    index: int
    pts_ns: int
    time_ns: int
    received_ns: int
    picture: Picture
