"""How many bytes and tokens the cloud may cost: never more than the limit in any hour.

A ledger of minutes rather than a bucket that refills: a full bucket lets twice its size through in the first
hour. Pure: `now` comes in. Not thread-safe.
"""

from collections import deque

from edge_runtime.contract.errors import ConfigError

HOUR_S = 3600.0
_MINUTE_S = 60.0


class HourlyBudget:
    """A limit on what is spent in an hour.

    What is spent counts until a full hour after the end of its minute, so that the limit holds for every
    span of sixty minutes, not only for those on the clock.

    Args:
        limit: Of an hour, in any unit; 0: nothing may be spent.
    """

    def __init__(self, limit: float) -> None:
        if not limit >= 0:
            raise ConfigError("cloud: an hourly limit", expected="0 or more", got=f"{limit:g}")
        self._limit = limit
        self._minutes: deque[tuple[int, float]] = deque()
        self._spent = 0.0

    def left(self, now_s: float) -> float:
        """Say how much may be spent now; below 0 where more was charged than there was.

        Args:
            now_s: Monotonic seconds.
        """
        self._forget(now_s)
        return self._limit - self._spent

    def take(self, amount: float, now_s: float) -> bool:
        """Spend an amount if it is there.

        Args:
            amount: 0 or more.
            now_s: Monotonic seconds.

        Returns:
            Whether it was spent.
        """
        if not 0 <= amount <= self.left(now_s):
            return False
        self.charge(amount, now_s)
        return True

    def charge(self, amount: float, now_s: float) -> None:
        """Write down what has been spent already, as the tokens of an answer, whether or not it was there."""
        minute = int(now_s // _MINUTE_S)
        if self._minutes and self._minutes[-1][0] >= minute:
            last, spent = self._minutes.pop()
            self._minutes.append((last, spent + amount))
        else:
            self._minutes.append((minute, amount))
        self._spent += amount

    def free_at_s(self, amount: float, now_s: float) -> float | None:
        """Say when an amount will be there if nothing else is spent; None: it is over the limit itself."""
        if amount > self._limit:
            return None
        left = self.left(now_s)
        if amount <= left:
            return now_s
        for minute, spent in self._minutes:
            left += spent
            if amount <= left:
                return _free_s(minute)
        return _free_s(self._minutes[-1][0])

    def _forget(self, now_s: float) -> None:
        while self._minutes and _free_s(self._minutes[0][0]) <= now_s:
            self._minutes.popleft()
            # Summed anew, because a running sum of floats drifts over months.
            self._spent = sum(spent for _, spent in self._minutes)


def _free_s(minute: int) -> float:
    return (minute + 1) * _MINUTE_S + HOUR_S
