"""Counts of a rollout's devices by wave, kept up to date as they change: a poll must not walk a large fleet.

Pure. Judges nothing.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from cloud_fallback.fleet.standing import ATTEMPTED, BAD, BUSY, Member, Standing


@dataclass(slots=True)
class Count:
    """Devices of one wave, or of several together.

    Args:
        size: All.
        standings: By standing, without those forgiven.
        forgiven: Whose failure no longer counts.
        due: Online, free, and not offered anything yet; stragglers left out.
        under_way: Offered or withdrawing; stragglers left out.
        blocked: Waiting, and another rollout has them.
        absent: Succeeded, and offline now.
        away: Waiting, and offline now.
    """

    size: int = 0
    standings: Counter[Standing] = field(default_factory=Counter[Standing])
    forgiven: int = 0
    due: int = 0
    under_way: int = 0
    blocked: int = 0
    absent: int = 0
    away: int = 0

    @property
    def succeeded(self) -> int:
        """Devices that have the version and are well."""
        return self.standings[Standing.SUCCEEDED]

    @property
    def bad(self) -> int:
        """Devices that failed, timed out or regressed."""
        return sum(self.standings[each] for each in BAD)

    @property
    def ended(self) -> int:
        """Devices of which the end is known."""
        return self.succeeded + self.bad

    @property
    def busy(self) -> int:
        """Devices of which an answer is awaited."""
        return sum(self.standings[each] for each in BUSY)

    @property
    def attempted(self) -> int:
        """Devices that were offered the version, however it ended."""
        return sum(self.standings[each] for each in ATTEMPTED)

    @property
    def within_reach(self) -> int:
        """Devices that this wave can still learn from, now or when they come back."""
        gone = self.standings[Standing.LEFT] + self.standings[Standing.WITHDRAWN]
        return self.size - gone - self.blocked - self.forgiven

    def add(self, member: Member, by: int) -> None:
        """Count a device in (`by` 1) or out again (-1)."""
        self.size += by
        if member.forgiven:
            self.forgiven += by
            return
        standing = member.standing
        self.standings[standing] += by
        if standing is Standing.WAITING:
            self.blocked += by * member.blocked
            self.away += by * (not member.online)
            self.due += by * (member.online and not member.blocked and not member.straggler)
        elif standing is Standing.SUCCEEDED:
            self.absent += by * (not member.online)
        elif standing in BUSY and not member.straggler:
            self.under_way += by


class Tally:
    """Counts by wave.

    Args:
        waves: How many there are.
    """

    def __init__(self, waves: int) -> None:
        self._waves = [Count() for _ in range(waves)]

    def __getitem__(self, wave: int) -> Count:
        return self._waves[wave]

    def change(self, old: Member | None, new: Member) -> None:
        """Count what became of a device; `old` is None where it is new."""
        if old is not None:
            self._waves[old.wave].add(old, -1)
        self._waves[new.wave].add(new, 1)

    def until(self, wave: int) -> Count:
        """Count waves up to one together, that one included."""
        return _sum(self._waves[: wave + 1])

    def after(self, wave: int) -> Count:
        """Count the waves after one together."""
        return _sum(self._waves[wave + 1 :])


def _sum(counts: Iterable[Count]) -> Count:
    total = Count()
    for each in counts:
        total.size += each.size
        total.standings.update(each.standings)
        total.forgiven += each.forgiven
        total.due += each.due
        total.under_way += each.under_way
        total.blocked += each.blocked
        total.absent += each.absent
        total.away += each.away
    return total
