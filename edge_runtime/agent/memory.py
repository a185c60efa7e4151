"""Keeps freed memory in few places, and gives it back to the system now and then.

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


GIVE_BACK_EVERY_S = 60.0
"""Walking through 200 MB of heap takes some milliseconds."""


class Upkeep:
    """Keeps freed memory in few places, and gives back what lies between what is in use.

    A busy moment, with a dozen pictures more on their way than usual, otherwise costs its memory for ever.
    Having glibc map large pieces one by one (M_MMAP_THRESHOLD) does more, for a fifth more CPU time.
    """

    def __init__(self) -> None:
        share_arenas()
        libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
        self._trim = None if libc is None else libc.malloc_trim
        self._next_s: float | None = None

    def look(self, now_s: float) -> bool:
        """Give back, if it is time to.

        Args:
            now_s: Monotonic clock.

        Returns:
            Whether it was done; never where the C library is not glibc.
        """
        if self._trim is None or (self._next_s is not None and now_s < self._next_s):
            return False
        self._next_s = now_s + GIVE_BACK_EVERY_S
        self._trim(0)
        return True
