"""Heatmap: where in the picture objects spent their time.

Counts only; colours and pictures are made where the map is shown.
"""

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.result import Tracks


class Heatmap:
    """Seconds that objects stood in each cell of a grid over the picture.

    Args:
        rows: Of the grid.
        columns: Of the grid.

    Raises:
        InputError: The grid has no cells.
    """

    def __init__(self, rows: int, columns: int) -> None:
        if rows < 1 or columns < 1:
            raise InputError("heatmap", expected="at least 1 row and 1 column", got=f"{rows} × {columns}")
        # float64: after a month of counting, float32 no longer notices 40 ms.
        self._seconds = np.zeros((rows, columns))

    @property
    def grid(self) -> NDArray[np.float32]:
        """(rows, columns) float32 seconds, top row first; a copy."""
        return self._seconds.astype(np.float32)

    def add(self, tracks: Tracks, height: int, width: int, seconds: float) -> None:
        """Count where objects stand, by the bottom centre of their boxes.

        Args:
            tracks: Objects of one frame.
            height: Of the picture, pixels.
            width: Of the picture, pixels.
            seconds: Time since the frame before.
        """
        rows, columns = self._seconds.shape
        boxes = tracks.boxes
        row = (boxes[:, 3] * (rows / height)).astype(np.intp)
        column = ((boxes[:, 0] + boxes[:, 2]) * (columns / (2 * width))).astype(np.intp)
        cells = row.clip(0, rows - 1) * columns + column.clip(0, columns - 1)
        np.add.at(self._seconds.reshape(-1), cells, seconds)
