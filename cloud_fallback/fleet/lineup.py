"""Who of a rollout is next, how much may be sent, and who has been silent for too long.

Heaps whose entries may be out of date: an entry counts only while its member still has the time in it. So the
members alone are the state, and a replica that builds these again from them goes on in the same order. Pure.
"""

import heapq
from collections.abc import Callable
from math import inf

from cloud_fallback.fleet.standing import Member

_MINUTE_S = 60
_HOUR_S = 3600


class Lineup:
    """Devices in the order of a time of theirs, then of the deployment's hash.

    Args:
        time_of: Gives the time; None: it is not in the lineup.
        rank_of: Place among those with the same time.
        members: All of them, by name; the owner changes it.
    """

    def __init__(
        self,
        time_of: Callable[[Member], float | None],
        rank_of: Callable[[str], int],
        members: dict[str, Member],
    ) -> None:
        self._time_of = time_of
        self._rank_of = rank_of
        self._members = members
        self._heap: list[tuple[float, int, str]] = []

    def add(self, member: Member) -> None:
        """Line a device up at its present time, if it has one."""
        at_s = self._time_of(member)
        if at_s is not None:
            heapq.heappush(self._heap, (at_s, self._rank_of(member.device), member.device))

    def first(self) -> tuple[float, Member] | None:
        """Give the one whose turn it is, and when it is; None: nobody's."""
        while self._heap:
            at_s, _, device = self._heap[0]
            member = self._members[device]
            if self._time_of(member) == at_s:
                return at_s, member
            heapq.heappop(self._heap)
        return None


class Spending:
    """Bytes of the last hour, by minute.

    What is spent counts until a full hour after the end of its minute, so that the limit holds for every span
    of sixty minutes, not only for those on the clock.

    Args:
        limit_bytes: Of an hour; None: there is none.
        spent: By minutes since 1970, as `spent` gave it.
    """

    def __init__(self, limit_bytes: int | None, spent: tuple[tuple[int, int], ...] = ()) -> None:
        self._limit_bytes = limit_bytes
        self.spent = spent
        """By minute, in order."""

    def free_at(self, size_bytes: int, now_s: float) -> float:
        """Say from when on so much may be spent; infinity: it is more than an hour's."""
        if self._limit_bytes is None:
            return now_s
        counting = [(minute, each) for minute, each in self.spent if _free_s(minute) > now_s]
        total = sum(each for _, each in counting)
        if total + size_bytes <= self._limit_bytes:
            return now_s
        for minute, each in counting:
            total -= each
            if total + size_bytes <= self._limit_bytes:
                return float(_free_s(minute))
        return inf

    def charge(self, size_bytes: int, now_s: float) -> None:
        """Write down what is spent."""
        if self._limit_bytes is None or size_bytes == 0:
            return
        # A replica whose clock is a little behind the last one's adds to that one's minute.
        minute = max(int(now_s // _MINUTE_S), self.spent[-1][0] if self.spent else 0)
        kept = tuple(each for each in self.spent if _free_s(each[0]) > now_s)
        if kept and kept[-1][0] == minute:
            self.spent = (*kept[:-1], (minute, kept[-1][1] + size_bytes))
        else:
            self.spent = (*kept, (minute, size_bytes))


def _free_s(minute: int) -> int:
    return (minute + 1) * _MINUTE_S + _HOUR_S
