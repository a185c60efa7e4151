"""StoreClock: a store's days and hours, on the clock on its wall.

A day begins when nobody is in the store, at four in the morning by default, and ends when the next one
begins: who leaves at one in the night belongs to the evening. Where daylight saving begins or ends, a day has
23 or 25 hours, and an hour that comes twice is two hours. Pure: time zones are data (`zoneinfo`), moments
come in as seconds since 1970 (UTC).
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

SLOT_S = 300
"""Of curves over a day."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StoreClock:
    """The clock of a store.

    Args:
        zone: Its time zone.
        starts_at: When its days begin.
    """

    zone: ZoneInfo
    starts_at: time = time(4)

    def begin_s(self, day: date) -> int:
        """Give the moment at which a day begins; where its clock skips that time, when it would have come."""
        return int(datetime.combine(day, self.starts_at, self.zone).timestamp())

    def end_s(self, day: date) -> int:
        """Give the moment at which the next day begins."""
        return self.begin_s(day + _DAY)

    def day_of(self, at_s: float) -> date:
        """Tell which day a moment belongs to; it may have begun on the date before."""
        day = datetime.fromtimestamp(at_s, self.zone).date()
        if at_s < self.begin_s(day):
            return day - _DAY
        return day + _DAY if at_s >= self.end_s(day) else day

    def hours(self, day: date) -> tuple[int, ...]:
        """Give the moments at which the hours of a day begin: its first moment, then every full hour."""
        begins, at, end = list[int](), self.begin_s(day), self.end_s(day)
        while at < end:
            begins.append(at)
            past = self.local(at)
            at += 3600 - (past.minute * 60 + past.second)
        return tuple(begins)

    def slots(self, day: date) -> range:
        """Give the moments at which the slots of a day begin."""
        return range(self.begin_s(day), self.end_s(day), SLOT_S)

    def local(self, at_s: float) -> datetime:
        """Show a moment on the store's clock, with its distance from UTC."""
        return datetime.fromtimestamp(at_s, self.zone)

    def days(self, first: date, last: date) -> tuple[date, ...]:
        """List the days from one to another, both included."""
        return tuple(first + _DAY * number for number in range((last - first).days + 1))
