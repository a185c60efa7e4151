"""StateLock: one agent for one folder. What is owed to a broker, or updated, is one process's business."""

import os
from pathlib import Path
from typing import TextIO

from edge_runtime.contract.errors import StorageError

try:
    import fcntl
except ImportError:
    fcntl = None  # Windows: there the spool's own lock still refuses a second process, less clearly


class StateLock:
    """Holds the folder until it is closed or the process ends, however it ends: the lock is the kernel's.

    Args:
        folder: Made when absent. Where it cannot be written nothing is locked; who writes there says so.
        what: As the settings call it.
        name: Of the file that is locked.

    Raises:
        StorageError: Another agent holds it; names its process.
    """

    def __init__(self, folder: Path, what: str = "state_dir", name: str = "agent.lock") -> None:
        self._file: TextIO | None = None
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="ascii")
        except OSError:
            return
        self._file = file
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise StorageError(
                f"{what} {folder} is in use",
                expected="one agent for a folder",
                got=f"process {holder} holding {path}",
                do="Stop that agent, or give this one a folder of its own",
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()

    def close(self) -> None:
        """Let another agent have the folder. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
