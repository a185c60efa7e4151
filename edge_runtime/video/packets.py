"""Ring: the last seconds of one stream's packets, always from a key frame on. Pure.

Bounded in seconds and in bytes, whatever a camera sends; groups of pictures leave it whole, the oldest first.
It copies no packet, decodes nothing, and reads no clock: times are the stream's own, and `anchor` says what
they are in the pipeline's.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.contract.packet import Packet, Piece, StreamHeader

MAX_STEP_NS = 10_000_000_000
"""A step of the stream's own time larger than this, or far backwards, begins a new run."""

REORDER_NS = 2_000_000_000
"""A picture may be shown this much before packets of its run that were read earlier; and where a stream says
nothing of decoding times, those that were guessed may be wrong by as much."""


@dataclass(slots=True)
class _Run:
    """Packets in a row whose own times belong together: from opening a stream, or a jump, to the next."""

    header: StreamHeader
    first_ns: int
    last_ns: int
    shift_ns: int | None = None


@dataclass(slots=True)
class _Group:
    """A key frame, and what is decoded after it up to the next one."""

    run: _Run
    began_ns: int
    """On the ring's own clock, which never jumps."""
    packets: list[Packet]
    bytes: int = 0


class Ring:
    """The last packets of one stream.

    Args:
        seconds: Kept at least, where `max_bytes` allows it: the oldest group goes when those after it are
            this long.
        max_bytes: Kept at most, all packets together.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._keep_ns = round(seconds * 1e9)
        self._max_bytes = max_bytes
        self._groups: deque[_Group] = deque()
        self._header: StreamHeader | None = None
        self._run: _Run | None = None
        self._clock_ns = self._dts_ns = 0
        self._runs = 0
        self.bytes = 0
        """Of all packets that are kept."""
        self.skipping = True
        """Whether packets are passed over until the next key frame."""

    @property
    def run(self) -> int:
        """Number of the run that the newest packet is in; changes where its times do not go on."""
        return self._runs

    def clear(self) -> None:
        """Forget every packet, and what was said of times."""
        self._groups.clear()
        self._run = None
        self.bytes = 0
        self.skipping = True

    def begin(self, header: StreamHeader) -> None:
        """Go on with a stream that was opened anew; its own times may count from anywhere."""
        self._header, self._run = header, None
        self.skipping = True

    def put(self, packet: Packet) -> bool:
        """Keep a packet, and let go of the oldest.

        Returns:
            Whether it is kept: not before the stream's first key frame.
        """
        if self._header is None:
            return False
        run = self._go_on(self._header, packet)
        if packet.key:
            self._groups.append(_Group(run, self._clock_ns, []))
            self.skipping = False
        if self.skipping:
            return False
        self._groups[-1].packets.append(packet)
        self._groups[-1].bytes += len(packet.data)
        self.bytes += len(packet.data)
        self._let_go()
        return not self.skipping

    def anchor(self, source_ns: int, pts_ns: int) -> None:
        """Say what a time of the stream is in the pipeline.

        Args:
            source_ns: The stream's own time of a picture that was read lately.
            pts_ns: Its source time, as in `Frame.pts_ns`.
        """
        run = self._run
        if run is None or not run.first_ns - REORDER_NS <= source_ns <= run.last_ns + REORDER_NS:
            runs = (group.run for group in reversed(self._groups))
            run = next((run for run in runs if run.first_ns <= source_ns <= run.last_ns), None)
        if run is not None:
            run.shift_ns = pts_ns - source_ns

    def since(self, pts_ns: int) -> Iterator[Piece]:
        """Give what is kept from the last key frame at or before a moment on, else from the oldest on.

        Args:
            pts_ns: Source time. Runs that nobody has anchored are left out.
        """
        timed = [group for group in self._groups if group.run.shift_ns is not None]
        first = 0
        for index, group in enumerate(timed):
            if group.packets[0].pts_ns + (group.run.shift_ns or 0) <= pts_ns:
                first = index
        for group in timed[first:]:
            for packet in group.packets:
                yield Piece(packet, group.run.header, group.run.shift_ns or 0)

    def newest(self) -> Iterator[Piece]:
        """Give what is kept of the newest run; nothing where it is not anchored."""
        for group in self._groups:
            if group.run is self._run and group.run.shift_ns is not None:
                for packet in group.packets:
                    yield Piece(packet, group.run.header, group.run.shift_ns)

    def piece(self, packet: Packet) -> Piece | None:
        """Give the newest packet as a clip wants it; None where its run is not anchored yet."""
        if self._run is None or self._run.shift_ns is None:
            return None
        return Piece(packet, self._run.header, self._run.shift_ns)

    def _go_on(self, header: StreamHeader, packet: Packet) -> _Run:
        run = self._run
        step = MAX_STEP_NS + 1 if run is None else packet.dts_ns - self._dts_ns
        self._dts_ns = packet.dts_ns
        if run is None or not -REORDER_NS <= step <= MAX_STEP_NS:
            self.skipping = True
            self._runs += 1
            run = self._run = _Run(header, packet.pts_ns, packet.pts_ns)
            return run
        self._clock_ns += max(0, step)
        run.last_ns = max(run.last_ns, packet.pts_ns)
        return run

    def _let_go(self) -> None:
        while len(self._groups) > 1 and (
            self.bytes > self._max_bytes or self._clock_ns - self._groups[1].began_ns >= self._keep_ns
        ):
            self.bytes -= self._groups.popleft().bytes
        if self.bytes > self._max_bytes:
            self._groups.clear()
            self.bytes = 0
            self.skipping = True
