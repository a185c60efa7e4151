"""Rows into parts: gathered, written a group at a time, and each part put in place when it is full."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, cast

from edge_runtime.atomic import cannot_write, new_file
from edge_runtime.scoring.columns import LAST, Cells, Columns
from edge_runtime.scoring.files import FLUSH_ROWS, Format, PartWriter, open_writer
from edge_runtime.scoring.inputs import Kind, Source
from edge_runtime.scoring.ledger import Ledger
from edge_runtime.scoring.plan import Growing, Limits

_FLUSH_WEIGHT = 20_000
"""Objects, and texts by the hundred characters, that are held before they are written: some 10 MB."""


class Parts:
    """The parts of one run; used by one thread.

    Args:
        ledger: Begun.
        form: Of the files.
        columns: Of the rows.
        limits: When a part is full.
        now: Seconds that only rise.
    """

    def __init__(
        self, ledger: Ledger, form: Format, columns: Columns, limits: Limits, now: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._form = form
        self._columns = columns
        self._limits = limits
        self._now = now
        self._stack = ExitStack()
        self._writer: PartWriter | None = None
        self._clear()

    def add(self, row: Cells, source: Source) -> None:
        """Take a row.

        Args:
            row: With `LAST`.
            source: Where it is from.

        Raises:
            StorageError: The disk fails; the rows of this part are lost, those of earlier ones are not.
        """
        try:
            if self._writer is None:
                self._open()
            self._note(row, source)
            if len(self._waiting) >= FLUSH_ROWS or self._weight >= _FLUSH_WEIGHT:
                self._flush()
            size_bytes = 0 if self._stream is None else self._stream.tell()
        except OSError as error:
            raise cannot_write(self._ledger.path(self._part), error) from error
        if self._limits.full(self._rows, size_bytes, self._now() - self._began):
            self.commit()

    def commit(self) -> None:
        """Put the part in place, if there is one.

        Raises:
            StorageError: The disk fails.
        """
        if self._writer is None:
            return
        with self._stack.pop_all():
            self._flush()
            self._writer.close()
            self._ledger.promise(self._part, self._growing.spans, self._sources, self._rows, self._errors)
        self._clear()

    def abandon(self) -> None:
        """Throw the part away that is not in place."""
        if self._writer is not None:
            self._writer.abandon()
        abandoned = _AbandonedError()
        self._stack.__exit__(type(abandoned), abandoned, None)
        self._clear()

    def _open(self) -> None:
        self._part = self._ledger.next_part()
        self._stream = self._stack.enter_context(new_file(self._ledger.path(self._part)))
        self._writer = open_writer(self._form, self._stream, self._columns)
        self._began = self._now()

    def _note(self, row: Cells, source: Source) -> None:
        self._waiting.append(row)
        self._weight += _weight(row)
        self._rows += 1
        self._errors += row.get("error") is not None
        self._sources[source.name] = source
        self._growing.add(source.name, row["row"], last=row[LAST], holes=source.kind is Kind.RECORDING)

    def _flush(self) -> None:
        if self._writer is not None and self._waiting:
            self._writer.write(self._waiting)
        self._waiting, self._weight = [], 0

    def _clear(self) -> None:
        self._part, self._began = 0, 0.0
        self._stream: IO[bytes] | None = None
        self._writer: PartWriter | None = None
        self._waiting: list[Cells] = []
        self._weight = self._rows = self._errors = 0
        self._growing, self._sources = Growing(), dict[str, Source]()


class _AbandonedError(Exception):
    """Makes the file under way disappear."""


def _weight(row: Cells) -> int:
    """Guess what a row holds, in objects."""
    weight = 1
    for cell in row.values():
        if isinstance(cell, list):
            weight += len(cast("list[Cells]", cell))
        elif isinstance(cell, str):
            weight += len(cell) // 100
    return weight
