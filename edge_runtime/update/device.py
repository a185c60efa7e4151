"""This device's clock, disk and memory, as an updater asks for them. Decides nothing."""

import shutil
import time
from datetime import datetime
from pathlib import Path

import psutil


class SystemClock:
    """The clocks of the operating system."""

    def now_s(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def steady_s(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def local(self) -> datetime:
        """What the clock on the store's wall shows, in the system's time zone."""
        return datetime.now().astimezone()


class SystemMachine:
    """What the operating system says is free."""

    def free_bytes(self, folder: Path) -> int:
        """Bytes free on the disk of a folder, which need not be there yet."""
        there = next(each for each in (folder, *folder.resolve().parents) if each.exists())
        return shutil.disk_usage(there).free

    def free_memory_bytes(self) -> int:
        """Bytes of memory that can be taken without swapping."""
        return psutil.virtual_memory().available
