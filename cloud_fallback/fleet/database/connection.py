"""Opens the manager's database, SQLite or PostgreSQL by URL, and brings its tables up to date.

`begin` is for writing: one writer at a time in SQLite, so that no transaction starts on what another is just
changing. `read` sees one state of everything and writes nothing. Knows no table.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from edge_runtime.contract.errors import ConfigError, StorageError

_BUSY_MS = 15_000
_POOL = 10
_MIGRATION_LOCK = 0x6564_6765_6D69
"""`edgemi`: two replicas that start together must not both change the tables."""


class Database:
    """A database of the manager. Safe to share between threads.

    Args:
        engine: Of SQLAlchemy.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @property
    def file(self) -> Path | None:
        """Where an SQLite database is; None: it is no SQLite."""
        return Path(self.engine.url.database or "") if self.dialect == "sqlite" else None

    @contextmanager
    def begin(self) -> Generator[Connection]:
        """Write: all of it, or nothing where the block raises."""
        with self.engine.connect() as tx:
            if self.dialect == "sqlite":
                tx.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield tx
            except BaseException:
                tx.rollback()
                raise
            tx.commit()

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Read, all of it from one moment."""
        if self.dialect == "sqlite":
            with self.engine.connect() as tx:
                tx.exec_driver_sql("BEGIN")
                yield tx
                tx.rollback()
            return
        with self.engine.connect().execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        ) as tx:
            yield tx
            tx.rollback()

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open a database; `migrate` makes its tables.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.

    Raises:
        ConfigError: The URL is of neither.
        StorageError: It cannot be opened.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError("database", expected=_EXPECTED, got=repr(_hidden(url))) from error
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database:
        engine = _sqlite(parsed)
    elif kind in {"postgresql", "postgres"}:
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=_POOL,
            max_overflow=_POOL,
            pool_use_lifo=True,
            pool_pre_ping=True,
        )
    else:
        raise ConfigError("database", expected=_EXPECTED, got=repr(_hidden(url)))
    database = Database(engine)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.rollback()
    except OperationalError as error:
        database.close()
        raise StorageError(
            f"database {parsed.render_as_string(hide_password=True)}",
            expected="one that can be opened",
            got=str(error.orig).strip(),
            do="Check that it runs, that it can be reached, and who may log in",
        ) from error
    return database


_EXPECTED = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"


def _hidden(url: str) -> str:
    """Leave out what may be a password."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        # No transaction that Python begins by itself: `begin` and `read` say which one they want.
        connect_args={"isolation_level": None, "timeout": _BUSY_MS / 1000, "check_same_thread": False},
        pool_size=_POOL,
        max_overflow=_POOL,
        # Each connection caches 2 MB of the file: the last one that was used is used again, not all in turn.
        pool_use_lifo=True,
    )
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={_BUSY_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(database: Database) -> str:
    """Bring the tables up to date; harmless where they are.

    Args:
        database: As `open_database` gave it.

    Returns:
        The revision that it has now.

    Raises:
        ConfigError: The database is newer than this program.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    with database.begin() as tx:
        if database.dialect == "postgresql":
            tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        has = MigrationContext.configure(tx).get_current_revision()
        known = {each.revision for each in scripts.walk_revisions()}
        if has is not None and has not in known:
            raise ConfigError(
                "database",
                expected=f"revision {scripts.get_current_head()} or older",
                got=has,
                do="It was opened by a newer edge-runtime: run that one, or restore a backup",
            )
        config = Config()
        config.set_main_option("script_location", scripts.dir)
        config.attributes["connection"] = tx
        command.upgrade(config, "head")
    return str(scripts.get_current_head())
