"""Tables of counts as files: CSV with what Python has, Parquet with the extra `tables`."""

import csv
import io
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_runtime.atomic import new_file
from edge_runtime.contract.errors import ConfigError
from edge_runtime.counts.tables import Cell, Table


def as_csv(table: Table) -> bytes:
    """Give a table as CSV (RFC 4180), its moments as ISO 8601 with their distance from UTC."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(table.columns)
    writer.writerows([_text(cell) for cell in row] for row in table.rows)
    return lines.getvalue().encode()


def write_csv(table: Table, path: Path) -> None:
    """Write a table as CSV.

    Raises:
        StorageError: The file cannot be written; what was there stays.
    """
    with new_file(path) as stream:
        stream.write(as_csv(table))


def write_parquet(table: Table, path: Path, zone: str) -> None:
    """Write a table as Parquet, its moments as timestamps of the store's time zone.

    Args:
        table: What to write.
        path: The file.
        zone: IANA name of the store's time zone.

    Raises:
        ConfigError: pyarrow is not installed.
        StorageError: The file cannot be written; what was there stays.
    """
    # An extra, and large: a store does not pay for it.
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow",
            got=str(error),
            do="Install it: pip install 'edge-runtime[tables]'; or write --csv",
        ) from error
    kinds = {
        **dict.fromkeys(("from", "to"), arrow.timestamp("s", tz=zone)),
        **dict.fromkeys(("entrance", "camera", "zone"), arrow.string()),
        **dict.fromkeys(("median_s", "p90_s", "median_wait_s", "p90_wait_s"), arrow.float64()),
        **dict.fromkeys(("longest_wait_s", "mean_length", "watched"), arrow.float64()),
    }
    columns = [
        arrow.array([row[place] for row in table.rows], kinds.get(name, arrow.int64()))
        for place, name in enumerate(table.columns)
    ]
    with new_file(path) as stream:
        parquet.write_table(arrow.table(columns, names=list(table.columns)), stream)


def _text(cell: Cell) -> Cell:
    return cell.isoformat() if isinstance(cell, datetime) else cell
