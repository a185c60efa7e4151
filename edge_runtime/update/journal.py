"""The journal: the last whole record survives a kill, a torn write and a full disk.

Each line is a checksum and a record. Lines are appended and flushed; now and then the file is replaced by its
last line. Keeps what it is given and decides nothing. One process and one thread at a time.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from edge_runtime.atomic import cannot_write, new_file
from edge_runtime.contract.errors import StorageError
from edge_runtime.update.record import Record

_MAX_BYTES = 64 * 2**10
"""A longer file is replaced by its last record."""
_DIGITS = 32
"""Of the checksum; as long as 128 bits."""


def sealed(content: bytes) -> bytes:
    """Put a checksum before a line's content, and a line feed behind it."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS].encode() + b" " + content + b"\n"


def unsealed(line: bytes) -> bytes | None:
    """Give the content of a line; None: it is not whole."""
    checksum, _, content = line.removesuffix(b"\n").partition(b" ")
    return content if line.endswith(b"\n") and sealed(content).startswith(checksum + b" ") else None


class Journal:
    """A file of records, of which the last whole one counts.

    Args:
        path: The file; made with its folder when absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self.damaged = False
        """Whether something at the end, or all of it, could not be read and was given up."""

    def read(self) -> Record:
        """Give the last whole record; an empty one where there is none.

        Raises:
            StorageError: The file cannot be read.
        """
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be read", got=error.strerror or str(error)) from error
        found, end, position = Record(), 0, 0
        for line in lines:
            position += len(line)
            if (record := _parsed(line)) is not None:
                found, end = record, position
        self.damaged = end != position
        self._size = end
        return found

    def write(self, record: Record) -> None:
        """Keep a record; it is on the disk when this returns. `read` must have been called before.

        Raises:
            StorageError: The disk is full, read-only or broken; the record before still counts.
        """
        line = sealed(record.model_dump_json(exclude_defaults=True).encode())
        if self._size == 0 or self._size + len(line) > _MAX_BYTES:
            with new_file(self._path) as stream:
                stream.write(line)
            self._size = len(line)
            return
        try:
            self._append(line)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._size += len(line)

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, self._size)  # what a torn write left; needs no room
            os.lseek(descriptor, self._size, os.SEEK_SET)
            try:
                write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):  # the next append does it too
                    os.ftruncate(descriptor, self._size)
                raise
        finally:
            os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it: the system may take less than it is given.

    Raises:
        OSError: The disk is full or broken.
    """
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _parsed(line: bytes) -> Record | None:
    content = unsealed(line)
    if content is None:
        return None
    try:
        return Record.model_validate_json(content)
    except ValidationError:  # of a later release, after a downgrade of this program
        return None
