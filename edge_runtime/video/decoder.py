"""Decoder: a video stream's packets to pictures; and, while nothing moves, only its key frames.

Dozing loses nothing: the packets since the last key frame are kept, and a reader that sees something new in a
key frame wakes the decoder, which then gives every picture since the one before. It opens no stream, waits
for no packet and does not know what moves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeAlias, cast

import av
import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from edge_runtime.contract.frame import Picture
from edge_runtime.video.decode import to_picture

Packet: TypeAlias = "av.Packet[VideoStream]"

MAX_KEPT_BYTES = 8 * 2**20
"""Packets kept while dozing: 16 s of a 4 Mbit/s stream. One with fewer key frames is decoded all the time."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One step of reading a source.

    Args:
        picture: The pixels; None for a packet that did not decode, or was not decoded.
        source_ns: The stream's own time; None when it gives none.
        on_time: Whether reading it meant waiting for the camera.
        glance: This key frame was decoded out of turn, while dozing: wake the decoder if anything in it is
            new, and it comes again in its turn.
        passed: Frames that dozing passed over for good; None when this step is about a picture.
    """

    picture: Picture | None
    source_ns: int | None
    on_time: bool
    glance: bool = False
    passed: int | None = None


class Decoder:
    """Decodes the packets of one stream.

    Args:
        stream: Open, with its decoder's options set.
        timed: Whether its times are the camera's; otherwise pictures come without.
        key_only: Decode key frames only, each by itself: a decoder holds pictures back to put them in order,
            and with key frames alone that would be seconds.
    """

    def __init__(self, stream: VideoStream, *, timed: bool = True, key_only: bool = False) -> None:
        self._stream = stream
        self._timed = timed
        self._key_only = key_only
        self._kept: list[Packet] = []
        self._kept_bytes = 0
        self._shown = False
        """Whether the first packet kept, always a key frame, was shown already."""
        self._dozing = False
        self._may_doze = True
        self._glancer: VideoCodecContext | None = None

    def doze(self, wanted: bool) -> None:
        """Ask for key frames only, from the next one on; or for everything again, at once."""
        self._dozing = wanted and self._may_doze

    def decode(self, packet: Packet, *, on_time: bool) -> Iterator[Decoded]:
        """Decode a packet, or keep it while dozing.

        Args:
            packet: The next one of the stream.
            on_time: Whether reading it meant waiting for the camera.
        """
        if self._key_only:
            if packet.is_keyframe and packet.size:
                yield Decoded(self._alone(packet), self._time_ns(packet), on_time)
            return
        asleep = bool(self._kept)
        if not asleep and not (self._dozing and packet.is_keyframe):
            yield from self._pictures(packet, on_time=on_time)
            return
        if not packet.size:  # the demuxer's word that the stream is over; `end` follows
            return
        if not asleep:  # falls asleep at a key frame; what the decoder held back to put in order comes first
            yield from self._pictures(None, on_time=on_time)
        if self._dozing and packet.is_keyframe:
            yield from self._glance(packet, on_time=on_time)
        self._keep(packet)
        if self._dozing and self._kept_bytes > MAX_KEPT_BYTES:
            self._dozing = self._may_doze = False
        if self._dozing:
            yield Decoded(None, None, on_time, passed=0)
        else:
            yield from self._replay()

    def end(self) -> Iterator[Decoded]:
        """Say how many frames were passed over when the stream ends while dozing."""
        if self._kept:
            yield Decoded(None, None, on_time=False, passed=len(self._kept) - self._shown)
            self._forget()

    def _glance(self, packet: Packet, *, on_time: bool) -> Iterator[Decoded]:
        """Show a key frame by itself; unless that wakes the decoder, nothing before it matters any more."""
        yield Decoded(self._alone(packet), self._time_ns(packet), on_time, glance=True)
        if self._dozing:
            passed = len(self._kept) - self._shown
            self._forget()
            self._shown = True
            yield Decoded(None, None, on_time, passed=passed)

    def _alone(self, packet: Packet) -> Picture | None:
        glancer = self._glancer
        if glancer is None:
            own = self._stream.codec_context
            glancer = cast("VideoCodecContext", av.CodecContext.create(own.codec.name, "r"))
            self._glancer = glancer
            glancer.extradata = own.extradata
            glancer.thread_count = 1
        try:
            frames = [*glancer.decode(packet), *glancer.decode(None)]
        except av.error.FFmpegError:
            return None
        finally:
            glancer.flush_buffers()
        return to_picture(frames[-1]) if frames and not frames[-1].is_corrupt else None

    def _keep(self, packet: Packet) -> None:
        self._kept.append(packet)
        self._kept_bytes += packet.size

    def _forget(self) -> None:
        self._kept, self._kept_bytes, self._shown = [], 0, False

    def _replay(self) -> Iterator[Decoded]:
        kept, shown = self._kept, self._shown
        self._forget()
        self._stream.codec_context.flush_buffers()
        pictures = chain.from_iterable(self._pictures(packet, on_time=False) for packet in kept)
        yield from islice(pictures, int(shown), None)

    def _pictures(self, packet: "Packet | None", *, on_time: bool) -> Iterator[Decoded]:
        try:
            frames = self._stream.decode(packet)
        except av.error.FFmpegError:
            yield Decoded(None, None, on_time)
            return
        for frame in frames:
            picture = None if frame.is_corrupt else to_picture(frame)
            yield Decoded(picture, self._time_ns(frame), on_time)

    def _time_ns(self, what: "Packet | av.VideoFrame") -> int | None:
        if not self._timed or what.pts is None or what.time_base is None:
            return None
        return int(what.pts * what.time_base * 1_000_000_000)
