"""CountsStore: what was counted, in one SQLite file that stays small.

Moments are kept one by one, under the ids of their events, until their day has been over for a while: so an
event that comes again changes nothing. Then the day is summed up and its moments go. Sums up and packs
nothing itself (`edge_runtime.analytics` and the recorder do) and knows no camera.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

from edge_runtime.analytics.storesummary import Crossing, Place, Stay
from edge_runtime.database import Database

FILE = "counts.sqlite"
"""Below `state_dir`."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS places (
    number INTEGER PRIMARY KEY, camera TEXT NOT NULL, name TEXT NOT NULL, word TEXT NOT NULL,
    UNIQUE (camera, name, word));
CREATE TABLE IF NOT EXISTS moments (
    id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, place INTEGER NOT NULL, lasted_ms INTEGER);
CREATE INDEX IF NOT EXISTS moments_by_time ON moments (at_ms);
CREATE TABLE IF NOT EXISTS inside (
    camera TEXT NOT NULL, zone TEXT NOT NULL, track INTEGER NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (camera, zone, track)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS days (day TEXT PRIMARY KEY, summary BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heat (
    day TEXT NOT NULL, camera TEXT NOT NULL, grid BLOB NOT NULL, looked BLOB NOT NULL,
    PRIMARY KEY (day, camera)) WITHOUT ROWID;
"""
"""A moment with `lasted_ms` is the end of a stay in a zone (its `word` is empty), one without a crossing."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A crossing, or a stay that has ended, as it is kept.

    Args:
        id: Of the event, as 64 bits.
        at_ms: Milliseconds since 1970.
        place: Camera and line or zone.
        word: The user's, for the direction of a crossing; of a stay empty.
        lasted_ms: Of a stay; None for a crossing.
    """

    id: int
    at_ms: int
    place: Place
    word: str = ""
    lasted_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """A track that is in a zone, or has left it.

    Args:
        place: Camera and zone.
        track: Its number.
        since_ms: When it came; None: it has left.
    """

    place: Place
    track: int
    since_ms: int | None


class Looked(NamedTuple):
    """What a camera saw on a day, packed: its heatmap, and in which slots it looked."""

    grid: bytes
    slots: bytes


class CountsStore:
    """The file, for the one process that writes it; others may read it meanwhile. Safe between threads.

    Args:
        folder: `state_dir`.
    """

    def __init__(self, folder: Path) -> None:
        self._database = Database(
            folder / FILE,
            SCHEMA,
            what="counts",
            opened=_nothing,
            synchronous="NORMAL",
            meanwhile="until then events wait in memory",
            shared=True,
        )

    @property
    def damage(self) -> str:
        """What happened to a damaged file, for a person; empty when nothing did."""
        return self._database.damage

    def begin(self) -> None:
        """Start with nobody in any zone: tracks do not outlive the process that followed them.

        Raises:
            StorageError: The file cannot be made or opened.
        """
        self._database.do(lambda c: c.execute("DELETE FROM inside"))

    def add(self, moments: Sequence[Moment], inside: Sequence[Inside]) -> int:
        """Keep moments, and who is in which zone, all or nothing.

        Args:
            moments: Those whose id is known already change nothing.
            inside: In the order in which it was seen.

        Returns:
            How many moments were new.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """

        def put(connection: sqlite3.Connection) -> int:
            rows = [(m.id, m.at_ms, _number(connection, m), m.lasted_ms) for m in moments]
            before = connection.total_changes
            connection.executemany("INSERT OR IGNORE INTO moments VALUES (?, ?, ?, ?)", rows)
            new = connection.total_changes - before
            for each in inside:
                _come_or_go(connection, each)
            return new

        return self._database.do(put)

    def forget(self, cameras: Collection[str]) -> None:
        """Take everybody out of the zones of cameras: they start anew.

        Raises:
            StorageError: The file cannot be written.
        """
        if cameras:
            rows = [(camera,) for camera in cameras]
            self._database.do(lambda c: c.executemany("DELETE FROM inside WHERE camera = ?", rows))

    def crossings(self, from_s: float, to_s: float) -> list[Crossing]:
        """Read the crossings of a time, its end left out, in order.

        Raises:
            StorageError: The file cannot be read.
        """
        return self._database.do(lambda c: read_crossings(c, from_s, to_s))

    def first_moment_s(self) -> float | None:
        """Tell when the oldest moment was that is kept as such; None: there is none.

        Raises:
            StorageError: The file cannot be read.
        """
        found: tuple[int | None] = self._database.do(
            lambda c: c.execute("SELECT MIN(at_ms) FROM moments").fetchone()
        )
        return None if found[0] is None else found[0] / 1000

    def moments(self, from_s: float, to_s: float) -> tuple[list[Crossing], list[Stay]]:
        """Read all moments of a time, its end left out.

        Raises:
            StorageError: The file cannot be read.
        """
        return self._database.do(lambda c: (read_crossings(c, from_s, to_s), read_stays(c, from_s, to_s)))

    def close_day(self, day: date, summary: bytes, from_s: float, to_s: float) -> None:
        """Keep a day's summary in place of its moments, in one step.

        Args:
            day: Its date; one that has a summary already keeps it.
            summary: Packed.
            from_s: Seconds since 1970.
            to_s: Moments from `from_s` up to here go.

        Raises:
            StorageError: The disk is full, read-only or broken; the moments stay.
        """

        def put(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO days VALUES (?, ?)", (day.isoformat(), summary))
            connection.execute(
                "DELETE FROM moments WHERE at_ms >= ? AND at_ms < ?", (from_s * 1000, to_s * 1000)
            )

        self._database.do(put)

    def add_heat(self, day: date, grids: Mapping[str, Looked]) -> None:
        """Keep the heatmaps of a day in place of its older ones, all or none.

        Args:
            day: Which.
            grids: By camera.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """
        rows = [(day.isoformat(), camera, *packed) for camera, packed in grids.items()]
        self._database.do(lambda c: c.executemany("INSERT OR REPLACE INTO heat VALUES (?, ?, ?, ?)", rows))

    def heat(self, day: date) -> dict[str, Looked]:
        """Read the heatmaps of a day by camera.

        Raises:
            StorageError: The file cannot be read.
        """
        return self._database.do(lambda c: read_heat(c, day))

    def drop_before(self, day: date) -> int:
        """Drop the summaries and heatmaps of days before one.

        Returns:
            How many days' summaries went.

        Raises:
            StorageError: The file cannot be written.
        """

        def drop(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM heat WHERE day < ?", (day.isoformat(),))
            return connection.execute("DELETE FROM days WHERE day < ?", (day.isoformat(),)).rowcount

        return self._database.do(drop)

    def sync(self) -> None:
        """Bring all there is to the disk itself, so that it survives a power cut.

        Raises:
            StorageError: The disk reports a failure.
        """
        self._database.sync()

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        self._database.close()


def read_crossings(connection: sqlite3.Connection, from_s: float, to_s: float) -> list[Crossing]:
    """Read the crossings of a time, in order."""
    rows = connection.execute(
        "SELECT at_ms, camera, name, word FROM moments JOIN places ON place = number"
        " WHERE at_ms >= ? AND at_ms < ? AND lasted_ms IS NULL ORDER BY at_ms, id",
        (from_s * 1000, to_s * 1000),
    )
    return [Crossing(at_ms / 1000, (camera, line), word) for at_ms, camera, line, word in rows]


def read_stays(connection: sqlite3.Connection, from_s: float, to_s: float) -> list[Stay]:
    """Read the stays that ended in a time, in order."""
    rows = connection.execute(
        "SELECT at_ms, camera, name, lasted_ms FROM moments JOIN places ON place = number"
        " WHERE at_ms >= ? AND at_ms < ? AND lasted_ms IS NOT NULL ORDER BY at_ms, id",
        (from_s * 1000, to_s * 1000),
    )
    return [Stay(at_ms / 1000, (camera, zone), lasted / 1000) for at_ms, camera, zone, lasted in rows]


def read_inside(connection: sqlite3.Connection) -> dict[Place, list[float]]:
    """Read since when those are in each zone that have not left it, seconds since 1970, the longest first."""
    found: dict[Place, list[float]] = {}
    rows: Iterable[tuple[str, str, int]] = connection.execute(
        "SELECT camera, zone, since_ms FROM inside ORDER BY since_ms"
    )
    for camera, zone, since_ms in rows:
        found.setdefault((camera, zone), []).append(since_ms / 1000)
    return found


def read_heat(connection: sqlite3.Connection, day: date) -> dict[str, Looked]:
    """Read the heatmaps of a day by camera."""
    rows = connection.execute(
        "SELECT camera, grid, looked FROM heat WHERE day = ? ORDER BY camera", (day.isoformat(),)
    )
    return {camera: Looked(grid, looked) for camera, grid, looked in rows}


def _number(connection: sqlite3.Connection, moment: Moment) -> int:
    """Give the number of a place, a new one where it has none."""
    key = (*moment.place, moment.word)
    query = "SELECT number FROM places WHERE camera = ? AND name = ? AND word = ?"
    found = connection.execute(query, key).fetchone()
    if found is not None:
        return int(found[0])
    made = connection.execute("INSERT INTO places (camera, name, word) VALUES (?, ?, ?)", key)
    return int(made.lastrowid or 0)


def _come_or_go(connection: sqlite3.Connection, each: Inside) -> None:
    if each.since_ms is None:
        query = "DELETE FROM inside WHERE camera = ? AND zone = ? AND track = ?"
        connection.execute(query, (*each.place, each.track))
    else:
        query = "INSERT OR REPLACE INTO inside VALUES (?, ?, ?, ?)"
        connection.execute(query, (*each.place, each.track, each.since_ms))


def _nothing(_: sqlite3.Connection) -> None:
    """Nothing is counted when the file is opened."""
