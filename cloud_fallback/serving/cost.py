"""Cost: what a batch of n rows takes, learnt from what batches took; and how many rows pay.

`d(n) = a + b·n` predicts a run's time. A straight line with `a >= 0` can never say that rows are cheaper
alone, so how many pay is read off the times themselves: they are kept by size, in cells of 1, 2–3, 4–7, 8–15,
… rows, a window of the last runs each, whose median bears any one slow run. Reads no clock: `now` is an
argument.
"""

from collections import deque
from dataclasses import dataclass, field

ENOUGH = 3
"""Runs of a size before its time counts, and so what trying a size costs: the median of three bears one
outlier, such as the first run of a shape, in which an engine allocates."""
WINDOW = 7
"""Runs that a size remembers; four new ones outvote the rest when the machine's speed changes."""
GAIN = 1.05
"""More rows must give 5 % more rows a second; less is noise, and makes every row wait for others."""
_LOOK_AHEAD = 2
"""Doublings tried beyond the best size: two rows may be slower than one, and four faster than both."""
_REFRESH_S = 1.0
"""After this time a neighbour of the best size is tried again: machines and their load change."""
_REFRESH_SHARE = 0.02
"""Trying again takes at most this share of the time, however slow the model."""
_HALF_LIFE_S = 20.0
"""A cell measured this long before the newest one counts half in the line."""
TRUST_S = 1.0
"""What was not measured for this long may be of another time: one slow moment must not close a model."""
_STALE = 0.5
"""After such a silence, a run that took less than this share of what was predicted shows that it is."""
_SPREAD_WINDOW = 32
"""Runs whose predictions are looked back at."""
_MOST_SPREAD = 8.0
"""A run that was wrong by more counts as wrong by this much."""


@dataclass(slots=True)
class _Cell:
    """The last runs of about one size.

    Args:
        runs: (rows, seconds a row) of each.
        at: When the last one ended.
        rows: Mean size.
        per_row_s: Median seconds a row.
    """

    runs: deque[tuple[int, float]] = field(default_factory=lambda: deque[tuple[int, float]](maxlen=WINDOW))
    at: float = 0.0
    rows: float = 0.0
    per_row_s: float = 0.0

    def add(self, rows: int, seconds: float, now: float) -> None:
        self.runs.append((rows, seconds / rows))
        self.at = now
        self.rows = sum(each[0] for each in self.runs) / len(self.runs)
        self.per_row_s = sorted(each[1] for each in self.runs)[len(self.runs) // 2]

    @property
    def known(self) -> bool:
        return len(self.runs) >= ENOUGH


class Cost:
    """Learns what one kind of batch costs.

    Args:
        max_rows: Sizes beyond are neither tried nor recommended.

    Attributes:
        usual: What runs take on average, by what was predicted: a queue waits for averages, not for medians.
        slow: What one run in ten exceeds, by what was predicted; 1 at least, both.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._cells: dict[int, _Cell] = {}
        self._best = 0
        self._newest = 0.0
        self._a_s = 0.0
        self._b_s = 0.0
        self._ratios: deque[float] = deque(maxlen=_SPREAD_WINDOW)
        self.usual = 1.0
        self.slow = 1.0

    @property
    def line(self) -> tuple[float, float]:
        """The a and b of `d(n) = a + b·n`, seconds; both 0 while nothing is known."""
        return self._a_s, self._b_s

    @property
    def limit(self) -> int:
        """Rows that a batch is best given at most: the knee of rows per second, a power of two."""
        return 1 << self._best

    @property
    def per_row_s(self) -> float:
        """Seconds that a row of a batch at the knee takes; 0 while nothing is known."""
        cell = self._cells.get(self._best)
        return self.predict_s(1) if cell is None or not cell.runs else cell.per_row_s

    def learn(self, rows: int, seconds: float, now: float) -> None:
        """Take in one run.

        Args:
            rows: Of the batch, at least 1.
            seconds: It took.
            now: When it ended.
        """
        seconds = max(seconds, 1e-9)
        if expected := self.predict_s(rows):
            if self.unheard_since(now) > TRUST_S:
                self._doubt(seconds / expected)
            self._spread(seconds / expected)
        self._cells.setdefault(_cell_of(rows), _Cell()).add(rows, seconds, now)
        self._newest = max(self._newest, now)
        self._best = self._find_best()
        self._fit()

    def predict_s(self, rows: int) -> float:
        """Say how long a batch will take; 0 while nothing is known."""
        return self._a_s + self._b_s * rows

    def within(self, seconds: float) -> int:
        """Say how many rows a run of this time can have; 0: not even one."""
        if self._a_s + self._b_s * self._max_rows <= seconds:
            return self._max_rows
        return max(0, int((seconds - self._a_s) / self._b_s)) if self._b_s else 0

    def unheard_since(self, now: float) -> float:
        """Give the seconds since the last run: a prediction nobody checks any more may be wrong."""
        return now - self._newest

    def trial(self, waiting: int, now: float) -> int | None:
        """Name a size that is worth trying.

        Args:
            waiting: Rows there are to fill it with.
            now: The time.

        Returns:
            None: nothing to learn, or too few rows for it.
        """
        for index in (self._best, *range(self._best + 1, self._best + 1 + _LOOK_AHEAD), self._best - 1):
            rows = 1 << max(index, 0)
            if index < 0 or rows > min(waiting, self._max_rows):
                continue
            cell = self._cells.get(index)
            if cell is None:
                return rows
            if cell.known and now - cell.at > max(
                _REFRESH_S, ENOUGH * rows * cell.per_row_s / _REFRESH_SHARE
            ):
                cell.runs.clear()
            if not cell.known:
                return rows
        return None

    def _doubt(self, ratio: float) -> None:
        """Forget how wrong predictions were before a silence; after a run far below its own, all of them."""
        self._ratios.clear()
        self.usual = self.slow = 1.0
        if ratio < _STALE:
            self._cells.clear()

    def _spread(self, ratio: float) -> None:
        """Take in how wrong a prediction was; machines that others use as well are slow now and then."""
        self._ratios.append(min(max(ratio, 1 / _MOST_SPREAD), _MOST_SPREAD))
        count = len(self._ratios)
        if count >= _SPREAD_WINDOW // 4:
            self.usual = max(1.0, sum(self._ratios) / count)
            self.slow = max(1.0, sorted(self._ratios)[count * 9 // 10])

    def _find_best(self) -> int:
        """The smallest size whose rows per second are about the best there are."""
        known = {index: cell.per_row_s for index, cell in self._cells.items() if cell.known}
        if not known:
            return 0
        good = min(known.values()) * GAIN
        best = min(index for index, per_row_s in known.items() if per_row_s <= good)
        return min(best, _cell_of(self._max_rows))

    def _fit(self) -> None:
        """Fit the line to the cells' medians by least squares of the relative error, recent ones first.

        Sizes that only a trial has are left out where they are worse than the best: they will not be run.
        """
        run = {index: cell for index, cell in self._cells.items() if cell.runs}
        top = max((index for index in run if index <= self._best), default=min(run))
        cells = [cell for index, cell in run.items() if index <= top or cell.per_row_s <= run[top].per_row_s]
        newest = max(cell.at for cell in cells)
        weight = mean_n = mean_d = 0.0
        points: list[tuple[float, float, float]] = []
        for cell in cells:
            seconds = cell.per_row_s * cell.rows
            w = 0.5 ** ((newest - cell.at) / _HALF_LIFE_S) * len(cell.runs) / (seconds * seconds)
            points.append((w, cell.rows, seconds))
            weight += w
            mean_n += w * cell.rows
            mean_d += w * seconds
        mean_n, mean_d = mean_n / weight, mean_d / weight
        spread = sum(w * (n - mean_n) ** 2 for w, n, _ in points)
        slope = sum(w * (n - mean_n) * (d - mean_d) for w, n, d in points) / spread if spread else -1.0
        if spread and slope <= 0:
            self._a_s, self._b_s = mean_d, 0.0
        elif not spread or mean_d - slope * mean_n < 0:
            self._a_s = 0.0
            self._b_s = sum(w * n * d for w, n, d in points) / sum(w * n * n for w, n, _ in points)
        else:
            self._a_s, self._b_s = mean_d - slope * mean_n, slope


def _cell_of(rows: int) -> int:
    return rows.bit_length() - 1
