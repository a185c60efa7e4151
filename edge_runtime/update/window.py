"""Whether a maintenance window is open on the store's clock. Pure: the local time comes in."""

from datetime import datetime, time

from edge_runtime.contract.fleet import Window


def is_open(window: Window, local: datetime) -> bool:
    """Say whether a window is open.

    Args:
        window: Over midnight, a night belongs to the day on which it begins. Where it ends at the minute it
            starts, it lasts all day.
        local: What the clock on the store's wall shows.
    """
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    clock, days = local.time(), window.days
    today = not days or local.weekday() in days
    if start < end:
        return today and start <= clock < end
    yesterday = not days or (local.weekday() - 1) % 7 in days
    return (today and clock >= start) or (yesterday and clock < end)
