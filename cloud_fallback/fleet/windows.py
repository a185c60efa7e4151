"""When a store's maintenance window is open: on the store's clock, in its IANA time zone.

A window is open at exactly the moments at which the clock on the store's wall shows a time in it. So where
daylight saving skips an hour, what of the window lies in that hour does not take place; where an hour comes
twice, it is open twice. Over midnight, a night belongs to the day on which it begins. Pure: moments come in
as seconds since 1970 (UTC), zones are data (`zoneinfo`, with the package `tzdata` where a system has none).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.fleet import Window

_DAY_S = 86400
_LOOK_AHEAD_DAYS = 16
"""A window on one weekday may fall into a skipped hour; the week after, it takes place."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time for which a window is open.

    Args:
        open_s: Seconds since 1970, UTC.
        close_s: No longer in it.
    """

    open_s: float
    close_s: float


def zone_of(name: str) -> ZoneInfo:
    """Find a time zone.

    Args:
        name: As IANA has it, `Europe/Berlin`.

    Raises:
        ConfigError: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            "time zone", expected="an IANA name such as Europe/Berlin", got=repr(name)
        ) from error


def is_open(window: Window, zone: str, at_s: float) -> bool:
    """Say whether a window is open.

    Args:
        window: Store-local. Where it ends at the minute it starts, it lasts all day.
        zone: The store's.
        at_s: Seconds since 1970, UTC.
    """
    local = datetime.fromtimestamp(at_s, zone_of(zone))
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    clock, days = local.time(), window.days
    today = not days or local.weekday() in days
    if start < end:
        return today and start <= clock < end
    yesterday = not days or (local.weekday() - 1) % 7 in days
    return (today and clock >= start) or (yesterday and clock < end)


def next_span(window: Window, zone: str, after_s: float) -> Span:
    """Find the first time at which a window is still open or opens again.

    Args:
        window: Store-local.
        zone: The store's.
        after_s: Seconds since 1970, UTC.

    Returns:
        A span that closes after `after_s`; it may have opened long before.

    Raises:
        ConfigError: The window does not open within two weeks, as one within an hour that is skipped.
    """
    # A span cut short by the look-back has ended before `after_s`, as none is longer than a day; but for a
    # window that is open around the clock, which is told in pieces.
    first = datetime.fromtimestamp(after_s, zone_of(zone)).date() - timedelta(days=2)
    begun: float | None = None
    edges = _edges(window.start, window.end, zone, first)
    for edge in edges:
        if is_open(window, zone, edge):
            begun = edge if begun is None else begun
        elif begun is not None:
            if edge > after_s:
                return Span(begun, edge)
            begun = None
    if begun is not None:
        return Span(begun, edges[-1])
    raise ConfigError(
        "window",
        expected=f"one that opens within {_LOOK_AHEAD_DAYS - 2} days in {zone}",
        got=f"{window.start} to {window.end} on days {list(window.days)}",
    )


@lru_cache(maxsize=4096)
def _edges(start: str, end: str, zone: str, first: date) -> tuple[float, ...]:
    """List every moment around a date at which the window may open or close, in order."""
    info = zone_of(zone)
    found: set[float] = set()
    for ahead in range(_LOOK_AHEAD_DAYS + 1):
        day = first + timedelta(days=ahead)
        for clock in (time.fromisoformat(start), time.fromisoformat(end), time.min):
            for fold in (0, 1):
                found.add(datetime.combine(day, clock.replace(fold=fold), info).timestamp())
        noon_s = int(datetime.combine(day, time(12), UTC).timestamp())
        jump_s = _jump(info, noon_s, noon_s + _DAY_S)
        if jump_s is not None:
            found.add(float(jump_s))
    return tuple(sorted(found))


def _jump(info: ZoneInfo, low_s: int, high_s: int) -> int | None:
    """Find the second at which a zone's offset changes; None: it does not."""
    offset = datetime.fromtimestamp(low_s, info).utcoffset()
    if datetime.fromtimestamp(high_s, info).utcoffset() == offset:
        return None
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        same = datetime.fromtimestamp(middle_s, info).utcoffset() == offset
        low_s, high_s = (middle_s, high_s) if same else (low_s, middle_s)
    return high_s
