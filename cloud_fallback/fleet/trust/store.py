"""Where a repository keeps its metadata files: in memory, or in a folder. The database's is elsewhere.

A store reads no metadata. It takes several files at once or none, and only from whoever saw the newest state.
"""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from edge_runtime.atomic import cannot_write, new_file
from edge_runtime.contract.errors import StorageError

try:
    import fcntl
except ImportError:
    fcntl = None  # Windows: there one process at a time may write a folder

STAMP = "timestamp.json"
"""The file that every change replaces, so that whoever compares it compares everything."""


class MetadataStore(Protocol):
    """Files by name, of 5 MB at most."""

    def get(self, file: str) -> bytes | None:
        """Read a file; None: there is none.

        Raises:
            StorageError: It cannot be read.
        """
        ...

    def put(self, files: Mapping[str, bytes], expect: bytes | None) -> bool:
        """Write files over those of the same names, all or none.

        Args:
            files: By name; `timestamp.json` is among them.
            expect: What `timestamp.json` has to hold still; None: there is none yet.

        Returns:
            Whether it was done; False: somebody else was quicker, and nothing was written.

        Raises:
            StorageError: They cannot be written.
        """
        ...


class MemoryStore:
    """Files in memory, for tests and for what is not to last."""

    def __init__(self) -> None:
        self.files: Mapping[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, file: str) -> bytes | None:
        """As the port says."""
        return self.files.get(file)

    def put(self, files: Mapping[str, bytes], expect: bytes | None) -> bool:
        """As the port says."""
        with self._lock:
            if self.files.get(STAMP) != expect:
                return False
            self.files = {**self.files, **files}
            return True


class FolderStore:
    """Files in a folder, which any web server can serve; several processes may share it.

    A change is first written as one file. Where a kill comes before all its files are in their places, the
    next one to look puts them there.

    Args:
        folder: Made when absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._change = folder / ".change"
        self._lock = threading.Lock()

    def get(self, file: str) -> bytes | None:
        """As the port says."""
        with self._held():
            return self._read(file)

    def put(self, files: Mapping[str, bytes], expect: bytes | None) -> bool:
        """As the port says."""
        with self._held():
            if self._read(STAMP) != expect:
                return False
            with new_file(self._change) as stream:
                stream.write(json.dumps({name: text.decode() for name, text in files.items()}).encode())
            self._finish()
            return True

    @contextmanager
    def _held(self) -> Generator[None]:
        """Keep others out, and finish what a killed one began."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._lock, (self._folder / ".lock").open("w") as lock:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                self._finish()
                yield
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def _finish(self) -> None:
        try:
            change: dict[str, str] = json.loads(self._change.read_bytes())
        except FileNotFoundError:
            return
        except ValueError as error:
            raise StorageError(f"{self._change}: is damaged", do="Restore the folder") from error
        for name, text in change.items():
            with new_file(self._folder / name) as stream:
                stream.write(text.encode())
        self._change.unlink()

    def _read(self, file: str) -> bytes | None:
        try:
            return (self._folder / file).read_bytes()
        except FileNotFoundError:
            return None
