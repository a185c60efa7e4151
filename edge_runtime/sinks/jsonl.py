"""JsonlSink: events as JSON Lines, one event a line, appended to a file.

Rotates nothing and reads nothing back but a torn last line. A tool that moves the file away may do so: the
next batch opens a new one.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.status import SinkStatus

_TAIL_BYTES = 64 * 1024
"""Read at a time while looking for the last newline."""


class JsonlSink:
    """Appends events to a file. Belongs to one thread; `status` may come from any.

    A batch is one `write()` call, so what it returned for is the kernel's and survives `kill -9`. A line that
    a crash tore is cut off when the file is opened again: its event was never acknowledged.

    Args:
        path: The file; made with its folder when absent.
        name: What statuses and messages call this sink.
    """

    def __init__(self, path: Path, *, name: str = "jsonl") -> None:
        self.name = name
        self._path = path
        self._file: int | None = None
        self._written = 0

    def write(self, events: Sequence[Event]) -> None:
        """Append events; all or none of them.

        Raises:
            StorageError: The file cannot be made or written; says what to do.
        """
        lines = b"".join(event.model_dump_json().encode() + b"\n" for event in events)
        try:
            file = self._open()
            self._append(file, lines)
        except OSError as error:
            self._release()
            raise _refused(self._path, error) from error
        self._written += len(events)

    def sync(self) -> None:
        """Bring what was written to the disk itself.

        Raises:
            StorageError: The disk reports a failure.
        """
        if self._file is None:
            return
        try:
            os.fsync(self._file)
        except OSError as error:
            self._release()
            raise _refused(self._path, error) from error

    def status(self) -> SinkStatus:
        """Say how many events are in the file."""
        return SinkStatus(self.name, written=self._written)

    def close(self) -> None:
        """Close the file. A later `write` opens it again."""
        self._release()

    def _open(self) -> int:
        if self._file is not None and _is_at(self._path, self._file):
            return self._file
        self._release()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(
            self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
        )
        _mend(self._file)
        return self._file

    def _append(self, file: int, lines: bytes) -> None:
        before = os.fstat(file).st_size
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            # Half a batch on a full disk: take it back, so that the next try tears and repeats no line. Where
            # even that is refused, the torn line is mended when the file is opened again.
            with suppress(OSError):
                os.ftruncate(file, before)
            raise

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _is_at(path: Path, file: int) -> bool:
    """Whether the open file is still the one under that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _mend(file: int) -> None:
    """End a file in a newline: finish a last line that is whole, cut off one that is torn."""
    size = os.fstat(file).st_size
    tail = b""
    while size > len(tail) and b"\n" not in tail:
        os.lseek(file, max(0, size - len(tail) - _TAIL_BYTES), os.SEEK_SET)
        tail = os.read(file, min(_TAIL_BYTES, size - len(tail))) + tail
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return
    try:
        json.loads(torn)
    except ValueError:
        os.ftruncate(file, size - len(torn))
    else:
        os.write(file, b"\n")


def _refused(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot write events",
        got=error.strerror or str(error),
        do="Free the disk or allow this user to write there; until then events wait",
    )
