"""Makes small real video files for tests: a white square that moves over grey, encoded by FFmpeg."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def moving_square(frames: int, height: int = 240, width: int = 320) -> Iterable[Image]:
    """Yield `(height, width, 3)` uint8 BGR pictures."""
    for number in range(frames):
        image = np.full((height, width, 3), 90, np.uint8)
        left = (number * 8) % (width - 40)
        image[height // 3 : height // 3 + 60, left : left + 40] = 240
        yield image


def write_clip(
    path: Path,
    images: Iterable[Image],
    *,
    fps: int = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    starts_s: int = 0,
) -> Path:
    """Encode pictures to a file; all of one size."""
    with av.open(str(path), "w", options={"output_ts_offset": str(starts_s)}) as container:
        stream = None
        for image in images:
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(fps))
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pixel_format
                stream.options = {"g": "25", **(options or {})}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        if stream is not None:
            container.mux(stream.encode())
    return path
