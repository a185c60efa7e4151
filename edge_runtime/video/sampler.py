"""Sampler: which frames are due at a target rate, by source time. Reads no clock."""


class Sampler:
    """Picks frames at `fps` a second on average, whatever the source's own rate.

    Args:
        fps: Target rate; None or at least the source's rate: every frame.
        longest_s: However slow it is made, frames are no further apart than this; None: as far as it gets.
    """

    def __init__(self, fps: float | None, longest_s: float | None = None) -> None:
        self._usual_ns = 0 if fps is None else round(1e9 / fps)
        self._longest_ns = None if longest_s is None else round(longest_s * 1e9)
        self._period_ns = self._usual_ns
        self._next_ns: int | None = None

    def slow(self, share: float, source_ns: int) -> None:
        """Pick only a share of the frames from now on.

        Args:
            share: In (0, 1]; 1: the target rate.
            source_ns: Between two frames of the source, for where every frame is picked.
        """
        if share >= 1:
            self._period_ns = self._usual_ns
            return
        usual_ns = max(self._usual_ns, source_ns)
        slower_ns = round(usual_ns / share)
        if self._longest_ns is not None:
            slower_ns = max(usual_ns, min(slower_ns, self._longest_ns))
        self._period_ns = slower_ns

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
