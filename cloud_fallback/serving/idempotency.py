"""The same request id is answered once: later and concurrent repetitions get that answer.

A device that got no answer asks again, and its outbox asks again after a restart. Answers are kept for a
while, bounded by age and bytes, in memory or in an SQLite file that survives `kill -9`. Failures are not
kept: the next repetition tries again. Knows no protocol; an answer is bytes to it.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from edge_runtime.contract.errors import InputError, StorageError

T = TypeVar("T")
Compute = Callable[[], Awaitable[bytes]]

_OVERHEAD_BYTES = 200
"""What a kept answer costs beside its own bytes, about."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much is kept.

    Args:
        max_age_s: An answer older than this is forgotten.
        max_bytes: All kept answers together; the oldest go first.
    """

    max_age_s: float = 3600.0
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was given.

    Args:
        fingerprint: Digest of the request it answers.
        answer: As it was encoded.
    """

    fingerprint: bytes
    answer: bytes


class Shelf(Protocol):
    """Where answers are kept. `now_s` is seconds since 1970, so that it holds across restarts."""

    async def get(self, key: str, now_s: float) -> Kept | None:
        """Find an answer that is not too old."""
        ...

    async def put(self, key: str, kept: Kept, now_s: float) -> None:
        """Keep an answer, and forget what is too old or too much."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class MemoryShelf:
    """Keeps answers in this process.

    Args:
        bounds: How long and how much.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._kept: OrderedDict[str, tuple[float, Kept]] = OrderedDict()
        self.size_bytes = 0

    async def get(self, key: str, now_s: float) -> Kept | None:
        """Find an answer that is not too old."""
        self._forget(now_s)
        found = self._kept.get(key)
        return found[1] if found else None

    async def put(self, key: str, kept: Kept, now_s: float) -> None:
        """Keep an answer, and forget what is too old or too much."""
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (now_s, kept)
        self.size_bytes += _size(key, kept)
        self._forget(now_s)

    def close(self) -> None:
        """Nothing is open."""

    def _forget(self, now_s: float) -> None:
        while self._kept:
            key, (at_s, _) = next(iter(self._kept.items()))
            if self.size_bytes <= self._bounds.max_bytes and now_s - at_s <= self._bounds.max_age_s:
                return
            self._drop(key)

    def _drop(self, key: str) -> None:
        _, kept = self._kept.pop(key)
        self.size_bytes -= _size(key, kept)


class SqliteShelf:
    """Keeps answers in a file, written before the answer leaves.

    One thread does all of it: SQLite waits for disks, and the event loop must not.

    Args:
        path: The file; made if it is not there.
        bounds: How long and how much.

    Raises:
        StorageError: The file cannot be opened or is no database.
    """

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self._bounds = bounds
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kept-answers")
        self._db = self._thread.submit(self._open).result()

    async def get(self, key: str, now_s: float) -> Kept | None:
        """Find an answer that is not too old."""
        return await self._in_thread(lambda: self._find(key, now_s))

    async def put(self, key: str, kept: Kept, now_s: float) -> None:
        """Keep an answer, and forget what is too old or too much."""
        await self._in_thread(lambda: self._keep(key, kept, now_s))

    def close(self) -> None:
        """Close the file."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(
                "PRAGMA synchronous=NORMAL"
            )  # survives kill -9; a power cut costs the last few answers
            db.execute(
                "CREATE TABLE IF NOT EXISTS answers (number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL,"
                " at_s REAL NOT NULL, fingerprint BLOB NOT NULL, answer BLOB NOT NULL, size INTEGER NOT NULL)"
            )
            self._size_bytes = int(db.execute("SELECT coalesce(sum(size), 0) FROM answers").fetchone()[0])
        except (OSError, sqlite3.Error) as error:
            raise self._broken(error) from error
        return db

    def _find(self, key: str, now_s: float) -> Kept | None:
        row = self._db.execute(
            "SELECT fingerprint, answer FROM answers WHERE key = ? AND at_s >= ?",
            (key, now_s - self._bounds.max_age_s),
        ).fetchone()
        return Kept(*row) if row else None

    def _keep(self, key: str, kept: Kept, now_s: float) -> None:
        self._db.execute("BEGIN")
        try:
            self._remove("key = ?", key)
            size = _size(key, kept)
            self._db.execute(
                "INSERT INTO answers (key, at_s, fingerprint, answer, size) VALUES (?, ?, ?, ?, ?)",
                (key, now_s, kept.fingerprint, kept.answer, size),
            )
            self._size_bytes += size
            self._remove("at_s < ?", now_s - self._bounds.max_age_s)
            while self._size_bytes > self._bounds.max_bytes:
                self._remove("number = (SELECT min(number) FROM answers)")
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def _remove(self, which: str, *values: str | float) -> None:
        # `which` is one of the three constants above, never what a caller sent.
        sql = f"DELETE FROM answers WHERE {which} RETURNING size"  # noqa: S608
        self._size_bytes -= sum(size for (size,) in self._db.execute(sql, values).fetchall())

    def _broken(self, error: Exception) -> StorageError:
        return StorageError(f"kept answers {self._path}: {error}", do="Name another folder: --state DIR")


@dataclass(slots=True)
class _Running:
    task: asyncio.Task[tuple[bytes, bool]]
    fingerprint: bytes
    waiting: int = 0


class Once:
    """Computes each answer once, however often and however concurrently it is asked for.

    Args:
        shelf: Where answers are kept.
        now_s: Seconds since 1970.
    """

    def __init__(self, shelf: Shelf, now_s: Callable[[], float]) -> None:
        self._shelf = shelf
        self._now_s = now_s
        self._running: dict[str, _Running] = {}

    async def answer(self, key: str, fingerprint: bytes, compute: Compute) -> tuple[bytes, bool]:
        """Give the kept answer, that of whoever asks the same right now, or compute it.

        Args:
            key: The request's id with all it is unique within.
            fingerprint: Digest of the request; the same id with another request is refused.
            compute: Makes the answer; cancelled only when nobody waits for it any more.

        Returns:
            The answer, and whether it was computed for an earlier request.

        Raises:
            InputError: The id was used for another request.
            StorageError: The shelf is broken.
            Exception: What `compute` raises; also for those who wait with the first one.
        """
        running = self._running.get(key)
        repeated = running is not None
        if running is None:
            task = asyncio.create_task(self._look_or_compute(key, fingerprint, compute))
            running = self._running[key] = _Running(task, fingerprint)
            task.add_done_callback(lambda _: self._leave(key, task))
        if running.fingerprint != fingerprint:
            raise _reused()
        running.waiting += 1
        try:
            answer, kept = await asyncio.shield(running.task)
        finally:
            running.waiting -= 1
            if not running.waiting and not running.task.done():
                running.task.cancel()
                self._leave(key, running.task)  # whoever asks now must not wait for what is being cancelled
        return answer, repeated or kept

    def _leave(self, key: str, task: asyncio.Task[tuple[bytes, bool]]) -> None:
        running = self._running.get(key)
        if running is not None and running.task is task:
            del self._running[key]

    async def _look_or_compute(self, key: str, fingerprint: bytes, compute: Compute) -> tuple[bytes, bool]:
        kept = await self._shelf.get(key, self._now_s())
        if kept is not None:
            if kept.fingerprint != fingerprint:
                raise _reused()
            return kept.answer, True
        answer = await compute()
        await self._shelf.put(key, Kept(fingerprint, answer), self._now_s())
        return answer, False


def _reused() -> InputError:
    return InputError(
        "x-request-id was used for another request",
        expected="the same request again",
        do="Give every request an id of its own",
    )


def _size(key: str, kept: Kept) -> int:
    return len(key) + len(kept.fingerprint) + len(kept.answer) + _OVERHEAD_BYTES
