"""Spool: a durable, bounded queue of messages in one SQLite file.

Knows no network and no event. What `append` returned for survives `kill -9`; after `sync` also a power cut
(write-ahead log with `synchronous=NORMAL`: https://sqlite.org/pragma.html#pragma_synchronous).
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_runtime.contract.errors import StorageError

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_FILES = ("", "-wal", "-shm")
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to send.

    Args:
        id: Its place in the spool; grows, and is never used twice.
        topic: Where it goes.
        payload: What it says.
    """

    id: int
    topic: str
    payload: bytes


class Spool:
    """A first-in first-out queue on disk. Safe to share between threads, not between processes.

    When it is full, the oldest letters are dropped and counted. A damaged file is moved aside, as
    `NAME.damaged`, and a new one begun: a device must not stop for it.

    Args:
        path: The SQLite file; made with its folder when absent.
        max_bytes: Bound of topics and payloads together. The file takes a little more, and keeps its size.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._count = 0
        self._bytes = 0
        self._dropped = 0
        self._damage = ""
        self._database: sqlite3.Connection | None = None

    @property
    def dropped(self) -> int:
        """Letters dropped since this process began, for being the oldest in a full spool."""
        return self._dropped

    @property
    def damage(self) -> str:
        """What happened to a damaged file, for a person; empty when nothing did."""
        return self._damage

    def __len__(self) -> int:
        """Letters in it; 0 before it was opened."""
        return self._count

    def open(self) -> None:
        """Open the file now. Every other call opens it, too, when it is closed.

        Raises:
            StorageError: The file cannot be made or opened, or another process has it.
        """
        with self._lock:
            self._do(lambda _: None)

    def append(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Add letters at the end, all or none of them.

        Args:
            messages: Topic and payload of each.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """
        with self._lock:
            self._do(lambda database: self._append(database, messages))

    def peek(self, count: int, *, after: int = 0) -> tuple[Letter, ...]:
        """Read the oldest letters without taking them out.

        Args:
            count: How many at most.
            after: Only letters with a larger id.

        Raises:
            StorageError: The file cannot be read.
        """
        query = "SELECT id, topic, payload FROM letters WHERE id > ? ORDER BY id LIMIT ?"
        with self._lock:
            rows: list[tuple[int, str, bytes]] = self._do(
                lambda database: database.execute(query, (after, count)).fetchall()
            )
        return tuple(Letter(*row) for row in rows)

    def ack(self, ids: Iterable[int]) -> None:
        """Take letters out: they arrived. Ids that are gone already do no harm.

        Raises:
            StorageError: The file cannot be written; the letters will be sent again.
        """
        with self._lock:
            self._do(lambda database: self._remove(database, ids))

    def sync(self) -> None:
        """Bring all letters to the disk itself, so that they survive a power cut.

        Raises:
            StorageError: The disk reports a failure.
        """
        with self._lock:
            self._do(lambda database: database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        with self._lock:
            self._release()

    def _append(self, database: sqlite3.Connection, messages: Sequence[tuple[str, bytes]]) -> None:
        rows = [(topic, payload, len(topic.encode()) + len(payload)) for topic, payload in messages]
        added = sum(row[2] for row in rows)
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO letters (topic, payload, bytes) VALUES (?, ?, ?)", rows)
            gone, freed = _trim(database, self._bytes + added - self._max_bytes)
        self._count += len(rows) - gone
        self._bytes += added - freed
        self._dropped += gone

    def _remove(self, database: sqlite3.Connection, ids: Iterable[int]) -> None:
        count = freed = 0
        with database:
            database.execute("BEGIN IMMEDIATE")
            for number in ids:
                row = database.execute(
                    "DELETE FROM letters WHERE id = ? RETURNING bytes", (number,)
                ).fetchone()
                if row is not None:
                    count, freed = count + 1, freed + int(row[0])
        self._count -= count
        self._bytes -= freed

    def _do(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run an action on the open file; on damage, once more on a new one."""
        try:
            try:
                return action(self._opened())
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGE:
                    raise
                self._set_aside(error)
                return action(self._opened())
        except (sqlite3.Error, OSError) as error:
            self._release()
            raise self._refused(error) from error

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(self._path)
            query = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM letters"
            self._count, self._bytes = self._database.execute(query).fetchone()
        return self._database

    def _release(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _set_aside(self, error: sqlite3.Error) -> None:
        self._release()
        aside = self._path.with_name(self._path.name + ".damaged")
        for suffix in _FILES:
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").replace(f"{aside}{suffix}")
        self._damage = f"{self._path} was damaged ({error}); it was moved to {aside} and a new one begun"
        log.error("%s", self._damage)

    def _refused(self, error: sqlite3.Error | OSError) -> StorageError:
        do = "Free the disk or allow this user to write there; until then events wait in memory"
        if _code(error) == sqlite3.SQLITE_BUSY:
            do = "Another process has it: is a second agent running with the same state folder?"
        return StorageError(f"{self._path}: cannot keep events", got=str(error), do=do)


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for an error that is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        # One process owns the file, and the log then needs no shared memory, which some file systems lack.
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("PRAGMA journal_mode=WAL").fetchone()
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("PRAGMA journal_size_limit=4194304")
        database.execute(
            "CREATE TABLE IF NOT EXISTS letters (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " topic TEXT NOT NULL, payload BLOB NOT NULL, bytes INTEGER NOT NULL)"
        )
    except BaseException:
        database.close()
        raise
    return database


def _trim(database: sqlite3.Connection, surplus: int) -> tuple[int, int]:
    """Drop the oldest letters until `surplus` bytes are free; give their number and size."""
    oldest = "DELETE FROM letters WHERE id = (SELECT MIN(id) FROM letters) RETURNING bytes"
    count = freed = 0
    while freed < surplus:
        row = database.execute(oldest).fetchone()
        if row is None:
            break
        count, freed = count + 1, freed + int(row[0])
    return count, freed
