"""How long the cloud has been taking, and how long the device will take.

Both forget: what was measured long ago is not known any more, so that nobody stays shut out for having
been slow once. Pure: `now` comes in. Not thread-safe.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

FORGET_S = 300.0
_WEIGHT = 0.2
"""Of the newest measurement in the average; about the last ten count."""


class LatencyWindow:
    """Quantiles of the last calls.

    Args:
        forget_s: Older calls do not count.
        most: Calls kept at most, the newest.
    """

    def __init__(self, forget_s: float = FORGET_S, most: int = 256) -> None:
        self._forget_s = forget_s
        self._most = most
        self._calls: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []

    def add(self, took_ms: float, now_s: float) -> None:
        """Take in a call.

        Args:
            took_ms: From the request to the answer; of a call that was given up, the time until then.
            now_s: Monotonic seconds, at its end.
        """
        self._calls.append((now_s, took_ms))
        insort(self._sorted, took_ms)
        self._forget(now_s)

    def quantile_ms(self, share: float, now_s: float, *, at_least: int = 1) -> float | None:
        """Give the time that a share of the calls needed at most.

        Args:
            share: In [0, 1]; 0.5 is the median.
            now_s: Monotonic seconds.
            at_least: None on fewer calls: a p95 of three calls is no p95.
        """
        self._forget(now_s)
        count = len(self._sorted)
        if count < max(1, at_least):
            return None
        # The smallest value that at least this share of the calls does not exceed.
        return self._sorted[max(0, min(count - 1, -int(-share * count // 1) - 1))]

    def _forget(self, now_s: float) -> None:
        while self._calls and (len(self._calls) > self._most or self._calls[0][0] <= now_s - self._forget_s):
            _, took_ms = self._calls.popleft()
            del self._sorted[bisect_left(self._sorted, took_ms)]


@dataclass(slots=True)
class _Average:
    ms: float
    at_s: float


class LocalPredictor:
    """How long the device will take, by variant.

    Args:
        receipts_ms: By variant, what its receipt says; used until it is measured here, and when that was long
            ago.
        forget_s: Older measurements do not count.
    """

    def __init__(self, receipts_ms: Mapping[str, float] | None = None, forget_s: float = FORGET_S) -> None:
        self._receipts_ms = dict(receipts_ms or {})
        self._forget_s = forget_s
        self._averages: dict[str, _Average] = {}

    def add(self, variant: str, ran_ms: float, now_s: float) -> None:
        """Take in a run.

        Args:
            variant: Its id.
            ran_ms: Without the wait in the queue.
            now_s: Monotonic seconds, at its end.
        """
        known = self._known(variant, now_s)
        if known is None:
            self._averages[variant] = _Average(ran_ms, now_s)
        else:
            known.ms += _WEIGHT * (ran_ms - known.ms)
            known.at_s = now_s

    def predict_ms(self, variant: str, queue: int, now_s: float, *, workers: int = 1) -> float | None:
        """Say how long an answer will take from now.

        Args:
            variant: Its id.
            queue: Requests before this one, those that run now included.
            now_s: Monotonic seconds.
            workers: That work on the queue at once.

        Returns:
            Time in the queue and the run; None: nothing is known of the variant.
        """
        known = self._known(variant, now_s)
        ms = known.ms if known else self._receipts_ms.get(variant)
        return None if ms is None else ms * (1 + queue / workers)

    def _known(self, variant: str, now_s: float) -> _Average | None:
        known = self._averages.get(variant)
        return known if known and now_s - known.at_s < self._forget_s else None
