"""Times as messages have them. Pure: reads no clock."""

from edge_runtime.contract.event import iso_time


def rfc3339(now_s: float) -> str:
    """Write a time.

    Args:
        now_s: Seconds since 1970.

    Returns:
        UTC, to the millisecond: `2026-01-05T12:00:00.000Z`.
    """
    return iso_time(round(now_s * 1e6) * 1000)
