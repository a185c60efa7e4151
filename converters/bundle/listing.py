"""Listing: rows of cells as a table where the screen has room for one, else as a block of lines a row.

Says nothing itself and asks no bundle: cells are words that others wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_NOTHING = frozenset({"", "–"})
"""Cells that a block leaves out."""
_ENDLESS = 10_000
_FOLDED = 28
"""A cell that folds is read with ease from this width on."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing.

    Args:
        title: Its name.
        right: Whether its cells stand to the right.
        folds: Whether a cell may take several lines; numbers and names are read whole.
    """

    title: str
    right: bool = False
    folds: bool = False


def show_listing(columns: Sequence[Column], rows: Sequence[Sequence[str]], screen: Console) -> None:
    """Print rows.

    Args:
        columns: The first names the row; where its cell is empty, the row belongs to the one above.
        rows: Cells, in rich's markup.
        screen: Where to; its width decides how.
    """
    table = _table(columns, rows)
    # Asked on a screen without end, for on this one the answer is never more than its width.
    least = Measurement.get(screen, screen.options.update_width(_ENDLESS), table).minimum
    screen.print(table if least <= screen.width else _blocks(columns, rows))


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, column in enumerate(columns):
        # Asked for a column's least width, rich gives its longest word, even where none may be wrapped.
        widest = max(len(column.title), *(Text.from_markup(row[place]).cell_len for row in rows), 0)
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.folds,
            overflow="fold",
            min_width=min(widest, _FOLDED) if column.folds else widest,
        )
    for row in rows:
        table.add_row(*row)
    return table


def _blocks(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Group:
    width = max(len(column.title) for column in columns[1:])
    parts: list[RenderableType] = []
    for name, *cells in rows:
        if name:
            parts.append(Text.from_markup(name, style="bold", overflow="fold"))
        lines = Table.grid(padding=(0, 2, 0, 0))
        lines.add_column(style="dim", width=width, no_wrap=True)
        lines.add_column(overflow="fold")
        for column, cell in zip(columns[1:], cells, strict=True):
            if cell not in _NOTHING:
                lines.add_row(column.title, cell)
        parts.append(Padding.indent(lines, 2))
    return Group(*parts)
