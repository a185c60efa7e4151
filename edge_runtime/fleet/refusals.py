"""Counts what was refused, and says which refusals the manager is told of. Pure: `now_s` comes in.

A flood of bad messages must not become a flood of events.
"""

from collections import Counter
from collections.abc import Mapping

from edge_runtime.contract.update import Failure

_AT_ONCE = 5
_EVERY_S = 60.0


class Refusals:
    """For each code, a few at once and then one a minute are told; the next one says how many were not."""

    def __init__(self) -> None:
        self._counts: Counter[Failure] = Counter()
        self._untold: Counter[Failure] = Counter()
        self._levels: dict[Failure, tuple[float, float]] = {}

    def note(self, code: Failure, now_s: float) -> int | None:
        """Count a refusal.

        Args:
            code: Why.
            now_s: On a clock that never goes back.

        Returns:
            How many before it were not told; None: this one is not to be told either.
        """
        self._counts[code] += 1
        level, then_s = self._levels.get(code, (float(_AT_ONCE), now_s))
        level = min(float(_AT_ONCE), level + max(0.0, now_s - then_s) / _EVERY_S)
        told = level >= 1.0
        self._levels[code] = level - told, now_s
        if not told:
            self._untold[code] += 1
            return None
        return self._untold.pop(code, 0)

    @property
    def counts(self) -> Mapping[Failure, int]:
        """How many there were of each code, told or not."""
        return dict(self._counts)
