"""Addresses that may be fetched from: `https`, or `http` to this machine. Opens nothing."""

import httpx

from edge_runtime.contract.address import is_loopback


def is_safe(url: httpx.URL) -> bool:
    """Say whether nobody on the way can answer in the place of a server."""
    if url.scheme == "https":
        return bool(url.host)
    return url.scheme == "http" and is_loopback(url.host)
