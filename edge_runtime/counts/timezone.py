"""Which time zone this machine is in, and whether a name is that of one."""

import os
from pathlib import Path
from zoneinfo import ZoneInfo

_ZONES = "zoneinfo/"


def local_timezone() -> str:
    """Give the IANA name of the system's time zone; UTC where it has none."""
    named = os.environ.get("TZ", "").removeprefix(":")
    linked = str(Path("/etc/localtime").resolve()).partition(_ZONES)[2]
    for name in (named, linked):
        if name and is_zone(name):
            return name
    return "UTC"


def is_zone(name: str) -> bool:
    """Tell whether a time zone has this IANA name, and the system knows it."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True
