"""`edge-runtime counts`: what a store has counted, as a table, a file or JSON. Changes nothing."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Table as Grid

from edge_runtime.agent.counting import reader_of
from edge_runtime.cli.shell import console, print_json
from edge_runtime.contract.errors import ConfigError
from edge_runtime.counts.export import write_csv, write_parquet
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.tables import Cell, Every, Table, What, table
from edge_runtime.settings import load_settings

_MOST_DAYS = 4000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options ask for.

    Args:
        what: Entrances, occupancy, …
        every: One row an hour, or a day.
        first: A date as 2026-11-25; None: the last one, or today.
        last: As `first`; None: the first one, or today.
    """

    what: What = What.ENTRANCES
    every: Every = Every.HOUR
    first: str | None = None
    last: str | None = None


def show_counts(
    store: Path, wanted: Wanted, *, csv_file: Path | None, parquet_file: Path | None, as_json: bool
) -> None:
    """Read a store's counts and show them, or write them to files.

    Args:
        store: `store.yaml`.
        wanted: What.
        csv_file: Written as CSV instead of shown.
        parquet_file: Written as Parquet instead of shown.
        as_json: Print one JSON document.

    Raises:
        ConfigError: The settings keep no counts, or an option is wrong.
        StorageError: There are no counts yet, or a file cannot be read or written.
    """
    settings = load_settings(store)
    reader = reader_of(lambda: settings)
    days = _days(reader, wanted)
    found = table(
        reader.clock, (reader.day(day) for day in days), wanted.what, wanted.every, now_s=reader.now_s()
    )
    if parquet_file is not None:
        write_parquet(found, parquet_file, reader.clock.zone.key)
    if csv_file is not None:
        write_csv(found, csv_file)
    screen = console(as_json=as_json)
    if as_json:
        print_json(
            {
                "site": settings.site,
                "timezone": reader.clock.zone.key,
                "from": days[0],
                "to": days[-1],
                "what": found.what,
                "every": wanted.every,
                "rows": [dict(zip(found.columns, row, strict=True)) for row in found.rows],
            }
        )
    elif csv_file is None and parquet_file is None:
        screen.print(_grid(found, wanted.every, reader))
        if not found.rows:
            screen.print(_why_nothing(found.what))
    for file in (csv_file, parquet_file):
        if file is not None:
            screen.print(f"{len(found.rows)} rows in {escape(str(file))}", soft_wrap=True)


def _days(reader: CountsReader, wanted: Wanted) -> tuple[date, ...]:
    today = reader.today
    last = _date("--to", wanted.last) or (today if wanted.first is None else None)
    first = _date("--from", wanted.first) or last or today
    if first > today:
        raise ConfigError(
            "--from", expected=f"{today}, which is today in the store, or earlier", got=str(first)
        )
    last = last or today
    if last < first:
        raise ConfigError("--to", expected=f"{first} or later", got=str(last))
    if (last - first).days >= _MOST_DAYS:
        raise ConfigError("--from", expected=f"at most {_MOST_DAYS} days before --to", got=str(first))
    return reader.clock.days(first, last)


def _date(option: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(option, expected="a date as 2026-11-25", got=text) from error


def _grid(found: Table, every: Every, reader: CountsReader) -> Grid:
    zone = reader.clock.zone.key
    grid = Grid(box=None, pad_edge=False, caption=f"times of {zone}", caption_justify="left")
    shown = [name for name in found.columns if name != "to"]
    for name in shown:
        right = name not in {"from", "entrance", "camera", "zone"}
        grid.add_column("day" if (name, every) == ("from", Every.DAY) else name.replace("_", " "),
                        justify="right" if right else "left")  # fmt: skip
    before = ""
    for row in found.rows:
        cells = [_shown(cell, every) for name, cell in zip(found.columns, row, strict=True) if name != "to"]
        when, cells[0] = cells[0], "" if cells[0] == before else cells[0]
        before = when
        grid.add_row(*cells)
    return grid


def _shown(cell: Cell, every: Every) -> str:
    if isinstance(cell, datetime):
        if every is Every.DAY:
            return cell.strftime("%a %d %b %Y")
        twice = cell.replace(fold=1 - cell.fold).utcoffset() != cell.utcoffset()
        return cell.strftime("%d %b %H:%M %Z" if twice else "%d %b %H:%M")
    return "" if cell is None else escape(f"{cell:g}" if isinstance(cell, float) else str(cell))


def _why_nothing(what: What) -> str:
    return {
        What.ENTRANCES: "No line is an entrance: name its words in and out, or list it in counts.entrances.",
        What.OCCUPANCY: "No line is an entrance: name its words in and out, or list it in counts.entrances.",
        What.DWELL: "Nobody has left a zone in this time.",
        What.QUEUE: "No zone is a waiting line: set its queue: true.",
    }[what]
