"""Decoded FFmpeg frames to `Picture`, without copying where the planes can be used as they are.

Opens nothing and keeps nothing: a picture's planes are views that keep the decoder's buffer alive.
"""

from typing import cast

import av
import numpy as np
from av.video.plane import VideoPlane

from edge_runtime.contract.frame import Picture, PixelFormat, Plane

_FULL_RANGE = 2
"""AVCOL_RANGE_JPEG."""


def to_picture(frame: av.VideoFrame) -> Picture:
    """Wrap a decoded frame.

    Planar 4:2:0 and NV12 keep their planes; every other layout (4:2:2 webcams, RGB images, 10 bit) is
    converted to 4:2:0 or BGR once, here.
    """
    name = frame.format.name
    full = name.startswith("yuvj") or int(frame.color_range) == _FULL_RANGE
    if name in {"yuv420p", "yuvj420p"}:
        return _i420(frame, full=full)
    if name == "nv12" and not full:
        height, width = frame.height, frame.width
        chroma = _plane(frame.planes[1], (height + 1) // 2, (width + 1) // 2 * 2)
        planes = (_plane(frame.planes[0], height, width), chroma.reshape(chroma.shape[0], -1, 2))
        return Picture(PixelFormat.NV12, planes, height, width)
    if name.startswith("yuv"):
        return _i420(frame.reformat(format="yuvj420p" if full else "yuv420p"), full=full)
    return Picture.from_bgr(cast("Plane", frame.to_ndarray(format="bgr24")))


def _i420(frame: av.VideoFrame, *, full: bool) -> Picture:
    height, width = frame.height, frame.width
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    planes = (
        _plane(frame.planes[0], height, width),
        _plane(frame.planes[1], half_height, half_width),
        _plane(frame.planes[2], half_height, half_width),
    )
    return Picture(PixelFormat.I420_FULL if full else PixelFormat.I420, planes, height, width)


def _plane(plane: VideoPlane, rows: int, columns: int) -> Plane:
    """View a plane's pixels without the padding at the end of its rows."""
    stride = plane.line_size
    # A VideoPlane speaks the buffer protocol, which its type does not say.
    buffer = cast("memoryview[int]", plane)
    return np.frombuffer(buffer, np.uint8, count=stride * rows).reshape(rows, stride)[:, :columns]
