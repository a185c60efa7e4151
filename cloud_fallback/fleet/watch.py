"""Changes for whoever looks on: the console and `fleet watch`. A hint what to read again, never the truth."""

import queue
import threading
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, select

from cloud_fallback.fleet.database import events
from cloud_fallback.fleet.database.tables import deployments, devices

_WAITING = 1000
"""Changes that a watcher may leave unread; then it is told to read everything."""
_OVERLAP_S = 2.0
"""Clocks of replicas differ: what is a little older than the newest may be new."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something has changed.

    Args:
        kind: What; `everything`: too much to say.
        id: Of the device or the deployment, or the number of the newest event; empty for `everything`.
    """

    kind: Literal["device", "deployment", "event", "everything"]
    id: str = ""


class Watch:
    """Changes for one watcher; close it."""

    def __init__(self, watches: "Watches") -> None:
        self._watches = watches
        self._queue: queue.Queue[Change] = queue.Queue(_WAITING)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, timeout_s: float) -> Change | None:
        """Wait for the next change; None: there was none in time."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def put(self, change: Change) -> None:
        """Tell of a change; never waits."""
        try:
            self._queue.put_nowait(change)
        except queue.Full:
            while not self._queue.empty():
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    break
            self._queue.put_nowait(Change("everything"))

    def close(self) -> None:
        """Want no more."""
        self._watches.remove(self)


class Watches:
    """All watchers of a replica, and how far each kind of change was told. Safe to share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Watch] = []
        self._event = 0
        self._device_s = 0.0
        self._deployment_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._all)

    def new(self) -> Watch:
        """Begin to watch."""
        watch = Watch(self)
        with self._lock:
            self._all.append(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        """Forget a watcher. Idempotent."""
        with self._lock:
            self._all = [each for each in self._all if each is not watch]

    def begin(self, tx: Connection, now_s: float) -> None:
        """Begin to tell of changes from now on."""
        self._event, self._device_s, self._deployment_s = events.last(tx), now_s, now_s

    def look(self, tx: Connection) -> list[Change]:
        """Find what any replica has written since the last look.

        Args:
            tx: As `Database.read` gives it.
        """
        found: list[Change] = []
        query = select(devices.c.name, devices.c.touched_s).where(
            devices.c.touched_s > self._device_s - _OVERLAP_S
        )
        for row in tx.execute(query.order_by(devices.c.touched_s).limit(_WAITING)):
            self._device_s = max(self._device_s, row.touched_s)
            found.append(Change("device", row.name))
        query = select(deployments.c.id, deployments.c.updated_s).where(
            deployments.c.updated_s > self._deployment_s - _OVERLAP_S
        )
        for row in tx.execute(query.order_by(deployments.c.updated_s)):
            self._deployment_s = max(self._deployment_s, row.updated_s)
            found.append(Change("deployment", row.id))
        newest = events.last(tx)
        if newest > self._event:
            self._event = newest
            found.append(Change("event", str(newest)))
        return found

    def tell(self, changes: list[Change]) -> None:
        """Tell every watcher."""
        with self._lock:
            watches = list(self._all)
        for watch in watches:
            for change in changes:
                watch.put(change)
