"""StreamClock: turns the times a stream claims into times the pipeline can trust.

Cameras restart, wrap their timestamps and jump; recordings have gaps. What comes out never runs backwards
and never leaps further than time itself went by. Reads no clock: arrival times come in as arguments.
"""

from dataclasses import dataclass

MAX_JUMP_NS = 10_000_000_000
"""A step of the source's own time larger than this, or backwards, is a fault of the stream, not a pause."""

SMOOTHING = 0.05
"""Share of each on-time frame's arrival error that moves the estimate of the stream's wall-clock start."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Times of one frame: since the camera's first frame, and Unix time."""

    pts_ns: int
    time_ns: int


class StreamClock:
    """The clock of one camera, across reconnects.

    Args:
        live: A live source's jumps are bridged by the time that passed on arrival; a recording's by one
            frame period, since it is read as fast as it decodes.
        period_ns: Nominal time between frames, for sources that give no timestamps.
    """

    def __init__(self, *, live: bool, period_ns: int) -> None:
        self._live = live
        self.period_ns = period_ns
        self._source_ns: int | None = None
        self._arrived_ns = 0
        self._pts_ns = 0
        self._start_ns: float | None = None
        self._time_ns = 0

    def reopen(self) -> None:
        """Forget the source's own time: the stream was opened again and counts from anywhere."""
        self._source_ns = None

    def stamp(self, source_ns: int | None, *, arrived_ns: int, wall_ns: int, on_time: bool = True) -> Stamp:
        """Time a frame.

        Args:
            source_ns: The stream's own time of the frame; None when it gives none.
            arrived_ns: Monotonic clock now.
            wall_ns: Unix time now.
            on_time: Whether the reader had to wait for this frame, so that its arrival tells the wall-clock
                time of the stream; a frame read out of a backlog says nothing about it.
        """
        if self._start_ns is None:
            self._start_ns = float(wall_ns)
        else:
            self._pts_ns += self._step(source_ns, arrived_ns)
            if self._live and on_time:
                error = wall_ns - (self._start_ns + self._pts_ns)
                far = abs(error) > MAX_JUMP_NS
                self._start_ns += error if far else SMOOTHING * error
        self._source_ns = source_ns
        self._arrived_ns = arrived_ns
        self._time_ns = max(self._time_ns, int(self._start_ns) + self._pts_ns)
        return Stamp(self._pts_ns, self._time_ns)

    def _step(self, source_ns: int | None, arrived_ns: int) -> int:
        if source_ns is not None and self._source_ns is not None:
            step = source_ns - self._source_ns
            if 0 < step <= MAX_JUMP_NS:
                return step
        return max(arrived_ns - self._arrived_ns, 1) if self._live else self.period_ns
