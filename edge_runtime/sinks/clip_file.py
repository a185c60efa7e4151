"""One clip being written: the packets as they came, or decoded, with parts made unrecognizable, and encoded.

Names PyAV; knows no event, no camera and no rule. The file is fragmented, so that a part of it needs no end.
"""

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.contract.packet import Piece, StreamHeader

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "fflags": "+flush_packets"}

_KEYFRAME_NS = 2_000_000_000
_JUMP_NS = 500_000_000
_START_CODE = b"\x00\x00\x01"

Packets: TypeAlias = "list[av.Packet[VideoStream]]"

Hide: TypeAlias = Callable[[Picture, int], Picture]
"""Gives an I420 picture, of which it may change the planes, without what nobody may see at a source time."""


class CopiedClip:
    """A clip of packets as they came.

    Args:
        path: Of the file, which is replaced.
        header: What the packets are encoded with.

    Raises:
        OSError: The disk does not take it; from every method.
    """

    def __init__(self, path: Path, header: StreamHeader) -> None:
        self._header = header
        self._stream = _template(header)
        self._output = av.open(str(path), "w", format="mp4", options=FRAGMENTED)
        self._track = self._output.add_stream_from_template(self._stream)
        # Before there is anything to close: FFmpeg crashes on closing a file whose header the disk refused.
        self._output.start_encoding()
        self._start_ns: int | None = None
        """What the stream's own time is where the clip's is 0."""
        self._shift_ns = 0
        self._last = -1
        self.bytes = 0

    def add(self, piece: Piece) -> None:
        """Add the next packet, in the order of decoding; the first is a key frame."""
        packet = _av_packet(piece)
        if self._start_ns is None:
            self._start_ns = piece.packet.dts_ns
            self._shift_ns = piece.shift_ns
        # Arrival tells the time of a main stream ever more exactly, which must not make its pictures stutter.
        if abs(piece.shift_ns - self._shift_ns) > _JUMP_NS:
            self._start_ns -= piece.shift_ns - self._shift_ns
            self._shift_ns = piece.shift_ns
        packet.time_base = self._header.tick
        # Two runs of one stream may meet here: their times need not fit to the tick.
        self._last = max(self._last + 1, _ticks(piece.packet.dts_ns - self._start_ns, self._header.tick))
        packet.dts = self._last
        packet.pts = max(self._last, _ticks(piece.packet.pts_ns - self._start_ns, self._header.tick))
        packet.stream = self._track
        self._output.mux(packet)
        self.bytes += len(piece.packet.data)

    def close(self) -> None:
        """Finish the file."""
        self._output.close()


class HiddenClip:
    """A clip that is decoded, changed and encoded again: H.264 where this PyAV has x264, else MPEG-4.

    Args:
        path: Of the file, which is replaced.
        header: What the packets are encoded with.
        hide: Called for every picture.

    Raises:
        OSError: The disk does not take it; from every method.
    """

    def __init__(self, path: Path, header: StreamHeader, hide: Hide) -> None:
        self._hide = hide
        self._decoder = _template(header).codec_context
        self._decoder.thread_count = 1
        self._output = av.open(str(path), "w", format="mp4", options=FRAGMENTED)
        self._track = _encoder(self._output, header)
        self._tick = self._track.codec_context.time_base or header.tick
        self._output.start_encoding()
        self._first_ns: int | None = None
        self._last = -1
        self._key_ns = 0
        self.bytes = 0

    def add(self, piece: Piece) -> None:
        """Add the next packet, in the order of decoding; the first is a key frame."""
        packet = _av_packet(piece)
        packet.time_base = Fraction(1, 1_000_000_000)
        packet.pts, packet.dts = piece.at_ns, piece.packet.dts_ns + piece.shift_ns
        self._encode(packet)

    def close(self) -> None:
        """Finish the file."""
        try:
            self._encode(None)
            self._mux(cast("Packets", self._track.encode(None)))
        finally:
            self._output.close()

    def _encode(self, packet: "av.Packet[VideoStream] | None") -> None:
        try:
            frames = self._decoder.decode(packet)
        except av.error.InvalidDataError:  # what got lost on the way; the next key frame mends it
            return
        for frame in frames:
            if frame.pts is None or frame.is_corrupt:
                continue
            at_ns = frame.pts
            self._first_ns = at_ns if self._first_ns is None else self._first_ns
            shown = self._shown(frame, at_ns)
            self._last = max(self._last + 1, _ticks(at_ns - self._first_ns, self._tick))
            shown.pts, shown.time_base = self._last, self._tick
            if at_ns >= self._key_ns:
                shown.pict_type = PictureType.I
                self._key_ns = at_ns + _KEYFRAME_NS
            self._mux(cast("Packets", self._track.encode(shown)))

    @property
    def empty(self) -> bool:
        """Whether not one picture was decoded so far."""
        return self._first_ns is None

    def _shown(self, frame: av.VideoFrame, at_ns: int) -> av.VideoFrame:
        width, height = self._track.width, self._track.height
        full = frame.format.name.startswith("yuvj")
        name = "yuvj420p" if full else "yuv420p"
        fitted = frame.reformat(width=width, height=height, format=name)
        planes = cast("np.ndarray[Any, np.dtype[np.uint8]]", fitted.to_ndarray())
        blue, red = planes[height:].reshape(2, height // 2, width // 2)
        form = PixelFormat.I420_FULL if full else PixelFormat.I420
        hidden = self._hide(Picture(form, (planes[:height], blue, red), height, width), at_ns)
        joined = np.concatenate([plane.reshape(-1) for plane in hidden.planes]).reshape(-1, width)
        return av.VideoFrame.from_ndarray(cast(Any, joined), format=name)

    def _mux(self, packets: "Packets") -> None:
        self.bytes += sum(packet.size for packet in packets)
        self._output.mux(packets)


def _template(header: StreamHeader) -> VideoStream:
    return av.open(io.BytesIO(header.init), format="mp4").streams.video[0]


def _encoder(output: OutputContainer, header: StreamHeader) -> VideoStream:
    x264 = "libx264" in av.codecs_available
    options = {"preset": "veryfast", "crf": "25"} if x264 else {"qscale": "4"}
    track = output.add_stream("libx264" if x264 else "mpeg4", options=options)
    track.width, track.height = header.width // 2 * 2, header.height // 2 * 2
    track.pix_fmt = "yuv420p"
    tick = header.tick if x264 else max(header.tick, Fraction(1, 60_000))
    track.codec_context.time_base = tick
    track.codec_context.thread_count = 1
    # Fragments have no edit list, which would take back the delay that B-frames bring.
    track.codec_context.max_b_frames = 0
    return track


def _av_packet(piece: Piece) -> "av.Packet[VideoStream]":
    data = piece.packet.data
    parts = b"".join(_with_lengths(data)) if piece.header.start_codes else data
    packet = cast("av.Packet[VideoStream]", av.Packet(parts))
    packet.is_keyframe = piece.packet.key
    return packet


def _with_lengths(data: bytes) -> Iterator[bytes]:
    """Give the parts of a packet with their length in front instead of a start code (ISO 14496-15)."""
    at = data.find(_START_CODE)
    while at >= 0:
        after = data.find(_START_CODE, at + 3)
        # Zeros before a start code belong to it, or to nothing; no part ends with one (H.264, 7.4.1).
        part = data[at + 3 : after if after >= 0 else len(data)].rstrip(b"\x00")
        yield len(part).to_bytes(4, "big")
        yield part
        at = after


def _ticks(time_ns: int, tick: Fraction) -> int:
    return round(time_ns / (tick * 1_000_000_000))
