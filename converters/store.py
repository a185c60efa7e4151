"""Store: what steps made, by fingerprint; a result is there whole or not at all.

    <folder>/<fingerprint>/   the step's files, facts.json, run.json, log.txt
    <folder>/failed/<begin of it>/   log.txt and error.json of the last attempt that failed
    <folder>/.new/<name>/     drafts: attempts under way, each locked by the process that makes it
    <folder>/digests.json     digests of sources

Runs no step and knows no fingerprint's meaning. A result is written as a draft, brought to the disk itself,
and renamed; drafts whose process died are swept by the next run. POSIX only, for the locks.
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from pydantic import JsonValue

from converters.digests import Digests
from converters.step import Facts
from edge_runtime.contract.errors import StorageError

FACTS = "facts.json"
RUN = "run.json"
LOG = "log.txt"
ERROR = "error.json"
OWN_NAMES = (FACTS, RUN, LOG)
"""Files of a result that the runner writes; a step must not use these names, and a copy leaves them out."""

_DRAFTS = ".new"
_FAILED = "failed"
_LOCK = ".lock"
_FINGERPRINT_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Draft:
    """A result in the making.

    Args:
        fingerprint: Its name.
        folder: All that belongs to the attempt; goes away with it.
        lock: Held open by the process that makes it.
    """

    fingerprint: str
    folder: Path
    lock: IO[bytes]

    @property
    def out(self) -> Path:
        """The folder the step fills."""
        return self.folder / "out"

    @property
    def log(self) -> Path:
        """What the step's tools say."""
        return self.folder / LOG

    @property
    def temporary(self) -> Path:
        """Where the step's tools may leave what nobody needs."""
        return self.folder / "tmp"


class StepStore:
    """A folder of results, for any number of threads and processes.

    Args:
        folder: Made when absent.

    Raises:
        StorageError: It cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        with self.speaking("cannot be used"):
            (self.folder / _DRAFTS).mkdir(parents=True, exist_ok=True)
        self.digests = Digests(self.folder / "digests.json")

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Keep results from being pruned by other processes, and sweep drafts whose makers died.

        Raises:
            StorageError: The folder cannot be written.
        """
        with self._locked(fcntl.LOCK_SH):
            self._sweep()
            yield

    def get(self, fingerprint: str) -> Path | None:
        """Give the folder of a result; None when there is none. Marks it as used now.

        Args:
            fingerprint: SHA-256 in hexadecimal.
        """
        path = self.folder / fingerprint
        if not (path / FACTS).is_file():
            return None
        # Another user's result can be read, only not marked.
        with suppress(OSError):
            os.utime(path)
        return path

    def begin(self, fingerprint: str) -> Draft:
        """Begin a result. `commit`, `fail` or `discard` must follow.

        Raises:
            StorageError: The disk is full or not writeable.
        """
        with self.speaking("cannot take a result"), self._drafts_locked():
            folder = self.folder / _DRAFTS / secrets.token_hex(4)
            folder.mkdir()
            lock = (folder / _LOCK).open("wb")
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft = Draft(fingerprint, folder, lock)
            draft.out.mkdir()
            draft.temporary.mkdir()
            return draft

    def commit(self, draft: Draft, facts: Facts, run: Facts) -> Path:
        """Make a draft a result, all or nothing. Where another process was faster, its result is kept.

        Args:
            draft: What `begin` gave, its folder filled.
            facts: What the step says of its result.
            run: What the runner says of its making; not the same each time.

        Returns:
            The result's folder.

        Raises:
            StorageError: The disk is full or broken; there is no result then.
        """
        path = self.folder / draft.fingerprint
        try:
            with self.speaking("cannot keep a result"):
                (draft.out / FACTS).write_text(json.dumps(facts, sort_keys=True, indent=1, allow_nan=False))
                (draft.out / RUN).write_text(json.dumps(run, sort_keys=True, indent=1))
                if draft.log.exists():
                    draft.log.replace(draft.out / LOG)
                _sync(draft.out)
                self._settle(draft, path)
                _sync_one(self.folder)
        finally:
            self.discard(draft)
        # The last failure is history once there is a result.
        shutil.rmtree(self._failed(draft), ignore_errors=True)
        return path

    def fail(self, draft: Draft, error: dict[str, JsonValue]) -> Path:
        """End a draft without a result, keeping its log.

        Args:
            draft: What `begin` gave.
            error: What went wrong, for a machine.

        Returns:
            The log's place. On a full disk there may be nothing.
        """
        place = self._failed(draft)
        # The step's own error is what matters; a disk without room for its log must not replace it.
        with suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            if draft.log.exists():
                draft.log.replace(place / LOG)
            (place / ERROR).write_text(json.dumps(error, sort_keys=True, indent=1))
        self.discard(draft)
        return place / LOG

    def discard(self, draft: Draft) -> None:
        """End a draft, leaving nothing. Idempotent."""
        # What cannot be removed now is swept by a later run.
        shutil.rmtree(draft.folder, ignore_errors=True)
        draft.lock.close()

    def size_bytes(self) -> int:
        """Count the bytes of all results."""
        return sum(_size(path) for path in self._results())

    def prune(self, max_bytes: int, *, keep: Collection[str] = ()) -> int:
        """Remove what was not used for the longest time, until the rest fits.

        Args:
            max_bytes: Bound of all results together.
            keep: Fingerprints that stay in any case.

        Returns:
            Bytes freed; 0 while another process uses the store.

        Raises:
            StorageError: The disk is broken or not writeable.
        """
        with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB) as locked:
            if not locked:
                return 0
            with self.speaking("cannot be pruned"):
                self._sweep()
                shutil.rmtree(self.folder / _FAILED, ignore_errors=True)
                oldest = sorted(self._results(), key=lambda path: (path.stat().st_mtime_ns, path.name))
                sizes = {path: _size(path) for path in oldest}
                total = sum(sizes.values())
                freed = 0
                for path in oldest:
                    if total - freed <= max_bytes:
                        break
                    if path.name not in keep:
                        # Renamed first: a result that is half removed must not be taken for one.
                        gone = self.folder / _DRAFTS / secrets.token_hex(4)
                        path.rename(gone)
                        shutil.rmtree(gone)
                        freed += sizes[path]
                return freed

    def _failed(self, draft: Draft) -> Path:
        # Short, for a person reads it in a message.
        return self.folder / _FAILED / draft.fingerprint[:12]

    def _results(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if len(path.name) == _FINGERPRINT_LENGTH]

    def _settle(self, draft: Draft, path: Path) -> None:
        if path.exists() and not (path / FACTS).is_file():
            path.rename(draft.folder / "damaged")
        try:
            draft.out.rename(path)
        except OSError:
            # A folder is not renamed onto one that is there.
            if not (path / FACTS).is_file():
                raise

    @contextmanager
    def _drafts_locked(self) -> Generator[None]:
        """Between making a draft and locking it, it would look like one whose maker died."""
        with (self.folder / _DRAFTS / _LOCK).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _locked(self, how: int) -> Generator[bool]:
        with self.speaking("cannot be used"):
            file = (self.folder / _LOCK).open("ab")
        with file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _sweep(self) -> None:
        with self.speaking("cannot be swept"), self._drafts_locked():
            for folder in (self.folder / _DRAFTS).iterdir():
                if folder.is_dir() and _abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def speaking(self, what: str) -> Generator[None]:
        """Turn what the system says of the disk into a word for a person."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"store {self.folder} {what}",
                got=error.strerror or str(error),
                do="Free the disk or let this user write there; earlier results are kept",
            ) from error


def read_facts(result: Path) -> Facts:
    """Give what a step said of its result.

    Args:
        result: A folder that `StepStore.get` or `commit` gave.
    """
    return _read(result / FACTS)


def read_run(result: Path) -> Facts:
    """Give what the runner said of a result's making: `seconds`, `peak_memory_bytes`.

    Args:
        result: A folder that `StepStore.get` or `commit` gave.
    """
    return _read(result / RUN)


def _read(file: Path) -> Facts:
    try:
        return cast(Facts, json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{file} is damaged", got=str(error), do=f"Remove the folder {file.parent}; it will be made again"
        ) from error


def _abandoned(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())


def _sync(folder: Path) -> None:
    """Bring a tree to the disk itself."""
    for parent, _, files in os.walk(folder):
        for name in files:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                _sync_one(path)
        _sync_one(Path(parent))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
