"""Database: one SQLite file that a device must not lose and must not stop for.

Opens, locks, repairs and converts errors. Knows no table: whoever uses it brings its schema and its queries.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from edge_runtime.contract.errors import StorageError

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_FILES = ("", "-wal", "-shm")
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """A file of one process. Safe to share between threads; what `do` returned for survives `kill -9`.

    A file that it makes, and the folder, are for this user alone. A damaged file is moved aside, as
    `NAME.damaged`, and a new one begun. Write-ahead log.

    Args:
        path: The file; made with its folder when absent.
        schema: Statements that make the tables where there are none.
        what: What it keeps, for messages: `what is owed to the cloud`.
        opened: Called with each newly opened connection, to count what is in it.
        synchronous: FULL: what `do` returned for survives a power cut, too; NORMAL: after `sync`
            (https://sqlite.org/pragma.html#pragma_synchronous).
        meanwhile: What becomes of what cannot be kept, for messages; empty: nothing does.
        shared: Whether other processes may read the file while this one has it; writing stays its own. Takes
            a file system with shared memory, as every local disk is.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        *,
        what: str,
        opened: Callable[[sqlite3.Connection], None],
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        meanwhile: str = "",
        shared: bool = False,
    ) -> None:
        self._path = path
        self._schema = schema
        self._what = what
        self._on_open = opened
        self._synchronous = synchronous
        self._meanwhile = meanwhile
        self._shared = shared
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._damage = ""

    @property
    def damage(self) -> str:
        """What happened to a damaged file, for a person; empty when nothing did."""
        return self._damage

    def do(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something in one transaction; on damage, once more in a new file.

        Args:
            action: Gets the connection inside a transaction, which is undone when it raises.

        Raises:
            StorageError: The disk is full, read-only or broken, or another process has the file.
        """
        with self._lock:
            return self._try(lambda: self._transact(action))

    def sync(self) -> None:
        """Bring all there is to the disk itself, so that it survives a power cut.

        Raises:
            StorageError: The disk reports a failure.
        """
        with self._lock:
            self._try(lambda: self._opened().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        with self._lock:
            self._release()

    def _try(self, action: Callable[[], _T]) -> _T:
        try:
            try:
                return action()
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGE:
                    raise
                self._set_aside(error)
                return action()
        except (sqlite3.Error, OSError) as error:
            self._release()
            with suppress(sqlite3.Error, OSError):
                # What was counted inside the transaction that failed is counted anew.
                self._opened()
            raise self._refused(error) from error

    def _transact(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            return action(connection)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives the files beside it the mode of this one.
            self._path.touch(mode=0o600)
            self._connection = _open(self._path, self._schema, self._synchronous, self._shared)
            self._on_open(self._connection)
        return self._connection

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_aside(self, error: sqlite3.Error) -> None:
        self._release()
        aside = self._path.with_name(self._path.name + ".damaged")
        for suffix in _FILES:
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").replace(f"{aside}{suffix}")
        self._damage = f"{self._path} was damaged ({error}); it was moved to {aside} and a new one begun"
        log.error("%s", self._damage)

    def _refused(self, error: sqlite3.Error | OSError) -> StorageError:
        do = f"Free the disk or allow this user to write there{self._meanwhile and f'; {self._meanwhile}'}"
        if _code(error) == sqlite3.SQLITE_BUSY:
            do = "Another process has it: is a second agent running with the same state folder?"
        return StorageError(f"{self._path}: cannot keep {self._what}", got=str(error), do=do)


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for an error that is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _open(path: Path, schema: str, synchronous: str, shared: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        if not shared:
            # One process owns the file: the log then needs no shared memory, which some file systems lack.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA journal_size_limit=4194304")
        connection.executescript(schema)
    except BaseException:
        connection.close()
        raise
    return connection
