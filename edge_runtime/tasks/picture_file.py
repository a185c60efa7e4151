"""A picture from a file. Decodes and does no more."""

from pathlib import Path

import cv2
import numpy as np

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.frame import Plane

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""How files that OpenCV reads are called."""


def read_picture(path: Path) -> Plane:
    """Read a picture.

    Args:
        path: A file that OpenCV reads, whatever its name.

    Returns:
        (h, w, 3) uint8 BGR.

    Raises:
        InputError: It is missing, empty or no picture.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"picture {path}", expected="a readable file", got=error.strerror) from error
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if pixels is None:
        got = "a file of another kind, or a damaged one" if len(content) else "an empty file"
        raise InputError(f"picture {path}", expected="JPEG, PNG, WebP, BMP or TIFF", got=got)
    return np.asarray(pixels, np.uint8)
