"""Packets of a camera's stream as they came, before anything decodes them; and who keeps them.

Opens, decodes and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """What a stream is encoded with, without which its packets mean nothing.

    Args:
        init: The beginning of an MP4 file that holds such a stream, up to its first packet; equal bytes mean
            the same codec with the same parameters.
        tick: Seconds of one step of the stream's own clock.
        width: Of its pictures, in pixels.
        height: Of its pictures, in pixels.
        start_codes: Whether the parts of a packet begin with start codes (H.264 and H.265, annex B of both),
            as cameras send them; otherwise with their length, as files hold them.
    """

    init: bytes
    tick: Fraction
    width: int
    height: int
    start_codes: bool = False


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded picture.

    Args:
        data: As the camera sent it.
        pts_ns: The stream's own time at which it is shown.
        dts_ns: The stream's own time at which it is decoded; never after `pts_ns`.
        key: Whether it decodes without any other.
    """

    data: bytes
    pts_ns: int
    dts_ns: int
    key: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A packet on its way into a clip.

    Args:
        packet: The packet.
        header: What it is encoded with.
        shift_ns: To be added to the stream's own times for the source time that frames and events have.
    """

    packet: Packet
    header: StreamHeader
    shift_ns: int

    @property
    def at_ns(self) -> int:
        """Source time of its picture, as in `Frame.pts_ns`."""
        return self.packet.pts_ns + self.shift_ns


class Feed(Protocol):
    """The packets of one clip, from a moment that is past into the future."""

    @property
    def ended(self) -> str:
        """Why nothing more comes after what can be pulled now; empty: more may come."""
        ...

    def end(self, why: str) -> None:
        """Take nothing more in."""
        ...

    @property
    def newest_ns(self) -> int | None:
        """Source time of the newest picture that came, pulled or not; None: none did."""
        ...

    def pull(self) -> Sequence[Piece]:
        """Take what has come since the last call, in the order of decoding."""
        ...

    def close(self) -> None:
        """Want no more. Idempotent."""
        ...


class Tape(Protocol):
    """The last seconds of one camera's stream. Safe to share between threads."""

    @property
    def exact_s(self) -> float:
        """How far the time of its packets may be off from that of the frames; 0: they are one."""
        ...

    @property
    def trouble(self) -> str:
        """Why it keeps nothing at the moment; empty: it does."""
        ...

    def follow(self, pts_ns: int) -> Feed | None:
        """Give the packets from the last key frame at or before a moment on; None: there are none.

        Args:
            pts_ns: Source time. Where it is not kept any more, the feed begins with the oldest key frame.
        """
        ...

    def calm(self) -> Sequence[tuple[int, int]]:
        """Give spans of source time, first to last check, in which the motion gate saw nothing move."""
        ...
