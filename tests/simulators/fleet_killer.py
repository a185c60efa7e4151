"""An operator in a process of its own that kills itself at a chosen moment, between database and bus.

    python -m tests.simulators.fleet_killer DATABASE BUS_FILE KILL_AT NOW_S

It takes what stands in BUS_FILE as JSON lines, and writes what it publishes to its standard output. KILL_AT
is `commit:N` (before the Nth commit), `committed:N` (after it), or `publish:N` (before the Nth message).
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from cloud_fallback.fleet.bus import Heard, Post
from cloud_fallback.fleet.database.connection import Database, open_database
from cloud_fallback.fleet.operator import Operator
from tests.simulators.fleet_desk import TENANT, MemoryBus, Notary


class Killer:
    """Kills this process, as a power cut does."""

    def __init__(self, at: str) -> None:
        self._what, _, n = at.partition(":")
        self._left = int(n or 0)

    def __call__(self, what: str) -> None:
        if what != self._what:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalDatabase(Database):
    """A database whose process may die around a commit."""

    def __init__(self, of: Database, killer: Killer) -> None:
        super().__init__(of.engine)
        self._killer = killer

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with super().begin() as tx:
            yield tx
            self._killer("commit")
        self._killer("committed")


class MortalBus(MemoryBus):
    def __init__(self, killer: Killer) -> None:
        super().__init__()
        self._killer = killer

    def publish(self, post: Post) -> bool:
        self._killer("publish")
        sys.stdout.write(json.dumps([post.topic, post.payload.decode()]) + "\n")
        sys.stdout.flush()
        return True


def main(url: str, bus_file: str, kill_at: str, now_s: str) -> None:
    killer = Killer(kill_at)
    database = MortalDatabase(open_database(url), killer)
    operator = Operator(
        database, MortalBus(killer), Notary(), tenant=TENANT, replica="a",
        clock=lambda: float(now_s), dice=lambda: 0.5,
    )  # fmt: skip
    lines = Path(bus_file).read_text().splitlines()
    operator.step([Heard(topic, payload.encode()) for topic, payload in map(json.loads, lines)])
    operator.nudge()
    operator.step([])


if __name__ == "__main__":
    main(*sys.argv[1:])
