"""Durations: a distribution of seconds in little memory, that can be added to another one.

Logarithmic buckets, after DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile
sketch with relative-error guarantees", PVLDB 12(12), 2019), without its bound on the number of buckets:
durations have one of their own. Knows no zone and no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, log

from edge_runtime.contract.errors import InputError

RELATIVE_ERROR = 0.02
"""A quantile is at most this share away from the duration that really stands there."""

SHORTEST_S, LONGEST_S = 0.1, 7 * 86400.0
"""Shorter durations share a bucket, and so do longer ones; in between lie 391 of them."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = log(_GAMMA)


class Durations:
    """How many durations fell into each bucket.

    Args:
        buckets: Counts by bucket, as `buckets` gives them; None: nothing yet.

    Raises:
        InputError: A count is negative.
    """

    __slots__ = ("_buckets",)

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self._buckets = {number: count for number, count in (buckets or {}).items() if count}
        if any(count < 0 for count in self._buckets.values()):
            raise InputError(
                "durations", expected="counts of 0 or more", got=str(min(self._buckets.values()))
            )

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Durations":
        """Count some durations."""
        made = cls()
        for each in seconds:
            made.add(each)
        return made

    @classmethod
    def sum(cls, some: Iterable["Durations"]) -> "Durations":
        """Add distributions up; the same as counting all their durations into one."""
        total: dict[int, int] = {}
        for each in some:
            for number, count in each.buckets.items():
                total[number] = total.get(number, 0) + count
        return cls(total)

    @property
    def buckets(self) -> Mapping[int, int]:
        """Counts by bucket; those of empty buckets left out."""
        return self._buckets

    @property
    def count(self) -> int:
        """Durations in all."""
        return sum(self._buckets.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Durations) and self._buckets == other._buckets

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Durations({dict(sorted(self._buckets.items()))})"

    def add(self, seconds: float) -> None:
        """Count a duration; one below zero counts as zero."""
        number = _bucket(seconds)
        self._buckets[number] = self._buckets.get(number, 0) + 1

    def quantile(self, share: float) -> float | None:
        """Give the duration that this share of all durations does not exceed.

        Args:
            share: In [0, 1]; 0.5 is the median: of an even number the lower of the two in the middle.

        Returns:
            Seconds, within `RELATIVE_ERROR`, or `SHORTEST_S`, of a duration that was counted; None: none was.

        Raises:
            InputError: The share is none.
        """
        if not 0 <= share <= 1:
            raise InputError("quantile", expected="a share from 0 to 1", got=f"{share:g}")
        rank = max(ceil(share * self.count), 1)
        passed = 0
        for number, count in sorted(self._buckets.items()):
            passed += count
            if passed >= rank:
                return _middle(number)
        return None

    def between(self, edges_s: Sequence[float]) -> tuple[int, ...]:
        """Count durations between edges; one within `RELATIVE_ERROR` of an edge may be on its other side.

        Args:
            edges_s: Rising, in seconds.

        Returns:
            One count more than edges: below the first, …, from the last on.
        """
        counts = [0] * (len(edges_s) + 1)
        for number, count in self._buckets.items():
            counts[sum(_middle(number) >= edge for edge in edges_s)] += count
        return tuple(counts)


def _bucket(seconds: float) -> int:
    """Bucket k holds the durations in (SHORTEST_S γ^(k-1), SHORTEST_S γ^k]; bucket 0 all shorter ones."""
    within = min(max(seconds, SHORTEST_S), LONGEST_S)
    return ceil(log(within / SHORTEST_S) / _LOG_GAMMA)


def _middle(number: int) -> float:
    """Give the duration that is equally far, as a share, from both ends of a bucket."""
    return SHORTEST_S / 2 if number == 0 else SHORTEST_S * 2 * _GAMMA**number / (_GAMMA + 1)
