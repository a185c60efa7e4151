"""Addresses: what may be shown of one, and whether only this machine reaches it. Opens nothing."""

import ipaddress
import re

# Greedy up to the last "@": a password may hold "@", "/" or "#" that nobody percent-encoded.
_USER = re.compile(r"([a-z][a-z0-9+.-]*://)\S*@", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"([?&;][^=&;\s]*(?:pass|pwd|token|secret|key|auth|user|login)[^=&;\s]*=)[^&;\s]*", re.IGNORECASE
)


def redact(text: str) -> str:
    """Hide user names, passwords and secret parameters of every address in a text.

    Args:
        text: An address such as `rtsp://user:secret@host/stream`, or a message that quotes one.

    Returns:
        The text with `***` in their place.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER.sub(r"\1***@", text))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address or name; IPv6 with its brackets or without."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
