"""A picture's size is told by its header, whatever its maker; damage is an InputError and nothing else."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.errors import InputError, TooLargeError
from edge_runtime.web import picture

SUFFIXES = (".png", ".jpg", ".webp")
OPTIONS = {
    ".png": [[]],
    ".jpg": [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]],
    ".webp": [[cv2.IMWRITE_WEBP_QUALITY, 80], [cv2.IMWRITE_WEBP_QUALITY, 101]],
}


def encode(suffix: str, height: int, width: int, option: int = 0, channels: int = 3) -> bytes:
    pixels = np.arange(height * width * channels, dtype=np.uint32).astype(np.uint8)
    options = OPTIONS[suffix][option % len(OPTIONS[suffix])]
    return cv2.imencode(suffix, pixels.reshape(height, width, channels), options)[1].tobytes()


@given(
    st.sampled_from(SUFFIXES),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(0, 2),
    st.sampled_from([3, 4]),
)
@settings(max_examples=60)
def test_the_header_says_what_the_decoder_finds(
    suffix: str, height: int, width: int, option: int, channels: int
) -> None:
    body = encode(suffix, height, width, option, 3 if suffix == ".jpg" else channels)
    assert picture.size_of(body) == (height, width)
    decoded = picture.decode(body, height * width)
    assert (decoded.height, decoded.width, decoded.planes[0].shape) == (height, width, (height, width, 3))
    with pytest.raises(TooLargeError, match=f"got {width}x{height}"):
        picture.decode(body, height * width - 1)


SAMPLES = [encode(suffix, 40, 30, option) for suffix in SUFFIXES for option in range(len(OPTIONS[suffix]))]


@given(st.sampled_from(SAMPLES), st.data())
def test_damage_is_an_input_error_or_another_picture(body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(body[: data.draw(st.integers(0, len(body)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = picture.decode(bytes(damaged), 10_000)
    except InputError:
        return
    assert decoded.height * decoded.width <= 10_000


@given(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8"]),
)
def test_other_bytes_are_an_input_error(tail: bytes, head: bytes) -> None:
    with pytest.raises(InputError):
        picture.decode(head + tail, 10_000)


def test_a_bomb_is_never_decoded() -> None:
    """A PNG of 100,000 x 100,000 that needs ten gigabytes is refused by its 33 first bytes."""
    size = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size))
    with pytest.raises(TooLargeError, match="got 100000x100000"):
        picture.decode(bomb, 50_000_000)


def test_a_picture_is_turned_as_its_maker_says() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    plain = encode(".jpg", 20, 30)
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    assert picture.size_of(turned) == (20, 30)
    decoded = picture.decode(turned, 1000)
    assert (decoded.height, decoded.width) == (30, 20)
