"""A token bucket: how long to wait so that a download stays under its cap. Pure: `now_s` comes in."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """Lets bytes through at a rate; a second's worth may come at once.

    Args:
        bytes_per_s: The cap; None: there is none.
        now_s: When it starts, full.
    """

    bytes_per_s: float | None
    now_s: float
    _level: float = field(init=False)

    def __post_init__(self) -> None:
        self._level = self.bytes_per_s or 0.0

    def take(self, count: int, now_s: float) -> float:
        """Count bytes that came.

        Args:
            count: How many.
            now_s: On a clock that never goes back.

        Returns:
            Seconds to wait before the next ones.
        """
        if self.bytes_per_s is None:
            return 0.0
        passed = max(0.0, now_s - self.now_s)
        self._level = min(self.bytes_per_s, self._level + passed * self.bytes_per_s) - count
        self.now_s = max(self.now_s, now_s)
        return max(0.0, -self._level / self.bytes_per_s)
