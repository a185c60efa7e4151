"""Part files: Parquet, JSON Lines or CSV; rows in, a stream of bytes out, and rows back. Names no file.

pyarrow is the extra `tables`, and imported only where Parquet is read or written.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.scoring.columns import Cells, Columns, Listed, Type, Vector

FLUSH_ROWS = 4096
"""Rows of a row group: what is held in memory before it is written."""


class Format(StrEnum):
    """How rows are written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


class PartWriter(Protocol):
    """Writes the rows of one part."""

    def write(self, rows: Sequence[Cells]) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write what belongs at the end. The stream stays open."""
        ...

    def abandon(self) -> None:
        """Write no more, for the file is thrown away."""
        ...


def open_writer(form: Format, stream: IO[bytes], columns: Columns) -> PartWriter:
    """Begin a part.

    Args:
        form: Of the file.
        stream: Where it goes.
        columns: Of its rows.

    Raises:
        ConfigError: Parquet, and pyarrow is not installed.
    """
    match form:
        case Format.PARQUET:
            return _ParquetWriter(stream, columns)
        case Format.JSONL:
            return _JsonWriter(stream, columns)
        case Format.CSV:
            return _CsvWriter(stream, columns)


def read_rows(form: Format, path: Path, wanted: Sequence[str]) -> Iterator[Cells]:
    """Read some columns of a part back, row by row.

    Args:
        form: Of the file.
        path: The file.
        wanted: Names of columns.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        match form:
            case Format.PARQUET:
                file: Any = pyarrow("parquet").ParquetFile(path)
                with file:
                    for batch in file.iter_batches(columns=list(wanted), batch_size=FLUSH_ROWS):
                        yield from batch.to_pylist()
            case Format.JSONL:
                with path.open(encoding="utf-8") as lines:
                    for line in lines:
                        yield {name: value for name, value in json.loads(line).items() if name in wanted}
            case Format.CSV:
                raise ConfigError("rows of CSV", expected="Parquet or JSON Lines", got="CSV")
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read", got=str(error), do="Begin anew: --restart") from error


def pyarrow(module: str = "") -> Any:
    """Import pyarrow, or one of its modules.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow",
            got=str(error),
            do="Install it: pip install 'edge-runtime[tables]'; or --format jsonl",
        ) from error


def schema_of(columns: Columns) -> Any:
    """Give the Arrow schema of columns."""
    arrow = pyarrow()
    return arrow.schema([arrow.field(name, _arrow_type(arrow, kind)) for name, kind in columns.items()])


def to_arrow(rows: Sequence[Cells], columns: Columns) -> Any:
    """Make an Arrow table of rows.

    Args:
        rows: Cells that are absent become null.
        columns: What the table has, in order.
    """
    arrow = pyarrow()
    arrays = [_arrow_array(arrow, [row.get(name) for row in rows], kind) for name, kind in columns.items()]
    return arrow.Table.from_arrays(arrays, schema=schema_of(columns))


def from_arrow(table: Any) -> list[Cells]:
    """Give the rows of an Arrow table, its vectors as arrays."""
    arrow = pyarrow()
    rows: list[Cells] = [{} for _ in range(table.num_rows)]
    for name, column in zip(table.column_names, table.columns, strict=True):
        cells = column.to_pylist()
        if arrow.types.is_fixed_size_list(column.type):
            cells = [None if cell is None else np.array(cell, np.float32) for cell in cells]
        for row, cell in zip(rows, cells, strict=True):
            row[name] = cell
    return rows


def _arrow_type(arrow: Any, kind: Type) -> Any:
    if isinstance(kind, Vector):
        return arrow.list_(arrow.float32(), kind.size)
    if isinstance(kind, Listed):
        fields = [arrow.field(name, _arrow_type(arrow, plain)) for name, plain in kind.fields.items()]
        return arrow.list_(arrow.struct(fields))
    return {"string": arrow.string, "bool": arrow.bool_, "int32": arrow.int32, "int64": arrow.int64,
            "float32": arrow.float32}[kind]()  # fmt: skip


def _arrow_array(arrow: Any, cells: Sequence[Any], kind: Type) -> Any:
    if isinstance(kind, Vector):
        nothing = np.zeros(kind.size, np.float32)
        flat = np.concatenate([nothing if cell is None else cell for cell in cells] or [nothing[:0]])
        absent = arrow.array([cell is None for cell in cells], arrow.bool_())
        return arrow.FixedSizeListArray.from_arrays(arrow.array(flat), kind.size, mask=absent)
    return arrow.array(cells, _arrow_type(arrow, kind))


class _ParquetWriter:
    def __init__(self, stream: IO[bytes], columns: Columns) -> None:
        self._columns = columns
        self._writer: Any = pyarrow("parquet").ParquetWriter(stream, schema_of(columns), compression="zstd")

    def write(self, rows: Sequence[Cells]) -> None:
        self._writer.write_table(to_arrow(rows, self._columns))

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        # pyarrow would otherwise write the end of the file when it lets go of it.
        self._writer.is_open = False


class _JsonWriter:
    def __init__(self, stream: IO[bytes], columns: Columns) -> None:
        self._stream = stream
        self._columns = columns

    def write(self, rows: Sequence[Cells]) -> None:
        lines = (json.dumps({name: _plain(row.get(name)) for name in self._columns}) for row in rows)
        self._stream.write("".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """A line ends itself."""

    def abandon(self) -> None:
        """There is nothing that would be written later."""


class _CsvWriter:
    """Lists and vectors are JSON in their cell."""

    def __init__(self, stream: IO[bytes], columns: Columns) -> None:
        self._stream = stream
        self._columns = columns
        self._put([tuple(columns)])

    def write(self, rows: Sequence[Cells]) -> None:
        nested = {name for name, kind in self._columns.items() if isinstance(kind, Listed | Vector)}
        self._put([[_cell(row, name, nested) for name in self._columns] for row in rows])

    def close(self) -> None:
        """A line ends itself."""

    def abandon(self) -> None:
        """There is nothing that would be written later."""

    def _put(self, lines: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        self._stream.write(text.getvalue().encode())


def _cell(row: Mapping[str, Any], name: str, nested: set[str]) -> Any:
    value = _plain(row.get(name))
    return json.dumps(value) if name in nested and value is not None else value


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
