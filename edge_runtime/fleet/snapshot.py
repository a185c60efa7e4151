"""A picture that fits into a message: encoded worse, then made smaller, until it does. Knows no camera."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import JsonValue

from edge_runtime.contract.fleet import MESSAGE_MAX_BYTES
from edge_runtime.contract.update import Failure, UpdateFailedError

JPEG_MAX_BYTES = (MESSAGE_MAX_BYTES - 1024) * 3 // 4
"""Base64 makes four characters of three bytes; the rest of the message has a KiB."""
_SCALES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.125)
_QUALITIES = (85, 70, 50)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A picture.

    Args:
        jpeg: As JPEG.
        width: In pixels.
        height: In pixels.
    """

    jpeg: bytes
    width: int
    height: int

    def document(self) -> dict[str, JsonValue]:
        """Give it as a part of a message."""
        text = base64.b64encode(self.jpeg).decode()
        return {"jpeg_base64": text, "width": self.width, "height": self.height}


def fit(jpeg: bytes, max_bytes: int = JPEG_MAX_BYTES) -> Snapshot:
    """Make a picture small enough; one that is stays as it is.

    Args:
        jpeg: The picture as JPEG.
        max_bytes: What the result may have.

    Raises:
        UpdateFailedError: It is no picture, or is too large at an eighth of its size.
    """
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if picture is None:
        raise UpdateFailedError(
            Failure.MESSAGE_MALFORMED, "snapshot", expected="a JPEG", got="something else"
        )
    height, width = picture.shape[:2]
    if len(jpeg) <= max_bytes:
        return Snapshot(jpeg, width, height)
    for scale in _SCALES:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        smaller = picture if scale == 1.0 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for quality in _QUALITIES:
            _, found = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if found.size <= max_bytes:
                return Snapshot(found.tobytes(), *size)
    raise UpdateFailedError(
        Failure.MESSAGE_TOO_LARGE,
        "snapshot",
        expected=f"at most {max_bytes} bytes",
        got=f"{width}x{height} pixels that do not get small enough",
    )
