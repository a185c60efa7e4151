"""Tapping: what an open stream sends, handed to a tape as it comes. Decodes nothing and waits for nothing.

A packet's bytes are copied once, here, out of FFmpeg's buffers.
"""

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias, cast

import av
import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from edge_runtime.contract.packet import Packet, StreamHeader
from edge_runtime.video.tape import StreamTape

Demuxed: TypeAlias = "av.Packet[VideoStream]"

FRAGMENTED = {"movflags": "empty_moov+default_base_moof"}
"""The header comes first, whole, without a packet."""

WITH_PARAMETERS = frozenset({"h264", "hevc"})
"""Codecs whose packets mean nothing without what their stream says at its beginning."""

UNSAID_DELAY = 2
"""Periods between decoding and showing a picture where a stream says only when it is shown: RTP does not say
more, and FFmpeg finds out after some packets."""

MAX_EARLY = 32
"""Packets without any time that are kept until one has a time."""


class Tapping:
    """One stream from opening it to its end.

    Args:
        tape: Keeps the packets.
        stream: Open.
        timed: Whether its times are the camera's; otherwise a packet's time is its arrival, on the monotonic
            clock.
        period_ns: Nominal time between pictures.
    """

    def __init__(self, tape: StreamTape, stream: VideoStream, *, timed: bool, period_ns: int) -> None:
        self._tape = tape
        self._timed = timed
        self._period_ns = period_ns
        self._dts_ns: int | None = None
        self._early: list[tuple[bytes, bool]] = []
        """Packets from before the first one that has a time, and whether they are key frames."""
        self._nanoseconds = Fraction(0) if stream.time_base is None else stream.time_base * 1_000_000_000
        header = header_of(stream, timed=timed)
        self._refused = isinstance(header, str)
        if isinstance(header, str):
            tape.refuse(header)
        else:
            tape.begin(header)

    def take(self, packet: Demuxed) -> Sequence[Packet]:
        """Hand a packet on.

        Returns:
            What was handed on: that packet; none where it holds no picture, or cannot be kept; and those
            before it, too, where it is the first one that has a time.
        """
        if self._refused or not packet.size:
            return ()
        if self._timed and packet.pts is None and packet.dts is None and self._dts_ns is None:
            self._early.append((_bytes(packet), packet.is_keyframe))
            del self._early[:-MAX_EARLY]
            return ()
        if self._timed:
            dts_ns, pts_ns = self._times(packet)
        else:
            dts_ns = pts_ns = time.monotonic_ns()
        early = self._untimed_before(dts_ns, pts_ns) if self._early else ()
        kept = (*early, Packet(_bytes(packet), pts_ns, dts_ns, packet.is_keyframe))
        self._dts_ns = dts_ns
        for one in kept:
            self._tape.put(one)
        return kept

    def through(self, packets: Iterable[Demuxed]) -> Iterator[Packet]:
        """Hand packets on, and give those that hold a picture."""
        return (kept for packet in packets for kept in self.take(packet))

    def _untimed_before(self, dts_ns: int, pts_ns: int) -> tuple[Packet, ...]:
        """Time the packets that came without, each a period before the next."""
        early, self._early = self._early, []
        steps = range(len(early) * self._period_ns, 0, -self._period_ns)
        return tuple(
            Packet(data, pts_ns - step, min(dts_ns, pts_ns) - step, key)
            for (data, key), step in zip(early, steps, strict=True)
        )

    def _times(self, packet: Demuxed) -> tuple[int, int]:
        """Give dts and pts; what a stream leaves out follows from what came before."""
        pts, dts = packet.pts, packet.dts
        pts_ns = None if pts is None else int(pts * self._nanoseconds)
        if dts is not None:
            dts_ns = int(dts * self._nanoseconds)
        elif pts_ns is not None:
            dts_ns = pts_ns - UNSAID_DELAY * self._period_ns
        else:
            dts_ns = (self._dts_ns or 0) + self._period_ns
        if pts_ns is None:
            return dts_ns, dts_ns
        return min(dts_ns, pts_ns), pts_ns


def _bytes(packet: Demuxed) -> bytes:
    # A packet speaks the buffer protocol, which its type does not say.
    return bytes(cast("memoryview", packet))


def header_of(stream: VideoStream, *, timed: bool) -> StreamHeader | str:
    """Describe a stream so that its packets can be used without it, or say why they cannot be kept.

    Args:
        stream: Open.
        timed: As for `Tapping`.
    """
    context = cast("VideoCodecContext | None", stream.codec_context)
    codec = "its codec" if context is None else context.name
    parameters = b"" if context is None else context.extradata or b""
    if codec in WITH_PARAMETERS and not parameters:
        return f"the camera has not said what its {codec} is encoded with"
    written = io.BytesIO()
    try:
        output = av.open(written, "w", format="mp4", options=FRAGMENTED)
        output.add_stream_from_template(stream)
        output.start_encoding()
        init = written.getvalue()
        output.close()
    except (av.error.FFmpegError, ValueError) as error:
        return f"MP4 cannot hold {codec} as it comes ({getattr(error, 'strerror', None) or error})"
    tick = stream.time_base if timed and stream.time_base is not None else Fraction(1, 90_000)
    return StreamHeader(
        init,
        tick,
        stream.width,
        stream.height,
        start_codes=codec in WITH_PARAMETERS and parameters[0] != 1,
    )
