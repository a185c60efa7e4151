"""Texts of a table, streamed: CSV, JSON Lines or Parquet; a broken row is given as one, and reading goes on.

Holds one row at a time (of Parquet: one batch), however large the file. Asks no model.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.scoring.files import pyarrow
from edge_runtime.scoring.inputs import Kind, Source

USUAL_COLUMN = "text"
MOST_BYTES = 16 * 2**20
"""Of a row at most: more is a broken row, so that a file without line ends does not fill the memory."""
_AT_ONCE = 512
"""Rows of Parquet that are read together."""


@dataclass(frozen=True, slots=True)
class Text:
    """One row of a table.

    Args:
        row: Its number, from 0; a header is no row.
        text: What is in its column; None where it is broken.
        error: What is wrong with it; empty when nothing is.
        end: Where the next row begins: of CSV and JSON Lines in bytes, of Parquet its number.
    """

    row: int
    text: str | None
    error: str
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading begins.

    Args:
        row: Number of the row.
        offset: Its place in bytes; 0: at the beginning, and rows before `row` are passed over.
    """

    row: int = 0
    offset: int = 0


class Table:
    """A table whose texts can be read again and again.

    Args:
        source: The file.
        column: The column of the texts; None: `text`, or the only one there is.

    Raises:
        InputError: It cannot be read, has no rows, or is no table.
        ConfigError: It has no such column.
    """

    def __init__(self, source: Source, column: str | None) -> None:
        self._source = source
        self.rows: int | None = None
        """How many; None: not known before it is read."""
        try:
            self.column = self._choose(column)
        except OSError as error:
            raise InputError(
                f"table {source.path}", expected="a readable file", got=error.strerror or str(error)
            ) from error

    def texts(self, place: Place = Place()) -> Iterator[Text]:
        """Read from a place to the end.

        Raises:
            InputError: The file cannot be read further.
        """
        read = {Kind.CSV: self._csv, Kind.JSONL: self._jsonl, Kind.PARQUET: self._parquet}
        try:
            for text in read[self._source.kind](place):
                if text.row >= place.row:
                    yield text
        except OSError as error:
            raise InputError(
                f"table {self._source.path}", expected="to be read on", got=error.strerror or str(error)
            ) from error

    def _choose(self, wanted: str | None) -> str:
        path = self._source.path
        if self._source.kind is Kind.JSONL:
            return wanted or USUAL_COLUMN
        if self._source.kind is Kind.CSV:
            with path.open("rb") as stream:
                names = _header(stream, path)
        else:
            file = _parquet_file(path)
            with file:
                names, self.rows = list(file.schema_arrow.names), int(file.metadata.num_rows)
        chosen = wanted or (names[0] if len(names) == 1 else USUAL_COLUMN)
        if chosen not in names:
            raise ConfigError("--column", expected=f"one of {', '.join(names)}", got=chosen)
        return chosen

    def _csv(self, place: Place) -> Iterator[Text]:
        # A limit of the module, not of a reader; its own is too low for a long document.
        csv.field_size_limit(MOST_BYTES)
        with self._source.path.open("rb") as stream:
            names = _header(stream, self._source.path)
            at = names.index(self.column)
            row = place.row if place.offset else 0
            if place.offset:
                stream.seek(place.offset)
            lines = _Lines(stream)
            rows = csv.reader(lines, strict=True)
            while True:
                error, cells = "", list[str]()
                try:
                    cells = next(rows)
                except StopIteration:
                    return
                except csv.Error as broken:
                    error = f"row {row}: {broken}"
                if not cells and not error:
                    continue  # an empty line
                if not error and len(cells) != len(names):
                    error = f"row {row}: expected {len(names)} columns, got {len(cells)}"
                text = None if error else cells[at]
                if text is not None and not _sound(text):
                    text, error = None, f"row {row}: expected UTF-8"
                yield Text(row, text, error, lines.end)
                row += 1

    def _jsonl(self, place: Place) -> Iterator[Text]:
        with self._source.path.open("rb") as stream:
            stream.seek(place.offset)
            row = place.row if place.offset else 0
            while line := stream.readline(MOST_BYTES):
                whole = len(line) < MOST_BYTES or line.endswith(b"\n")
                while not whole:
                    more = stream.readline(MOST_BYTES)
                    whole = len(more) < MOST_BYTES or more.endswith(b"\n")
                    line = b""
                if line and not line.strip():
                    continue
                text, error = self._parse(line)
                yield Text(row, text, error and f"row {row}: {error}", stream.tell())
                row += 1

    def _parse(self, line: bytes) -> tuple[str | None, str]:
        if not line:
            return None, f"longer than {MOST_BYTES} bytes"
        try:
            found: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            return None, f"no JSON: {error}"
        if not isinstance(found, dict) or self.column not in found:
            return None, f"expected an object with `{self.column}`"
        text: Any = found[self.column]  # pyright: ignore[reportUnknownVariableType] - any JSON
        if not isinstance(text, str) or not _sound(text):
            kind = type(text).__name__  # pyright: ignore[reportUnknownArgumentType]
            return None, f"`{self.column}`: expected a text, got {kind}"
        return text, ""

    def _parquet(self, place: Place) -> Iterator[Text]:
        file = _parquet_file(self._source.path)
        with file:
            row = 0
            for group in range(file.num_row_groups):
                size = int(file.metadata.row_group(group).num_rows)
                if row + size <= place.row:
                    row += size
                    continue
                for cells in self._group(file, group, size, row):
                    for cell in cells:
                        text = cell if isinstance(cell, str) else None
                        error = "" if text is not None else f"row {row}: {_why_no_text(cell)}"
                        yield Text(row, text, error, row + 1)
                        row += 1

    def _group(self, file: Any, group: int, size: int, first: int) -> Iterator[list[Any]]:
        arrow = pyarrow()
        given = 0
        try:
            for batch in file.iter_batches(_AT_ONCE, row_groups=[group], columns=[self.column]):
                cells = batch.column(0).to_pylist()
                given += len(cells)
                yield cells
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            # The rows of a damaged group are lost, not those after it.
            broken = _Broken(f"rows {first + given} to {first + size - 1} cannot be read: {error}")
            while given < size:
                count = min(_AT_ONCE, size - given)
                given += count
                yield [broken] * count


@dataclass(frozen=True, slots=True)
class _Broken:
    why: str


def _why_no_text(cell: Any) -> str:
    return cell.why if isinstance(cell, _Broken) else f"expected a text, got {type(cell).__name__}"


class _Lines:
    """Lines of a file for the CSV reader, which remembers where the last one ended."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    @property
    def end(self) -> int:
        return self._stream.tell()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MOST_BYTES)
        if not line:
            raise StopIteration
        return line.decode("utf-8", "surrogateescape")


def _header(stream: IO[bytes], path: Path) -> list[str]:
    lines = _Lines(stream)
    try:
        names = next(csv.reader(lines, strict=True), list[str]())
    except csv.Error as error:
        raise InputError(f"table {path}", expected="CSV with a header", got=str(error)) from error
    if names:
        names[0] = names[0].removeprefix("\ufeff")
    if not names:
        raise InputError(f"table {path}", expected="CSV with a header", got="an empty file")
    return names


def _parquet_file(path: Path) -> Any:
    arrow = pyarrow()
    try:
        return pyarrow("parquet").ParquetFile(path)
    except arrow.ArrowException as error:
        raise InputError(f"table {path}", expected="Parquet", got=str(error)) from error


def _sound(text: str) -> bool:
    """Whether a text is all of characters: bytes that are no UTF-8 came as halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
