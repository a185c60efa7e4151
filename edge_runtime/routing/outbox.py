"""Outbox: what is owed to the cloud, on disk before anybody is told it will be sent; and its late answers.

Sends nothing (`edge_runtime.routing.sender` does), decides nothing about when, and looks into no body.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.contract.errors import InputError
from edge_runtime.database import Database
from edge_runtime.routing.parcel import WITHHELD, Kind, Late, OutboxStatus, Owed, Parcel, Poison

_SCHEMA = """
CREATE TABLE IF NOT EXISTS owed (
  id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, stream TEXT NOT NULL, kind TEXT NOT NULL,
  rank INTEGER NOT NULL, path TEXT NOT NULL, type TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL,
  note TEXT NOT NULL, bytes INTEGER NOT NULL, since_s REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS owed_by_stream ON owed (stream, id);
CREATE INDEX IF NOT EXISTS owed_by_rank ON owed (rank, id);
CREATE TABLE IF NOT EXISTS poison (
  id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, stream TEXT NOT NULL, kind TEXT NOT NULL,
  path TEXT NOT NULL, type TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, bytes INTEGER NOT NULL,
  attempts INTEGER NOT NULL, error TEXT NOT NULL, at_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
  id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, type TEXT NOT NULL,
  body BLOB NOT NULL, note TEXT NOT NULL, bytes INTEGER NOT NULL, at_s REAL NOT NULL,
  told INTEGER NOT NULL DEFAULT 0, digest TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS answers_untold ON answers (told, id);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

_RANKS = {kind: rank for rank, kind in enumerate(Kind)}
_KEPT_SHARE = 4
"""Answers, and poison, may each take this part of what parcels may."""


class Outbox:
    """A durable, bounded box of parcels, and the answers to them. Safe to share between threads.

    When it is full, audits go first, then events, then escalations, the oldest first, and are counted.

    Args:
        path: The SQLite file; made with its folder when absent.
        max_bytes: Bound of all waiting parcels together. Answers and poison may take a quarter of it each.
        max_age_s: A parcel or an answer older than this is worth nothing any more.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_age_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._database = Database(path, _SCHEMA, what="what is owed to the cloud", opened=self._count)
        self._count_owed = 0
        self._bytes = 0
        self._counters: Counter[str] = Counter()

    def open(self) -> None:
        """Open the file now. Every other call opens it, too.

        Raises:
            StorageError: The file cannot be made or opened, or another process has it.
        """
        self._database.do(lambda _: None)

    def put(self, parcel: Parcel, now_s: float) -> bool:
        """Keep a parcel for sending. When this returns True it survives `kill -9` and a power cut.

        Args:
            parcel: A key that waits already, or was answered already, is not kept twice. Of audits, about
                which nobody asks by id, the first of a key counts.
            now_s: Seconds since 1970.

        Returns:
            Whether it is kept, or was already; False where there is no room for it.

        Raises:
            InputError: The key is that of something else.
            StorageError: The disk did not take it; it is not kept.
        """
        return self._database.do(lambda database: self._put(database, parcel, now_s))

    def heads(self) -> tuple[Owed, ...]:
        """Give the oldest parcel of every stream, the oldest stream first.

        Raises:
            StorageError: The file cannot be read.
        """
        query = (
            "SELECT id, key, stream, kind, path, type, headers, body, note, since_s, attempts FROM owed"
            " WHERE id IN (SELECT MIN(id) FROM owed GROUP BY stream) ORDER BY id"
        )
        rows = self._database.do(lambda database: database.execute(query).fetchall())
        return tuple(_owed(row) for row in rows)

    def settle(self, owed: Owed, content_type: str, body: bytes, now_s: float) -> None:
        """Take a parcel out and keep its answer, both or neither. A second time does no harm.

        Args:
            owed: What was sent.
            content_type: Of the answer.
            body: The answer; of an event, none is kept.
            now_s: Seconds since 1970.

        Raises:
            StorageError: The disk did not take it; the parcel waits still.
        """

        def settle(database: sqlite3.Connection) -> None:
            self._remove(database, "sent", "id = ?", owed.id)
            if owed.parcel.kind is not Kind.EVENT:
                parcel = owed.parcel
                database.execute(
                    "INSERT OR IGNORE INTO answers (key, kind, type, body, note, bytes, at_s, digest)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(parcel.key, parcel.kind, content_type, body, parcel.note, len(body), now_s),
                        _digest(parcel.path, parcel.content_type, parcel.body),
                    ),
                )
                self._bound(database, "answers")

        self._database.do(settle)

    def postpone(self, owed: Owed) -> None:
        """Note that a try failed; the parcel stays where it is.

        Raises:
            StorageError: The disk did not take the note.
        """
        self._database.do(
            lambda database: database.execute(
                "UPDATE owed SET attempts = attempts + 1 WHERE id = ?", (owed.id,)
            )
        )

    def poison(self, owed: Owed, error: str, now_s: float) -> None:
        """Put a parcel aside that the cloud will never take; the next of its stream comes up.

        Args:
            owed: What will not be sent again.
            error: What the cloud said; beginning with `WITHHELD`: why it may not leave, and was not tried.
            now_s: Seconds since 1970.

        Raises:
            StorageError: The disk did not take it; the parcel waits still.
        """
        withheld = error.startswith(WITHHELD)

        def poison(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT INTO poison"
                " (key, stream, kind, path, type, headers, body, bytes, attempts, error, at_s)"
                " SELECT key, stream, kind, path, type, headers, body, bytes, attempts + ?, ?, ?"
                " FROM owed WHERE id = ?",
                (not withheld, error, now_s, owed.id),
            )
            self._remove(database, "withheld" if withheld else "refused", "id = ?", owed.id)
            self._bound(database, "poison")

        self._database.do(poison)

    def expire(self, now_s: float) -> int:
        """Drop what is older than it may be.

        Args:
            now_s: Seconds since 1970. A clock that was set back makes nothing older.

        Returns:
            Parcels dropped.

        Raises:
            StorageError: The disk did not take it.
        """
        oldest_s = now_s - self._max_age_s

        def expire(database: sqlite3.Connection) -> int:
            database.execute("DELETE FROM answers WHERE at_s < ?", (oldest_s,))
            return self._remove(database, "expired", "since_s < ?", oldest_s)

        return self._database.do(expire)

    def answer(self, key: str) -> Late | None:
        """Give the late answer to a request; None where there is none yet, or no more.

        Raises:
            StorageError: The file cannot be read.
        """
        query = "SELECT key, kind, type, body, at_s, note FROM answers WHERE key = ?"
        row = self._database.do(lambda database: database.execute(query, (key,)).fetchone())
        return None if row is None else _late(row)

    def waits(self, key: str) -> bool:
        """Say whether a request still waits to be sent.

        Raises:
            StorageError: The file cannot be read.
        """
        query = "SELECT 1 FROM owed WHERE key = ?"
        return self._database.do(lambda database: database.execute(query, (key,)).fetchone()) is not None

    def untold(self, count: int) -> tuple[Late, ...]:
        """Give the oldest answers that nobody was told of yet.

        Raises:
            StorageError: The file cannot be read.
        """
        query = "SELECT key, kind, type, body, at_s, note FROM answers WHERE told = 0 ORDER BY id LIMIT ?"
        rows = self._database.do(lambda database: database.execute(query, (count,)).fetchall())
        return tuple(_late(row) for row in rows)

    def told(self, keys: Sequence[str]) -> None:
        """Note that somebody was told of these answers; they stay for whoever asks by id.

        Raises:
            StorageError: The disk did not take it; they will be told again.
        """
        self._database.do(
            lambda database: database.executemany(
                "UPDATE answers SET told = 1 WHERE key = ?", [(key,) for key in keys]
            )
        )

    def poisoned(self, key: str | None = None) -> tuple[Poison, ...]:
        """List what the cloud refused for good and what may no longer leave, the oldest first.

        Args:
            key: Only of this request; None: all.

        Raises:
            StorageError: The file cannot be read.
        """
        query = (
            "SELECT key, stream, kind, path, attempts, error, at_s FROM poison"
            " WHERE :key IS NULL OR key = :key ORDER BY id"
        )
        rows = self._database.do(lambda database: database.execute(query, {"key": key}).fetchall())
        return tuple(Poison(key, stream, Kind(kind), *rest) for key, stream, kind, *rest in rows)

    def __len__(self) -> int:
        """Parcels that wait; 0 before the file was opened."""
        return self._count_owed

    def status(self) -> OutboxStatus:
        """Say how much is owed, and what became of the rest.

        Raises:
            StorageError: The file cannot be read.
        """
        query = "SELECT (SELECT COUNT(*) FROM answers), (SELECT COUNT(*) FROM poison)"
        answers, poisoned = self._database.do(lambda database: database.execute(query).fetchone())
        return OutboxStatus(
            waiting=self._count_owed,
            waiting_bytes=self._bytes,
            answers=answers,
            poisoned=poisoned,
            sent=self._counters["sent"],
            dropped=self._counters["dropped"],
            expired=self._counters["expired"],
            refused=self._counters["refused"],
            withheld=self._counters["withheld"],
            damage=self._database.damage,
        )

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        self._database.close()

    def _count(self, database: sqlite3.Connection) -> None:
        if "digest" not in {column[1] for column in database.execute("PRAGMA table_info(answers)")}:
            # A file of a version before there were any.
            database.execute("ALTER TABLE answers ADD COLUMN digest TEXT NOT NULL DEFAULT ''")
        query = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM owed"
        self._count_owed, self._bytes = database.execute(query).fetchone()
        self._counters = Counter(dict(database.execute("SELECT name, value FROM counters").fetchall()))

    def _put(self, database: sqlite3.Connection, parcel: Parcel, now_s: float) -> bool:
        """Insert and make room; give whether it is kept."""
        digest = _known(database, parcel.key)
        if digest is not None:
            same = digest in {"", _digest(parcel.path, parcel.content_type, parcel.body)}
            if not same and parcel.kind is not Kind.AUDIT:
                raise InputError(
                    f"request '{parcel.key}'",
                    expected="an id of its own for each request",
                    got="the id of another one, which went to the cloud, or will",
                )
            return True
        headers = json.dumps(dict(parcel.headers))
        size = len(parcel.body) + len(parcel.path) + len(headers) + len(parcel.note)
        number = database.execute(
            "INSERT INTO owed (key, stream, kind, rank, path, type, headers, body, note, bytes, since_s)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(parcel.key, parcel.stream, parcel.kind, _RANKS[parcel.kind], parcel.path),
                *(parcel.content_type, headers, parcel.body, parcel.note, size, now_s),
            ),
        ).lastrowid
        self._count_owed += 1
        self._bytes += size
        if size > self._max_bytes:
            # No number of others makes room for it.
            return not self._remove(database, "dropped", "id = ?", number)
        gone, freed = _trim(database, "owed", "rank, id", self._bytes - self._max_bytes)
        self._forget(database, "dropped", gone, freed)
        return database.execute("SELECT 1 FROM owed WHERE id = ?", (number,)).fetchone() is not None

    def _remove(self, database: sqlite3.Connection, counter: str, where: str, value: object) -> int:
        """Delete parcels and count them; give their number."""
        query = f"DELETE FROM owed WHERE {where} RETURNING bytes"  # noqa: S608 - our own conditions
        sizes = [int(size) for (size,) in database.execute(query, (value,)).fetchall()]
        self._forget(database, counter, len(sizes), sum(sizes))
        return len(sizes)

    def _forget(self, database: sqlite3.Connection, counter: str, count: int, size: int) -> None:
        # Changed inside the transaction: one that fails closes the file, and opening it counts anew.
        self._count_owed -= count
        self._bytes -= size
        self._counters[counter] += count
        if count:
            database.execute(
                "INSERT INTO counters VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (counter, count),
            )

    def _bound(self, database: sqlite3.Connection, table: str) -> None:
        query = f"SELECT COALESCE(SUM(bytes), 0) FROM {table}"  # noqa: S608 - one of our own two names
        (held,) = database.execute(query).fetchone()
        _trim(database, table, "id", held - self._max_bytes // _KEPT_SHARE)


def _trim(database: sqlite3.Connection, table: str, order: str, surplus: int) -> tuple[int, int]:
    """Delete the first rows of a table until `surplus` bytes are free; give their number and bytes."""
    first = f"(SELECT id FROM {table} ORDER BY {order} LIMIT 1)"  # noqa: S608 - our own names
    query = f"DELETE FROM {table} WHERE id = {first} RETURNING bytes"  # noqa: S608 - our own names
    count = freed = 0
    while freed < surplus:
        row = database.execute(query).fetchone()
        if row is None:
            break
        count, freed = count + 1, freed + int(row[0])
    return count, freed


def _known(database: sqlite3.Connection, key: str) -> str | None:
    """Give the digest of what has this key; None: nothing has; empty: an answer that was kept without one."""
    row = database.execute("SELECT path, type, body FROM owed WHERE key = ?", (key,)).fetchone()
    if row is not None:
        return _digest(*row)
    row = database.execute("SELECT digest FROM answers WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _digest(path: str, content_type: str, body: bytes) -> str:
    digest = hashlib.sha256(f"{path}\n{content_type}\n".encode())
    digest.update(body)
    return digest.hexdigest()


def _owed(row: tuple[int, str, str, str, str, str, str, bytes, str, float, int]) -> Owed:
    number, key, stream, kind, path, content_type, headers, body, note, since_s, attempts = row
    parcel = Parcel(key, stream, Kind(kind), path, content_type, body, json.loads(headers), note)
    return Owed(number, parcel, since_s, attempts)


def _late(row: tuple[str, str, str, bytes, float, str]) -> Late:
    key, kind, content_type, body, at_s, note = row
    return Late(key, Kind(kind), content_type, body, at_s, note)
