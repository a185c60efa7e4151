"""Where the bytes of versions are, by their SHA-256: a folder, or an object store behind it.

A path of a target means nothing here: signed metadata says which digest it has, so that no bytes can be put
in the place of others. What comes in is put together beside, and is in its place whole or not at all. Answers
no request; `transfers` does.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from cloud_fallback.fleet.settings import ArtifactSettings
from edge_runtime.atomic import cannot_write, flush_folder
from edge_runtime.contract.errors import ConfigError, InputError, StorageError, TooLargeError

BLOCK_BYTES = 256 << 10
_INCOMING = ".incoming"
_STALE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is there.

    Args:
        sha256: Hexadecimal.
        size_bytes: Of it.
    """

    sha256: str
    size_bytes: int


class Artifacts(Protocol):
    """Files by their SHA-256, which never change."""

    max_bytes: int

    def incoming(self) -> "Incoming":
        """Begin to take a file in."""
        ...

    def keep(self, incoming: "Incoming", sha256: str | None) -> Stored:
        """Put what came in into its place, and remove the rest.

        Args:
            incoming: Whole.
            sha256: What it has to be; None: whatever it is.

        Raises:
            InputError: It is something else.
            StorageError: It cannot be written.
        """
        ...

    def size(self, sha256: str) -> int | None:
        """Give a file's size; None: it is not here.

        Raises:
            StorageError: The store does not answer.
        """
        ...

    def open(self, sha256: str) -> IO[bytes]:
        """Open a file for reading.

        Raises:
            StorageError: It is not here, or the store does not answer.
        """
        ...

    def elsewhere(self, sha256: str) -> str | None:
        """Give the address at which a device fetches a file; None: here."""
        ...


class Incoming:
    """A file on its way in. Used by one thread at a time.

    Args:
        folder: For it.
        max_bytes: More are not taken.

    Raises:
        StorageError: It cannot be made.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.path = folder / f"{secrets.token_hex(16)}.part"
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("xb")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    @property
    def sha256(self) -> str:
        """Of what has come so far."""
        return self._digest.hexdigest()

    def write(self, block: bytes) -> None:
        """Add bytes.

        Raises:
            TooLargeError: These are too many.
            StorageError: The disk is full, read-only or broken.
        """
        self.size_bytes += len(block)
        if self.size_bytes > self._max_bytes:
            raise TooLargeError("artifact", expected=f"at most {self._max_bytes:,} bytes", got="more")
        self._digest.update(block)
        try:
            self._stream.write(block)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def finish(self) -> None:
        """Bring everything to the disk.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def drop(self) -> None:
        """Remove it, if it has not found its place."""
        with suppress(OSError):  # what was not flushed is not wanted
            self._stream.close()
        with suppress(OSError):  # it is in its place
            self.path.unlink()


class FolderArtifacts:
    """Files in a folder, which replicas may share.

    Args:
        folder: Made when absent.
        max_bytes: Of one file.
        public_url: Where devices are sent for bytes instead of here; the files are there by their SHA-256.
    """

    def __init__(self, folder: Path, max_bytes: int, public_url: str | None = None) -> None:
        self.max_bytes = max_bytes
        self._folder = folder
        self._public_url = public_url
        _sweep(folder / _INCOMING)

    def incoming(self) -> Incoming:
        """As the port says."""
        return Incoming(self._folder / _INCOMING, self.max_bytes)

    def keep(self, incoming: Incoming, sha256: str | None) -> Stored:
        """As the port says."""
        incoming.finish()
        stored = _checked(incoming, sha256)
        place = self._place(stored.sha256)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            incoming.path.replace(place)
            flush_folder(place.parent)
        except OSError as error:
            raise cannot_write(place, error) from error
        return stored

    def size(self, sha256: str) -> int | None:
        """As the port says."""
        try:
            return self._place(sha256).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"artifact {sha256[:12]}", got=error.strerror) from error

    def open(self, sha256: str) -> IO[bytes]:
        """As the port says."""
        try:
            return self._place(sha256).open("rb")
        except OSError as error:
            raise StorageError(f"artifact {sha256[:12]}", got=error.strerror) from error

    def elsewhere(self, sha256: str) -> str | None:
        """As the port says."""
        return f"{self._public_url}/{sha256[:2]}/{sha256}" if self._public_url else None

    def _place(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


class StoreArtifacts:
    """Files in an object store; only what is just coming in is in a folder here.

    Args:
        settings: With a URL.

    Raises:
        ConfigError: fsspec, or what it needs for this kind of URL, is missing.
    """

    def __init__(self, settings: ArtifactSettings) -> None:
        self.max_bytes = settings.max_bytes
        self._staging = settings.folder
        self._settings = settings
        self._files, self._root = _file_system(settings.url or "")
        _sweep(self._staging)

    def incoming(self) -> Incoming:
        """As the port says."""
        return Incoming(self._staging, self.max_bytes)

    def keep(self, incoming: Incoming, sha256: str | None) -> Stored:
        """As the port says."""
        incoming.finish()
        stored = _checked(incoming, sha256)
        place = self._place(stored.sha256)
        try:
            if self.size(stored.sha256) != stored.size_bytes:
                self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(incoming.path), place)
        except StorageError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        finally:
            incoming.drop()
        arrived = self.size(stored.sha256)
        if arrived != stored.size_bytes:
            raise StorageError(
                f"artifact {place}", expected=f"{stored.size_bytes} bytes in the store", got=str(arrived)
            )
        return stored

    def size(self, sha256: str) -> int | None:
        """As the port says."""
        try:
            return int(self._files.info(self._place(sha256))["size"])
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(error) from error

    def open(self, sha256: str) -> IO[bytes]:
        """As the port says."""
        try:
            return cast("IO[bytes]", self._files.open(self._place(sha256), "rb"))
        except Exception as error:
            raise self._failed(error) from error

    def elsewhere(self, sha256: str) -> str | None:
        """As the port says."""
        if self._settings.public_url:
            return f"{self._settings.public_url}/{sha256[:2]}/{sha256}"
        if not self._settings.presign:
            return None
        try:
            return str(self._files.sign(self._place(sha256), expiration=self._settings.presign_s))
        except Exception as error:
            raise self._failed(error) from error

    def _place(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _failed(self, error: Exception) -> StorageError:
        """Turn what a file system raises into a sentence; each of them has errors of its own."""
        return StorageError(
            f"artifacts {self._settings.url}",
            got=f"{type(error).__name__}: {error}"[:300],
            do="Check the URL, the credentials and the network",
        )


def artifacts_for(settings: ArtifactSettings) -> Artifacts:
    """Open where the settings say.

    Raises:
        ConfigError: What the URL needs is not installed.
    """
    if settings.url is not None:
        return StoreArtifacts(settings)
    return FolderArtifacts(settings.folder, settings.max_bytes, settings.public_url)


def _checked(incoming: Incoming, sha256: str | None) -> Stored:
    if sha256 is not None and incoming.sha256 != sha256:
        raise InputError(
            "artifact", expected=f"sha256 {sha256}", got=incoming.sha256, do="Send it again: it was damaged"
        )
    return Stored(incoming.sha256, incoming.size_bytes)


def _sweep(folder: Path) -> None:
    """Remove what uploads left that were cut off by a kill; those of other replicas are younger."""
    left: Iterable[Path] = folder.glob("*.part") if folder.is_dir() else ()
    for path in left:
        with suppress(OSError):  # another replica was quicker
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec.core  # noqa: PLC0415 - an extra, imported when a URL is given

        files, root = cast(Any, fsspec.core).url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"artifacts.url {url}: cannot be opened here ({error})",
            do="Install fsspec and the package of this kind of URL, such as s3fs for s3://",
        ) from error
    return files, str(root).rstrip("/")
