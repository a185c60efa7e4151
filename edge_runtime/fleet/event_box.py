"""Events that the manager has not got yet, in a small file that outlives the process; and a counter.

Bounded: where too many wait, the oldest are given up. Remembers what it handed over, so that the same event
is not sent again. Sends nothing. May be used from several threads.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import DeviceEvent
from edge_runtime.database import Database

_WAITING = 500
_TOLD = 1000
"""Ids that are remembered."""
_HELD = 50
"""Kept in memory while the disk takes none."""
_BLOCK = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, told INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS counter (only INTEGER PRIMARY KEY CHECK (only = 0), value INTEGER NOT NULL);
"""


class EventBox:
    """The file.

    Args:
        path: Made with its folder when absent.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(
            path,
            _SCHEMA,
            what="events for the manager",
            opened=self._count,
            meanwhile="some events are kept in memory",
        )
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._held_n = 0
        self._waiting = 0
        self._next = self._limit = 0
        self.given_up = 0
        """Events that were thrown away because too many waited."""
        with suppress(StorageError):  # counts what waits from before; else that is done with the first event
            self._database.do(lambda connection: None)

    def __len__(self) -> int:
        return self._waiting + len(self._held)

    @property
    def damage(self) -> str:
        """What happened to a damaged file, for a person; empty when nothing did."""
        return self._database.damage

    def put(self, event: DeviceEvent) -> None:
        """Keep an event until `done`; one whose id was kept before changes nothing."""
        body = event.model_dump_json().encode()
        try:
            self._database.do(lambda connection: self._insert(connection, event.id, body))
        except StorageError:
            with self._lock:
                self._held_n -= 1
                self._held.setdefault(event.id, (self._held_n, body))
                if len(self._held) > _HELD:
                    self._held.popitem(last=False)
                    self.given_up += 1

    def waiting(self, limit: int, without: Collection[int] = ()) -> list[tuple[int, bytes]]:
        """Give the oldest events that wait, each with the number to name it by.

        Args:
            limit: How many.
            without: Numbers to leave out: they are under way.
        """
        with self._lock:
            held = [each for each in self._held.values() if each[0] not in without]
        kept: list[tuple[int, bytes]] = []
        if self._waiting:
            try:
                kept = self._database.do(
                    lambda connection: connection.execute(
                        "SELECT n, body FROM events WHERE NOT told ORDER BY n LIMIT ?", [limit + len(without)]
                    ).fetchall()
                )
            except StorageError:  # what is held in memory goes out all the same; it is asked again
                kept = []
        return [*held, *(each for each in kept if each[0] not in without)][:limit]

    def done(self, number: int) -> None:
        """The manager has it.

        Raises:
            StorageError: That cannot be kept; it may be sent again after a restart.
        """
        if number < 0:
            with self._lock:
                for event_id, (each, _) in list(self._held.items()):
                    if each == number:
                        del self._held[event_id]
            return
        self._database.do(lambda connection: self._mark(connection, number))

    def next_number(self) -> int:
        """Count up from 0; over restarts, too, with gaps, as long as the disk takes that."""
        with self._lock:
            if self._next >= self._limit:
                with suppress(StorageError):  # counts on in memory, and asks again next time
                    first = self._database.do(_reserve)
                    self._limit = first + _BLOCK
                    self._next = max(self._next, first)
            self._next += 1
            return self._next - 1

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _count(self, connection: sqlite3.Connection) -> None:
        (self._waiting,) = connection.execute("SELECT count(*) FROM events WHERE NOT told").fetchone()

    def _insert(self, connection: sqlite3.Connection, event_id: str, body: bytes) -> None:
        connection.execute("INSERT OR IGNORE INTO events (id, body, told) VALUES (?, ?, 0)", [event_id, body])
        (before,) = connection.execute("SELECT count(*) FROM events WHERE NOT told").fetchone()
        for told, keep in ((0, _WAITING), (1, _TOLD)):
            connection.execute(
                "DELETE FROM events WHERE told = ? AND n NOT IN"
                " (SELECT n FROM events WHERE told = ? ORDER BY n DESC LIMIT ?)",
                [told, told, keep],
            )
        self._count(connection)
        self.given_up += before - self._waiting

    def _mark(self, connection: sqlite3.Connection, number: int) -> None:
        connection.execute("UPDATE events SET told = 1, body = x'' WHERE n = ?", [number])
        self._count(connection)


def _reserve(connection: sqlite3.Connection) -> int:
    (first,) = connection.execute("SELECT coalesce(max(value), 0) FROM counter").fetchone()
    connection.execute("INSERT OR REPLACE INTO counter (only, value) VALUES (0, ?)", [first + _BLOCK])
    return first
