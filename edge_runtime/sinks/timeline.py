"""Timeline: the last events with a small picture of each, on disk, for a person who looks back.

Bounded by bytes and by age: the oldest go first. It is no archive: other sinks are.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2

from edge_runtime.contract.event import EVENTS, Event
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import SinkStatus
from edge_runtime.database import Database
from edge_runtime.sinks.drawing import Overlay, still

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, camera TEXT NOT NULL, kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL, kept_ms INTEGER NOT NULL, document BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_time ON events (at_ms);
CREATE TABLE IF NOT EXISTS pictures (id TEXT PRIMARY KEY, jpeg BLOB NOT NULL);
"""
_HEIGHT = 216
_QUALITY = 75
_WAITING = 256
"""Pictures in memory at most, each a few kB, until their events are written."""
_ROW_BYTES = 200
"""About what a row costs beside its document: keys, indices, page overhead."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are looked for.

    Args:
        camera: Empty: any.
        kind: Type of the event; empty: any.
        from_ms: Source time, milliseconds since 1970, UTC.
        to_ms: As `from_ms`, exclusive; None: no end.
        before: Number of the last event of the page before; None: from the newest on.
        limit: At most so many.
    """

    camera: str = ""
    kind: str = ""
    from_ms: int = 0
    to_ms: int | None = None
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Moment:
    """An event of the timeline.

    Args:
        number: In the order they came.
        event: What happened.
        pictured: Whether there is a picture.
    """

    number: int
    event: Event
    pictured: bool


class Timeline:
    """Takes events as an event sink and pictures as a scene sink. Safe to share between threads.

    Args:
        path: The database.
        overlays: What is drawn over each camera's pictures, by name; may change.
        keep_bytes: At most, about.
        keep_s: What is older goes.
    """

    def __init__(
        self, path: Path, overlays: Mapping[str, Overlay], *, keep_bytes: int, keep_s: float
    ) -> None:
        self.name = "timeline"
        self._overlays = overlays
        self._keep_bytes = keep_bytes
        self._keep_s = keep_s
        self._bytes = 0
        self._written = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=_WAITING)
        self._database = Database(
            path, _SCHEMA, what="the timeline", opened=self._count, synchronous="NORMAL"
        )

    def show(self, scene: Scene) -> None:
        """Make the picture of a scene in which something happened."""
        if not scene.events:
            return
        overlay = self._overlays.get(scene.frame.camera, Overlay())
        image = still(scene, overlay, height=_HEIGHT)
        done, jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        if done:
            with self._lock:
                self._waiting.extend((event.id, jpeg.tobytes()) for event in scene.events)

    def write(self, events: Sequence[Event]) -> None:
        """Keep events; one that came before counts as new, as a recording's do that is read again.

        Raises:
            StorageError: The disk does not take them.
        """
        kept_ms = round(time.time() * 1000)
        rows = [
            (each.id, each.camera, each.type, milliseconds(each.time), kept_ms, each.model_dump_json())
            for each in events
        ]

        def put(tx: sqlite3.Connection) -> None:
            for row in rows:
                self._bytes -= _removed(tx, "id = ?", row[0], pictures=False)
            tx.executemany(
                "INSERT INTO events (id, camera, kind, at_ms, kept_ms, document) VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._bytes += sum(len(row[-1]) + _ROW_BYTES for row in rows)

        self._database.do(put)
        self._written += len(rows)
        self._store_pictures()

    def sync(self) -> None:
        """Put pictures to their events, drop what is too old or too much, and bring all to the disk.

        Raises:
            StorageError: As `write`.
        """
        self._store_pictures()
        before_ms = round((time.time() - self._keep_s) * 1000)
        self._database.do(lambda tx: self._drop(tx, before_ms))
        self._database.sync()

    def status(self) -> SinkStatus:
        """Say how many events were kept since the start."""
        return SinkStatus(self.name, written=self._written, trouble=self._database.damage)

    def close(self) -> None:
        """Close the file; it opens again where it is asked."""
        self._database.close()

    def find(self, wanted: Wanted) -> list[Moment]:
        """Give events, the newest first.

        Raises:
            StorageError: The disk cannot be read.
        """
        where = "at_ms >= ? AND (? = '' OR camera = ?) AND (? = '' OR kind = ?)"
        values: list[object] = [wanted.from_ms, wanted.camera, wanted.camera, wanted.kind, wanted.kind]
        if wanted.to_ms is not None:
            where, values = f"{where} AND at_ms < ?", [*values, wanted.to_ms]
        if wanted.before is not None:
            where, values = f"{where} AND n < ?", [*values, wanted.before]
        # Only fixed words are put together here; what callers say are parameters.
        query = (
            "SELECT n, document, EXISTS (SELECT 1 FROM pictures WHERE pictures.id = events.id)"  # noqa: S608
            f" FROM events WHERE {where} ORDER BY n DESC LIMIT ?"
        )
        rows = self._database.do(lambda tx: tx.execute(query, (*values, wanted.limit)).fetchall())
        with self._lock:
            waiting = {id_ for id_, _ in self._waiting}
        found = [(number, EVENTS.validate_json(document), pictured) for number, document, pictured in rows]
        return [
            Moment(number, event, bool(pictured) or event.id in waiting) for number, event, pictured in found
        ]

    def picture(self, event: str) -> bytes | None:
        """Give the JPEG of an event; None: there is none.

        Raises:
            StorageError: The disk cannot be read.
        """
        with self._lock:
            waiting = dict(self._waiting)
        if event in waiting:
            return waiting[event]
        row = self._database.do(
            lambda tx: tx.execute("SELECT jpeg FROM pictures WHERE id = ?", (event,)).fetchone()
        )
        return None if row is None else row[0]

    def kinds(self) -> Sequence[str]:
        """Give the types of the events there are."""
        rows = self._database.do(
            lambda tx: tx.execute("SELECT DISTINCT kind FROM events ORDER BY kind").fetchall()
        )
        return [row[0] for row in rows]

    def _store_pictures(self) -> None:
        with self._lock:
            waiting = dict(self._waiting)
        if not waiting:
            return

        def put(tx: sqlite3.Connection) -> list[str]:
            # A picture comes right behind its event, which another thread writes: it waits for that.
            marks = ",".join("?" * len(waiting))
            known = tx.execute(f"SELECT id FROM events WHERE id IN ({marks})", tuple(waiting))  # noqa: S608
            ids = [row[0] for row in known]
            for id_ in ids:
                self._bytes -= _picture_removed(tx, id_)
                tx.execute("INSERT INTO pictures (id, jpeg) VALUES (?, ?)", (id_, waiting[id_]))
                self._bytes += len(waiting[id_]) + _ROW_BYTES
            return ids

        done = set(self._database.do(put))
        with self._lock:
            left = [pair for pair in self._waiting if pair[0] not in done]
            self._waiting.clear()
            self._waiting.extend(left)

    def _drop(self, tx: sqlite3.Connection, before_ms: int) -> None:
        self._bytes -= _removed(tx, "kept_ms < ?", before_ms)
        while self._bytes > self._keep_bytes:
            freed = _removed(tx, "n IN (SELECT n FROM events ORDER BY n LIMIT ?)", 1)
            if not freed:
                return
            self._bytes -= freed

    def _count(self, connection: sqlite3.Connection) -> None:
        query = (
            "SELECT (SELECT COALESCE(SUM(LENGTH(document) + ?), 0) FROM events)"
            " + (SELECT COALESCE(SUM(LENGTH(jpeg) + ?), 0) FROM pictures)"
        )
        self._bytes = connection.execute(query, (_ROW_BYTES, _ROW_BYTES)).fetchone()[0]


def milliseconds(moment: str) -> int:
    """Give an event's time in milliseconds since 1970, UTC."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _removed(tx: sqlite3.Connection, where: str, value: object, *, pictures: bool = True) -> int:
    """Remove events, and what they had; gives the bytes that are free."""
    rows = tx.execute(f"SELECT id, LENGTH(document) FROM events WHERE {where}", (value,)).fetchall()  # noqa: S608
    freed = sum(length + _ROW_BYTES for _, length in rows)
    for id_, _ in rows:
        if pictures:
            freed += _picture_removed(tx, id_)
        tx.execute("DELETE FROM events WHERE id = ?", (id_,))
    return freed


def _picture_removed(tx: sqlite3.Connection, id_: str) -> int:
    row = tx.execute("SELECT LENGTH(jpeg) FROM pictures WHERE id = ?", (id_,)).fetchone()
    if row is None:
        return 0
    tx.execute("DELETE FROM pictures WHERE id = ?", (id_,))
    return row[0] + _ROW_BYTES
