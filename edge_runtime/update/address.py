"""Addresses that may be fetched from: `https`, or `http` to this machine. Opens nothing."""

import ipaddress

import httpx


def is_safe(url: httpx.URL) -> bool:
    """Say whether nobody on the way can answer in the place of a server."""
    if url.scheme == "https":
        return bool(url.host)
    try:
        here = ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        here = url.host == "localhost"
    return url.scheme == "http" and here
