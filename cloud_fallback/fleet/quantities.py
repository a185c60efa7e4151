"""Durations, shares, bytes, waves and windows as people write them: `1h30m`, `5%`, `mon-fri 22:00-05:00`.

Pure. Knows no command line and no form: whoever asks names the field in the message.
"""

import re

from edge_runtime.contract.deployment import Wave
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.fleet import Window

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_WINDOW = re.compile(rf"(?:(?P<days>[a-z,\-]+)\s+)?(?P<start>{_CLOCK})\s*-\s*(?P<end>{_CLOCK})")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def duration_s(text: str, field: str) -> float:
    """Read a duration.

    Args:
        text: `90`, `90s`, `1h30m`, `2d`; a number alone is seconds.
        field: What it is of, for the message.

    Returns:
        Seconds.

    Raises:
        ConfigError: It is none.
    """
    written = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", written):
        return float(written)
    parts = list(_PART.finditer(written))
    if not parts or _PART.sub("", written).strip():
        raise ConfigError(field, expected="a duration such as 90s, 1h30m or 2d", got=repr(text))
    return sum(float(part[1]) * _UNITS_S[part[2]] for part in parts)


def share(text: str, field: str) -> float:
    """Read a share.

    Args:
        text: `5%` or `0.05`; what is over 1 has to say `%`.
        field: What it is of, for the message.

    Returns:
        In [0, 1].

    Raises:
        ConfigError: It is none.
    """
    found = _SHARE.fullmatch(text.strip())
    number = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= number <= 1:
        raise ConfigError(field, expected="a share such as 5% or 0.05, at most 100%", got=repr(text))
    return round(number, 9)  # 0.07 and not 0.07000000000000001


def byte_count(text: str, field: str) -> int:
    """Read a number of bytes.

    Args:
        text: `500000`, `2 GB` (10⁹), `2 GiB` (2³⁰).
        field: What it is of, for the message.

    Returns:
        Bytes.

    Raises:
        ConfigError: It is none.
    """
    found = _BYTES.fullmatch(text.strip())
    if found is None:
        raise ConfigError(field, expected="bytes such as 500MB or 2GiB", got=repr(text))
    power = " kmgt".index(found[2].lower() or " ")
    return round(float(found[1]) * (1024 if found[3] else 1000) ** power)


def waves(text: str | None, canary: str | None, *, approve_after_canary: bool = False) -> tuple[Wave, ...]:
    """Read the waves of a rollout.

    Args:
        text: Shares of the whole, growing, the last one 100%; None: `5%,25%,100%`.
        canary: Share of the first wave; put before the others if it is smaller than the first of them.
        approve_after_canary: Whether a person has to allow the second wave.

    Returns:
        The waves.

    Raises:
        ConfigError: They do not grow to 100%, or there is nothing after the canary to approve.
    """
    shares = [share(each, "waves") for each in (text or "5%,25%,100%").split(",")]
    if canary is not None:
        first = share(canary, "canary")
        later = [each for each in shares if each > first] if text is None else shares
        if first > later[0] if later else first > 1:
            raise ConfigError(
                "canary", expected=f"at most the first of the waves, {percent(later[0])}", got=repr(canary)
            )
        shares = later if later and later[0] == first else [first, *later]
    if 0 in shares or shares != sorted(set(shares)) or shares[-1] != 1:
        raise ConfigError(
            "waves",
            expected="shares that grow and end at 100%, such as 5%,25%,100%",
            got=",".join(map(percent, shares)),
        )
    if approve_after_canary and len(shares) == 1:
        raise ConfigError(
            "approval", expected="a wave after the canary", got="one wave of 100%", do="Give more waves"
        )
    return tuple(
        Wave(share=each, needs_approval=approve_after_canary and place == 1)
        for place, each in enumerate(shares)
    )


def window(text: str) -> Window:
    """Read a maintenance window.

    Args:
        text: `02:00-05:00`, over midnight `22:00-05:00`, on some days `mon-fri 22:00-05:00`.

    Returns:
        Store-local.

    Raises:
        ConfigError: It is none.
    """
    found = _WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigError("window", expected="02:00-05:00 or mon-fri 22:00-05:00", got=repr(text))
    return Window(start=found["start"], end=found["end"], days=_days(found["days"]))


def _days(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ConfigError(
                "window", expected=f"days such as mon-fri or {', '.join(_DAYS)}", got=repr(text)
            )
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        days.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    return tuple(sorted(days))


def percent(number: float) -> str:
    """Write a share for people: `5%`, `0.5%`."""
    return f"{number * 100:.4g}%"


def in_words(seconds: float) -> str:
    """Write a duration for people, by its two largest units: `45s`, `1h 30m`, `2d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds else "0s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def size_in_words(count: int) -> str:
    """Write a number of bytes for people: `512 B`, `3.4 MB`."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.3g} {unit}" if unit != "B" else f"{count} B"


def window_in_words(value: Window | None) -> str:
    """Write a window for people."""
    if value is None:
        return "at any time"
    days = ", ".join(_DAYS[day] for day in value.days if 0 <= day < 7)
    return f"{days + ' ' if days else ''}{value.start}–{value.end} store time"
