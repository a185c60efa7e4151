"""Files by their SHA-256, and the parts of files that are being fetched.

A file is in the store whole and with the right digest, or not at all. Removes nothing by itself:
`edge_runtime.update.collect` does.
"""

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from edge_runtime.atomic import cannot_write, flush_folder, new_file
from edge_runtime.contract.bundle import Sha256
from edge_runtime.contract.fleet import Bytes
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.journal import sealed, unsealed, write_all


class _Progress(Declared):
    """How much of a part is surely on the disk."""

    sha256: Sha256
    size_bytes: Bytes
    done_bytes: Bytes
    etag: str | None = None


class Part:
    """A file that is being fetched; goes on after a kill with the last block that was flushed.

    Args:
        path: Of the bytes; how many of them count lies beside it.
        sha256: What the whole should have.
        size_bytes: Of the whole.
    """

    def __init__(self, path: Path, sha256: str, size_bytes: int) -> None:
        self.path = path
        self._progress = _Progress(sha256=sha256, size_bytes=size_bytes, done_bytes=0)
        self._beside = path.with_suffix(".progress")
        self._load()

    @property
    def done_bytes(self) -> int:
        """How many bytes are here for good."""
        return self._progress.done_bytes

    @property
    def size_bytes(self) -> int:
        """Of the whole."""
        return self._progress.size_bytes

    @property
    def etag(self) -> str | None:
        """What the server called the file when the first byte came."""
        return self._progress.etag

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self.done_bytes == self.size_bytes

    def append(self, block: bytes, etag: str | None) -> None:
        """Keep the next bytes; they are on the disk when this returns.

        Raises:
            StorageError: The disk is full, read-only or broken; what was here before still counts.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.ftruncate(descriptor, self.done_bytes)
                os.lseek(descriptor, self.done_bytes, os.SEEK_SET)
                write_all(descriptor, block)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        progress = self._progress.model_copy(
            update={"done_bytes": self.done_bytes + len(block), "etag": etag}
        )
        with new_file(self._beside) as stream:
            stream.write(sealed(progress.model_dump_json().encode()))
        self._progress = progress

    def restart(self) -> None:
        """Throw away what is here.

        Raises:
            StorageError: The disk is read-only or broken.
        """
        try:
            self._beside.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._progress = self._progress.model_copy(update={"done_bytes": 0, "etag": None})

    def _load(self) -> None:
        try:
            found = _Progress.model_validate_json(unsealed(self._beside.read_bytes()) or b"")
            size = self.path.stat().st_size
        except (OSError, ValidationError):  # never begun, or not whole: it begins again
            return
        same = (found.sha256, found.size_bytes) == (self._progress.sha256, self._progress.size_bytes)
        if same and found.done_bytes <= min(size, found.size_bytes):
            self._progress = found


class Store:
    """The files of a device.

    Args:
        folder: Where they are; made when absent.
    """

    def __init__(self, folder: Path) -> None:
        self.objects = folder / "objects"
        self.parts = folder / "parts"

    def path(self, sha256: str) -> Path:
        """Say where a file is, or would be."""
        return self.objects / sha256

    def has(self, sha256: str) -> bool:
        """Say whether a file is here."""
        return self.path(sha256).is_file()

    def present(self) -> frozenset[str]:
        """Give the SHA-256 of every file that is here."""
        if not self.objects.is_dir():
            return frozenset()
        return frozenset(each.name for each in self.objects.iterdir() if not each.name.startswith("."))

    def part(self, sha256: str, size_bytes: int) -> Part:
        """Give the part of a file that is to be fetched."""
        return Part(self.parts / f"{sha256}.part", sha256, size_bytes)

    def adopt(self, part: Part, sha256: str) -> None:
        """Take a complete part in; it is gone from the parts then.

        Raises:
            StorageError: The disk is full, read-only or broken.
            UpdateFailedError: It has another digest; the part is thrown away.
        """
        if self.has(sha256):
            return part.restart()
        try:
            with part.path.open("rb") as stream:
                _refuse_other(stream, sha256, part.path.name)
            self.objects.mkdir(parents=True, exist_ok=True)
            part.path.replace(self.path(sha256))
            flush_folder(self.objects)
        except UpdateFailedError:
            part.restart()
            raise
        except OSError as error:
            raise cannot_write(self.path(sha256), error) from error
        return part.restart()

    def check(self, sha256: str) -> None:
        """Read a file again and compare its digest; a damaged one is removed.

        Raises:
            StorageError: It cannot be read.
            UpdateFailedError: It has another digest.
        """
        try:
            with self.path(sha256).open("rb") as stream:
                _refuse_other(stream, sha256, sha256)
        except UpdateFailedError:
            self.path(sha256).unlink(missing_ok=True)
            raise
        except OSError as error:
            raise cannot_write(self.path(sha256), error) from error

    @contextmanager
    def new(self, sha256: str) -> Generator[IO[bytes], None, None]:
        """Give an empty file that is taken in when the block ends well and it has the right digest.

        Raises:
            StorageError: The disk is full, read-only or broken.
            UpdateFailedError: It has another digest.
        """
        with new_file(self.path(sha256)) as stream:
            yield stream
            stream.flush()
            with Path(stream.name).open("rb") as written:
                _refuse_other(written, sha256, sha256)


def _refuse_other(stream: IO[bytes], sha256: str, name: str) -> None:
    found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != sha256:
        raise UpdateFailedError(Failure.DIGEST, f"{name}: SHA-256", expected=sha256, got=found)
