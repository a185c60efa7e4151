"""CountsReader: reads what was counted, while the agent goes on counting or after it has ended.

Writes nothing, and looks at the file anew each time: safe to share between threads.
"""

import sqlite3
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from edge_runtime.analytics.queue import PASSING_S
from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import DaySummary, Layout, Place, summarize
from edge_runtime.contract.errors import StorageError
from edge_runtime.counts.packing import unpack_heat, unpack_slots, unpack_summary
from edge_runtime.counts.store import FILE, read_crossings, read_heat, read_inside, read_stays


class CountsReader:
    """Reads a store's counts.

    Args:
        folder: `state_dir`.
        clock: The store's.
        layout: Gives what its lines and zones are, for days that are not summed up yet.
        now: Unix time.
    """

    def __init__(
        self,
        folder: Path,
        clock: StoreClock,
        layout: Callable[[], Layout],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = folder / FILE
        self.clock = clock
        self._layout = layout
        self._now = now

    @property
    def today(self) -> date:
        """The day that it is in the store."""
        return self.clock.day_of(self._now())

    def now_s(self) -> float:
        """Give the Unix time."""
        return self._now()

    def days(self) -> list[date]:
        """List the days of which there is something, oldest first; none where nothing was counted yet.

        Raises:
            StorageError: The file cannot be read.
        """
        if not self._path.exists():
            return []
        with self._opened() as connection:
            kept: list[tuple[str]] = connection.execute(
                "SELECT day FROM days UNION SELECT day FROM heat"
            ).fetchall()
            oldest, newest = connection.execute("SELECT MIN(at_ms), MAX(at_ms) FROM moments").fetchone()
        found = {date.fromisoformat(day) for (day,) in kept}
        if oldest is not None:
            first, last = self.clock.day_of(oldest / 1000), self.clock.day_of(newest / 1000)
            found.update(self.clock.days(first, last))
        return sorted(found)

    def day(self, day: date) -> DaySummary:
        """Sum a day up, or read how it was summed up.

        Raises:
            StorageError: The file cannot be read.
        """
        from_s, to_s = self.clock.begin_s(day), self.clock.end_s(day)
        now_s = self._now()
        with self._opened() as connection:
            packed = connection.execute(
                "SELECT summary FROM days WHERE day = ?", (day.isoformat(),)
            ).fetchone()
            seen = read_heat(connection, day)
            looked = {camera: unpack_slots(each.slots) for camera, each in seen.items()}
            if packed is not None:
                return replace(unpack_summary(packed[0]), looked=looked)
            crossings = read_crossings(connection, from_s, to_s)
            stays = read_stays(connection, from_s, to_s)
            waiting = read_inside(connection) if from_s <= now_s < to_s else {}
        summary = summarize(
            self.clock,
            day,
            self._layout(),
            crossings=crossings,
            stays=stays,
            waiting=waiting,
            until_s=now_s,
        )
        return replace(summary, looked=looked)

    def waiting(self) -> dict[Place, list[float]]:
        """Tell for each waiting line how long those in it have waited, the longest first.

        Raises:
            StorageError: The file cannot be read.
        """
        now_s = self._now()
        with self._opened() as connection:
            inside = read_inside(connection)
        lines = {
            zone: [now_s - since_s for since_s in inside.get(zone, ())] for zone in self._layout().queues
        }
        return {
            zone: [each for each in lasted if each >= PASSING_S] for zone, lasted in sorted(lines.items())
        }

    def heat(self, day: date) -> Mapping[str, NDArray[np.float32]]:
        """Read the heatmaps of a day, (rows, columns) float32 seconds, by camera.

        Raises:
            StorageError: The file cannot be read.
        """
        if not self._path.exists():
            return {}
        with self._opened() as connection:
            packed = read_heat(connection, day)
        return {camera: unpack_heat(each.grid) for camera, each in packed.items()}

    @contextmanager
    def _opened(self) -> Generator[sqlite3.Connection]:
        if not self._path.exists():
            raise StorageError(
                f"{self._path}: there is no such file",
                do="Run the store first, with a `counts:` block in its settings",
            )
        try:
            address = f"file:{quote(str(self._path))}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=5.0)) as connection:
                connection.execute("BEGIN")  # one state of the file, whatever is written meanwhile
                yield connection
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: cannot be read", got=str(error)) from error
