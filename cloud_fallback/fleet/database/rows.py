"""What both databases say differently, and JSON in a column. Knows no table."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")
AnyRow = Row[Any]
"""A row, by the names of its columns; the tables say what is in it."""
CHUNK = 500
"""Names in one query: SQLite takes 32,766 parameters, planners like fewer."""


def upsert(tx: Connection, table: Table) -> Any:
    """Give an INSERT that knows ON CONFLICT, in the dialect of a connection."""
    return (postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert)(table)


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Cut a list into pieces that fit into one query."""
    whole = list(items)
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def dump(value: object) -> str:
    """Write JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load(text: str) -> Any:
    """Read what `dump` wrote."""
    return json.loads(text)
