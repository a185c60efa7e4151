"""Work cut into units that travel: some pictures, one recording, or some rows of a table. Answers none."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from edge_runtime.contract.device import Decoding
from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.scoring.inputs import Kind, Source
from edge_runtime.scoring.pictures import Item, read_file, read_recording
from edge_runtime.scoring.plan import Gap, marked
from edge_runtime.scoring.tables import Place, Table
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
        error: Of a table: why it cannot be read from here on.
    """

    sources: tuple[Source, ...]
    left: tuple[Gap, ...] = ()
    place: Place = field(default_factory=Place)
    rows: int = 0
    ends: bool = False
    total: int = 1
    error: str = ""


def units_of(work: Work) -> Iterator[Unit]:
    """Cut what is pending into units, as it is read."""
    pictures: list[Source] = []
    for pending in work.pending():
        source = replace(pending.source, path=pending.source.path.resolve())
        picture = source.kind is Kind.PICTURE
        if pictures and (not picture or len(pictures) == PICTURES):
            yield Unit(tuple(pictures))
            pictures = []
        if picture:
            pictures.append(source)
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
        case _ if unit.error:
            yield Item(source, unit.place.row, None, unit.error)
        case _:
            texts = islice(Table(source, column).texts(unit.place), unit.rows)
            for text, last in marked(texts):
                share = min(text.end / unit.total, 1.0)
                ends = last and unit.ends
                yield Item(source, text.row, text.text, text.error, ends, progress=share)


def _of_table(pending: Pending, column: str | None) -> Iterator[Unit]:
    """Find where each unit's rows begin: one pass over the table, which costs little beside a model's."""
    source = pending.source
    next_place = Place(pending.left[0].first)
    place, begun = next_place, 0
    try:
        table = Table(source, column)
        total = table.rows or max(source.size_bytes, 1)
        for text, last in marked(table.texts(place)):
            wanted = any(text.row in gap for gap in pending.left)
            if wanted and not begun:
                place = Place(text.row, next_place.offset)
            begun += wanted
            if begun and (last or not wanted or begun == ROWS):
                yield Unit((source,), place=place, rows=begun, ends=last and wanted, total=total)
                begun = 0
            next_place = Place(text.row + 1, text.end)
    except (ConfigError, InputError) as error:
        if begun:
            yield Unit((source,), place=place, rows=begun)
        yield Unit((source,), place=next_place, error=str(error))
