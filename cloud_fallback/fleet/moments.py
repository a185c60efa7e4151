"""Moments: RFC 3339 text in JSON, seconds since 1970 in the database. Pure: reads no clock."""

from datetime import datetime

from edge_runtime.contract.errors import InputError
from edge_runtime.fleet.times import rfc3339


def text(at_s: float) -> str:
    """Write a moment as JSON has it.

    Args:
        at_s: Seconds since 1970, UTC.

    Returns:
        RFC 3339 with milliseconds and `Z`.
    """
    return rfc3339(at_s)


def maybe(at_s: float | None) -> str | None:
    """Write a moment that may not have been."""
    return None if at_s is None else text(at_s)


def seconds(moment: str) -> float:
    """Read a moment.

    Args:
        moment: RFC 3339, UTC.

    Returns:
        Seconds since 1970, UTC.

    Raises:
        InputError: It is something else.
    """
    try:
        at = datetime.fromisoformat(moment)
    except ValueError as error:
        raise InputError(
            "time", expected="RFC 3339 such as 2026-01-01T00:00:00Z", got=repr(moment)
        ) from error
    if at.tzinfo is None:
        raise InputError("time", expected="a time zone, such as Z", got=repr(moment))
    return at.timestamp()
