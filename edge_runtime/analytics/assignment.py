"""Who belongs to whom: the exact assignment with the greatest total gain, where few pairs are possible.

Knows neither boxes nor tracks. Rows and columns that no pair names stay alone.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Gains: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]
Mask: TypeAlias = NDArray[np.bool_]


class Pairs(NamedTuple):
    """The pairs that may be made, each once.

    Args:
        rows: (k,) indices.
        columns: (k,) indices.
        gains: (k,) what each pair is worth, more than zero.
    """

    rows: Indices
    columns: Indices
    gains: Gains

    def only(self, mask: Mask) -> "Pairs":
        """Keep some of them; `mask` is (k,)."""
        return Pairs(self.rows[mask], self.columns[mask], self.gains[mask])


def assign(pairs: Pairs, rows: int, columns: int) -> Indices:
    """Choose pairs, each row and column at most once, with the greatest possible sum of gains.

    The Hungarian method as successive shortest augmenting paths (R. Jonker and A. Volgenant, "A shortest
    augmenting path algorithm for dense and sparse linear assignment problems", Computing 38, 1987), started
    from every row's best column. Between two frames nearly every row has a best column of its own; only the
    few that want the same one cost a search.

    Args:
        pairs: The pairs that may be made.
        rows: How many rows there are.
        columns: How many columns there are.

    Returns:
        (rows,) the column of each row, -1 where the row stays alone.
    """
    order = np.argsort(pairs.gains, kind="stable")
    by_gain = Pairs(pairs.rows[order], pairs.columns[order], pairs.gains[order])
    wish = np.full(rows, -1, np.intp)
    wish[by_gain.rows] = by_gain.columns  # of several entries the last, the greatest gain, stays
    worth = np.zeros(rows)
    worth[by_gain.rows] = by_gain.gains
    wished = wish[by_gain.rows] == by_gain.columns
    holder = np.full(columns, -1, np.intp)
    holder[by_gain.columns[wished]] = by_gain.rows[wished]
    partner = np.full(rows, -1, np.intp)
    taken = np.flatnonzero(holder >= 0)
    partner[holder[taken]] = taken
    waiting = np.flatnonzero((wish >= 0) & (partner < 0))
    if not len(waiting):
        return partner
    search = _Search(pairs, worth, partner, holder)
    for row in waiting.tolist():
        search.augment(row)
    return np.array(search.partner, np.intp)


class _Search:
    """The rows still waiting, in plain lists: a search looks at a handful of pairs, too few for arrays.

    `worth` of a row and `price` of a column are the dual variables: never negative,
    `worth[r] + price[c] >= gain[r, c]`, equal for the pairs made, and zero for who stays alone.
    """

    def __init__(self, pairs: Pairs, worth: Gains, partner: Indices, holder: Indices) -> None:
        self.worth: list[float] = worth.tolist()
        self.price = [0.0] * len(holder)
        self.partner: list[int] = partner.tolist()
        self.holder: list[int] = holder.tolist()
        self.wishes: list[list[tuple[int, float]]] = [[] for _ in self.worth]
        for row, column, gain in zip(
            pairs.rows.tolist(), pairs.columns.tolist(), pairs.gains.tolist(), strict=True
        ):
            self.wishes[row].append((column, gain))

    def augment(self, start: int) -> None:
        """Find `start` a column by moving others, or leave the row alone that loses least by it."""
        worth, price = self.worth, self.price
        near: dict[int, float] = {}  # columns reached: how much total gain it costs to use them
        searched: dict[int, float] = {}
        asked_by: dict[int, int] = {}
        visited = {start: 0.0}
        row, cost = start, 0.0
        loner, least = start, worth[start]
        while True:
            for column, gain in self.wishes[row]:
                through = cost + worth[row] + price[column] - gain
                if column not in searched and through < near.get(column, least):
                    near[column] = through
                    asked_by[column] = row
            column = min(near, key=near.__getitem__, default=-1)
            if column < 0 or near[column] >= least:
                column, self.partner[loner] = self.partner[loner], -1
                break
            cost = near.pop(column)
            row = self.holder[column]
            if row < 0:
                least = cost
                break
            searched[column] = visited[row] = cost
            if cost + worth[row] < least:
                loner, least = row, cost + worth[row]
        for row, cost in visited.items():
            worth[row] -= least - cost
        for passed, cost in searched.items():
            price[passed] += least - cost
        while column >= 0:  # hand the columns down the path; `start` has none to hand on
            row = self.holder[column] = asked_by[column]
            column, self.partner[row] = self.partner[row], column
