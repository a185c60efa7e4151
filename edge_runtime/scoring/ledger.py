"""The ledger of a job's folder: which rows of which input are in which part, and what made them.

A part is done when its file is in place. Its rows are promised here before, in one transaction, so a kill at
any moment leaves either a promise without a file, which is forgotten, or both. Runs no model.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.atomic import cannot_write
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.database import Database
from edge_runtime.scoring.inputs import Source
from edge_runtime.scoring.plan import Span, differences

LEDGER = "_score.sqlite"
"""Readers of Parquet folders pass over names that begin with an underscore."""
_PART = re.compile(r"part-\d{6,}\.(parquet|jsonl|csv)")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part (
  number INTEGER PRIMARY KEY, rows INTEGER NOT NULL, errors INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS span (
  source TEXT NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL, last INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, part INTEGER NOT NULL,
  PRIMARY KEY (source, first, part)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS span_by_part ON span (part);
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger has of an input.

    Args:
        spans: Rows that are done.
        size_bytes: Of the file, when the first of them were read.
        mtime_ns: Of the file, then.
        parts: In which part each of the spans is.
    """

    spans: tuple[Span, ...]
    size_bytes: int
    mtime_ns: int
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is in the folder."""

    parts: int
    rows: int
    errors: int


class Ledger:
    """The ledger of one folder; one process has it at a time.

    Args:
        folder: Where the parts are; made by `begin` when absent.
        ending: Of their names.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder = folder
        self._ending = ending
        self._next = 1
        self._fresh = False
        self._database = Database(
            folder / LEDGER,
            _SCHEMA,
            what="which rows are done",
            opened=lambda _: None,
            meanwhile="what is done stays done",
        )

    def begin(self, identity: Mapping[str, str], *, restart: bool) -> Standing:
        """Find out what is done, and whether it is of the same job.

        Args:
            identity: What makes the rows that come.
            restart: Throw away what is there.

        Raises:
            ConfigError: Another job's rows are there, or files of somebody else.
            StorageError: The disk fails, the ledger is damaged, or another process has it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / LEDGER).exists():
                self._refuse_strangers()
            if restart:
                self._forget_all()
            standing = self.standing()
            if self._database.damage and any(self._parts()):
                raise StorageError(self._database.damage, do="Begin anew: --restart")
            if standing.parts:
                self._refuse_mixing(differences(self._job(), identity))
            self._forget_broken_promises()
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self._note_job(identity)
        standing = self.standing()
        self._fresh = not standing.parts
        return standing

    def path(self, part: int) -> Path:
        """Give the place of a part."""
        return self.folder / f"part-{part:06d}{self._ending}"

    def next_part(self) -> int:
        """Give a number that no part has or had."""
        self._next += 1
        return self._next - 1

    def known(self, source: str) -> Known | None:
        """Give what is done of an input; None: nothing."""
        if self._fresh:
            return None

        def look(sql: sqlite3.Connection) -> list[tuple[int, int, int, int, int, int]]:
            query = (
                "SELECT first, end, last, size_bytes, mtime_ns, part FROM span WHERE source = ? ORDER BY part"
            )
            return sql.execute(query, (source,)).fetchall()

        rows = self._database.do(look)
        if not rows:
            return None
        spans = tuple(Span(first, end, bool(last)) for first, end, last, *_ in rows)
        return Known(spans, rows[0][3], rows[0][4], tuple(row[5] for row in rows))

    def promise(
        self,
        part: int,
        spans: Mapping[str, Sequence[Span]],
        sources: Mapping[str, Source],
        rows: int,
        errors: int,
    ) -> None:
        """Note what a part will hold, before its file is put in place.

        Args:
            part: Its number.
            spans: By the input's name, what it holds of it.
            sources: The inputs by name.
            rows: How many it holds.
            errors: How many of them have an error.

        Raises:
            StorageError: The disk fails.
        """
        noted = [
            (name, one.first, one.end, one.last, sources[name].size_bytes, sources[name].mtime_ns, part)
            for name, some in spans.items()
            for one in some
        ]

        def put(sql: sqlite3.Connection) -> None:
            sql.execute("INSERT INTO part VALUES (?, ?, ?)", (part, rows, errors))
            sql.executemany("INSERT INTO span VALUES (?, ?, ?, ?, ?, ?, ?)", noted)

        self._database.do(put)

    def standing(self) -> Standing:
        """Count what is done."""
        query = "SELECT COUNT(*), COALESCE(SUM(rows), 0), COALESCE(SUM(errors), 0) FROM part"
        return Standing(*self._database.do(lambda sql: sql.execute(query).fetchone()))

    def close(self) -> None:
        """Let another process have it."""
        self._database.close()

    def _note_job(self, identity: Mapping[str, str]) -> None:
        def note(sql: sqlite3.Connection) -> None:
            sql.execute("DELETE FROM job")
            sql.executemany("INSERT INTO job VALUES (?, ?)", identity.items())

        self._database.do(note)

    def _job(self) -> dict[str, str]:
        return dict(self._database.do(lambda sql: sql.execute("SELECT name, value FROM job").fetchall()))

    def _refuse_mixing(self, changes: Sequence[str]) -> None:
        if changes:
            raise ConfigError(
                f"{self.folder} holds rows of another job: {'; '.join(changes)}",
                do="Begin anew: --restart, which deletes them; or choose another place: --out",
            )

    def _refuse_strangers(self) -> None:
        """A folder that is no job's is somebody's: nothing is written into it, and nothing deleted."""
        found = next((path.name for path in self.folder.iterdir()), None)
        if found is not None:
            raise ConfigError(
                f"--out {self.folder}",
                expected="an empty folder, or one with rows of this job",
                got=f"other files, as {found}",
            )

    def _forget_all(self) -> None:
        for path in self._parts():
            path.unlink()

        def forget(sql: sqlite3.Connection) -> None:
            for table in ("span", "part", "job"):
                sql.execute(f"DELETE FROM {table}")  # noqa: S608 - of the three names above

        self._database.do(forget)

    def _forget_broken_promises(self) -> None:
        """Forget parts whose file is not in place, and remove files that nothing was promised of."""
        numbers = {
            row[0] for row in self._database.do(lambda sql: sql.execute("SELECT number FROM part").fetchall())
        }
        broken = [number for number in numbers if not self.path(number).exists()]

        def forget(sql: sqlite3.Connection) -> None:
            for number in broken:
                sql.execute("DELETE FROM span WHERE part = ?", (number,))
                sql.execute("DELETE FROM part WHERE number = ?", (number,))

        self._database.do(forget)
        kept = {self.path(number) for number in numbers}
        for path in [*self._parts(), *self.folder.glob(".part-*.part")]:
            if path not in kept:
                path.unlink()
        self._next = max(numbers, default=0) + 1

    def _parts(self) -> Iterator[Path]:
        """Give the parts of any format; what else somebody put there is theirs."""
        return (path for path in self.folder.glob("part-*") if _PART.fullmatch(path.name))
