"""Empty databases of a manager, of both kinds. One PostgreSQL server a process, started when first asked."""

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from cloud_fallback.fleet.database.connection import Database, migrate, open_database
from tests.simulators.postgres import BIN, new_database, postgres

KINDS = ["sqlite", "postgresql"]


@cache
def _server() -> str:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(postgres())


def new_url(kind: str, folder: Path) -> str:
    """Give the URL of a database that is empty."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/manager.db"
    if BIN is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    return new_database(_server())


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Database]:
    """Open one, with its tables."""
    database = open_database(new_url(kind, folder))
    migrate(database)
    try:
        yield database
    finally:
        database.close()
