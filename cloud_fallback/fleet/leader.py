"""Which replica decides: the one that holds a lock, for as long as its own connection to the database lives.

A lock can be lost unnoticed for a moment. So each leader also has a number that grows, and whatever it writes
it writes only while the database still has that number. Decides nothing itself.
"""

import logging
from pathlib import Path
from typing import TextIO

from sqlalchemy import Connection, create_engine, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.database.rows import upsert
from cloud_fallback.fleet.database.tables import heads
from edge_runtime.contract.errors import StorageError

try:
    import fcntl
except ImportError:
    fcntl = None  # Windows: one manager a database is then the operator's to see to

log = logging.getLogger(__name__)

_KEY = 0x6564_6765_6C64
"""`edgeld`: the advisory lock of the leader."""


class LostError(StorageError):
    """Another replica leads by now; nothing was written."""


class Leader:
    """Leadership of one replica. Belongs to one thread.

    Args:
        database: Of the manager.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._file: TextIO | None = None
        self._session: Connection | None = None
        self._engine = (
            create_engine(
                database.engine.url,
                poolclass=NullPool,
                isolation_level="AUTOCOMMIT",
                connect_args={"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3},
            )
            if database.dialect == "postgresql"
            else None
        )
        self.number = 0
        """Of this leadership; 0: none."""

    def holds(self) -> bool:
        """Say whether this replica leads, after trying to where nobody does."""
        if self.number and self._alive():
            return True
        if self.number:
            log.warning("no longer the leader: the connection to the database was lost")
            self.release()
        if not self._take():
            return False
        try:
            self.number = self._next_number()
        except SQLAlchemyError:
            self.release()
            raise
        return True

    def fence(self, tx: Connection) -> None:
        """Make sure that this replica still leads, until the transaction ends.

        Raises:
            LostError: It does not.
        """
        query = select(heads.c.n).where(heads.c.name == "leader").with_for_update()
        if not self.number or tx.execute(query).scalar() != self.number:
            self.release()
            raise LostError("leadership", expected="this replica", got="another one")

    def release(self) -> None:
        """Let another replica lead. Idempotent."""
        self.number = 0
        if self._session is not None:
            session, self._session = self._session, None
            try:
                session.close()
            except SQLAlchemyError as error:
                log.debug("the leader's connection was gone already: %s", error)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _next_number(self) -> int:
        with self._database.begin() as tx:
            first = upsert(tx, heads).values(name="leader", n=0, hash="")
            tx.execute(first.on_conflict_do_nothing(index_elements=["name"]))
            mine = heads.c.name == "leader"
            return int(
                tx.execute(
                    update(heads).where(mine).values(n=heads.c.n + 1).returning(heads.c.n)
                ).scalar_one()
            )

    def _alive(self) -> bool:
        if self._session is None:
            return self._file is not None or fcntl is None
        try:
            self._session.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def _take(self) -> bool:
        if self._engine is not None:
            return self._take_session(self._engine.connect())
        path = Path(f"{self._database.file}.leader")
        file = path.open("a+", encoding="ascii")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
        self._file = file
        return True

    def _take_session(self, session: Connection) -> bool:
        if session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar():
            self._session = session
            return True
        session.close()
        return False
