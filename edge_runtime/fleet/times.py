"""Times as messages have them. Pure: reads no clock."""

from datetime import UTC, datetime


def rfc3339(now_s: float) -> str:
    """Write a time.

    Args:
        now_s: Seconds since 1970.

    Returns:
        UTC, to the millisecond: `2026-01-05T12:00:00.000Z`.
    """
    return datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
