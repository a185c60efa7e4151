"""Work cut into units that travel: some pictures, one recording, or some rows of a table. Answers none."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from edge_runtime.contract.device import Decoding
from edge_runtime.scoring.inputs import Kind, Source
from edge_runtime.scoring.pictures import Item, read_file, read_recording
from edge_runtime.scoring.plan import Gap, marked
from edge_runtime.scoring.tables import Place, Table, Text
from edge_runtime.scoring.work import Pending, Work

PICTURES = 32
"""Of a unit: a second of work for a detector, a few kilobytes to send."""
ROWS = 512
"""Of a table, in a unit."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one worker does at a time. Its files must be readable where it is done, at the same paths.

    Args:
        sources: Pictures; or the one recording or table.
        left: Of a recording: rows that are not done.
        place: Of a table: where its rows begin.
        rows: Of a table: how many.
        ends: Of a table: whether its last row is among them.
        total: Of a table: what the place of a row's end is a share of.
    """

    sources: tuple[Source, ...]
    left: tuple[Gap, ...] = ()
    place: Place = field(default_factory=Place)
    rows: int = 0
    ends: bool = False
    total: int = 1


def units_of(work: Work) -> Iterator[Unit]:
    """Cut what is pending into units, as it is read."""
    pictures: list[Source] = []
    for pending in work.pending():
        source = replace(pending.source, path=pending.source.path.resolve())
        if source.kind is Kind.PICTURE:
            pictures.append(source)
            if len(pictures) == PICTURES:
                yield Unit(tuple(pictures))
                pictures = []
        elif source.kind is Kind.RECORDING:
            yield Unit((source,), pending.left)
        else:
            yield from _of_table(Pending(source, pending.left), work.column)
    if pictures:
        yield Unit(tuple(pictures))


def items_of(unit: Unit, *, column: str | None, fps: float | None, decoding: Decoding) -> Iterator[Item]:
    """Read a unit's inputs.

    Args:
        unit: Made by `units_of`.
        column: Of tables.
        fps: Of recordings.
        decoding: Of recordings.
    """
    source = unit.sources[0]
    match source.kind:
        case Kind.PICTURE:
            yield from map(read_file, unit.sources)
        case Kind.RECORDING:
            yield from read_recording(source, unit.left, fps, decoding)
        case _:
            texts = islice(Table(source, column).texts(unit.place), unit.rows)
            for text, last in marked(texts):
                share = min(text.end / unit.total, 1.0)
                ends = last and unit.ends
                yield Item(source, text.row, text.text, text.error, ends, progress=share)


def _of_table(pending: Pending, column: str | None) -> Iterator[Unit]:
    """Find where each unit's rows begin: one pass over the table, which costs little beside a model's."""
    source, table = pending.source, Table(pending.source, column)
    total = table.rows or max(source.size_bytes, 1)
    begun = 0
    place = Place()
    before: Text | None = None
    for text, last in marked(table.texts(Place(pending.left[0].first))):
        wanted = any(text.row in gap for gap in pending.left)
        if wanted:
            if not begun:
                place = Place(text.row, before.end if before is not None else 0)
            begun += 1
        if begun and (last or not wanted or begun == ROWS):
            yield Unit((source,), place=place, rows=begun, ends=last and wanted, total=total)
            begun = 0
        before = text
