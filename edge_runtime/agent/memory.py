"""Keeps freed memory in few places.

glibc gives nearly every thread an arena of its own, and each keeps what was freed in it; with pictures of
megabytes passing from thread to thread that adds up. Measures and limits nothing.
"""

import ctypes
import platform

_M_ARENA_MAX = -8
"""malloc.h of glibc; see mallopt(3)."""

ARENAS = 2
"""One for the main thread, one for all others: they hold it for microseconds between milliseconds of work."""


def share_arenas() -> None:
    """Let all threads of this process share `ARENAS` arenas; where the C library is not glibc, nothing."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
