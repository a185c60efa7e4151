"""Spool: a durable, bounded queue of messages in one SQLite file.

Knows no network and no event. What `append` returned for survives `kill -9`; after `sync` also a power cut.
"""

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.database import Database

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS letters (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " topic TEXT NOT NULL, payload BLOB NOT NULL, bytes INTEGER NOT NULL)"
)


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
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._count = 0
        self._bytes = 0
        self._dropped = 0
        self._database = Database(
            path,
            _SCHEMA,
            what="events",
            opened=self._recount,
            synchronous="NORMAL",
            meanwhile="until then events wait in memory",
        )

    @property
    def dropped(self) -> int:
        """Letters dropped since this process began, for being the oldest in a full spool."""
        return self._dropped

    @property
    def damage(self) -> str:
        """What happened to a damaged file, for a person; empty when nothing did."""
        return self._database.damage

    def __len__(self) -> int:
        """Letters in it; 0 before it was opened."""
        return self._count

    def open(self) -> None:
        """Open the file now. Every other call opens it, too, when it is closed.

        Raises:
            StorageError: The file cannot be made or opened, or another process has it.
        """
        with self._lock:
            self._database.do(lambda _: None)

    def append(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Add letters at the end, all or none of them.

        Args:
            messages: Topic and payload of each.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """
        rows = [(topic, payload, len(topic.encode()) + len(payload)) for topic, payload in messages]
        added = sum(row[2] for row in rows)

        def put(database: sqlite3.Connection) -> tuple[int, int]:
            database.executemany("INSERT INTO letters (topic, payload, bytes) VALUES (?, ?, ?)", rows)
            return _trim(database, self._bytes + added - self._max_bytes)

        with self._lock:
            gone, freed = self._database.do(put)
            self._count += len(rows) - gone
            self._bytes += added - freed
            self._dropped += gone

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
            rows: list[tuple[int, str, bytes]] = self._database.do(
                lambda database: database.execute(query, (after, count)).fetchall()
            )
        return tuple(Letter(*row) for row in rows)

    def ack(self, ids: Iterable[int]) -> None:
        """Take letters out: they arrived. Ids that are gone already do no harm.

        Raises:
            StorageError: The file cannot be written; the letters will be sent again.
        """
        with self._lock:
            count, freed = self._database.do(lambda database: _remove(database, ids))
            self._count -= count
            self._bytes -= freed

    def sync(self) -> None:
        """Bring all letters to the disk itself, so that they survive a power cut.

        Raises:
            StorageError: The disk reports a failure.
        """
        with self._lock:
            self._database.sync()

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        with self._lock:
            self._database.close()

    def _recount(self, database: sqlite3.Connection) -> None:
        query = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM letters"
        self._count, self._bytes = database.execute(query).fetchone()


def _remove(database: sqlite3.Connection, ids: Iterable[int]) -> tuple[int, int]:
    """Take letters out; give their number and size."""
    count = freed = 0
    for number in ids:
        row = database.execute("DELETE FROM letters WHERE id = ? RETURNING bytes", (number,)).fetchone()
        if row is not None:
            count, freed = count + 1, freed + int(row[0])
    return count, freed


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
