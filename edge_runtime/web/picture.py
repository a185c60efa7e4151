"""A picture from a body: its size is read from its header first, so that no bomb is decoded.

Reads JPEG, PNG and WebP. Sources: ITU-T T.81 annex B, W3C PNG 5.2 and 11.2.1, RFC 9649. Runs no model.
"""

import struct

import cv2
import numpy as np

from edge_runtime.contract.errors import InputError, TooLargeError
from edge_runtime.contract.frame import Picture

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_KINDS = "JPEG, PNG or WebP"


def is_picture(body: bytes) -> bool:
    """Tell by its first bytes whether a body is a picture that is read here."""
    return body.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (
        body[:4] == b"RIFF" and body[8:12] == b"WEBP"
    )


def decode(body: bytes, most_pixels: int) -> Picture:
    """Decode a picture.

    Args:
        body: JPEG, PNG or WebP.
        most_pixels: At most.

    Returns:
        BGR, turned as its EXIF orientation says.

    Raises:
        TooLargeError: Its header says more pixels.
        InputError: It is no picture, or a damaged one.
    """
    size = size_of(body)
    if size is None:
        got = f"{len(body)} bytes that begin with {body[:8]!r}" if body else "nothing"
        raise InputError("picture", expected=_KINDS, got=got)
    height, width = size
    if height * width > most_pixels:
        raise TooLargeError("picture", expected=f"at most {most_pixels} pixels", got=f"{width}x{height}")
    pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) if height * width else None
    if pixels is None:
        raise InputError("picture", expected=_KINDS, got="a damaged one")
    return Picture.from_bgr(np.asarray(pixels, np.uint8))


def size_of(body: bytes) -> tuple[int, int] | None:
    """Read the size of a picture from its header.

    Returns:
        (height, width) in pixels, as stored; None where it is no picture that is read here.
    """
    if not is_picture(body):
        return None
    try:
        if body.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", body, 16)
            return height, width
        return _webp_size(body) if body.startswith(b"RIFF") else _jpeg_size(body)
    except (struct.error, IndexError):  # it ends within its header
        return None


def _jpeg_size(body: bytes) -> tuple[int, int] | None:
    at = 2
    while at < len(body):
        if body[at] != 0xFF:
            return None
        marker = body[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", body, at + 5)
            return height, width
        else:
            at += 2 + struct.unpack_from(">H", body, at + 2)[0]
    return None


def _webp_size(body: bytes) -> tuple[int, int] | None:
    kind = body[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (24, 27))
        return height, width
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", body, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None
