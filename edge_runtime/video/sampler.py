"""Sampler: which frames are due at a target rate, by source time. Reads no clock."""


class Sampler:
    """Picks frames at `fps` a second on average, whatever the source's own rate.

    Args:
        fps: Target rate; None or at least the source's rate: every frame.
    """

    def __init__(self, fps: float | None) -> None:
        self._period_ns = 0 if fps is None else round(1e9 / fps)
        self._next_ns: int | None = None

    def due(self, pts_ns: int) -> bool:
        """Tell whether the frame at this source time is to be inferred."""
        if self._next_ns is None:
            self._next_ns = pts_ns
        # An eighth of a period of tolerance: a source whose frames jitter by a millisecond keeps its rate.
        if pts_ns + self._period_ns // 8 < self._next_ns:
            return False
        self._next_ns += self._period_ns
        if self._next_ns <= pts_ns:  # after a gap there is nothing to catch up with
            self._next_ns = pts_ns + self._period_ns
        return True
