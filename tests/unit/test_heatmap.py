"""The heatmap: seconds by cell."""

import numpy as np
import pytest

from edge_runtime.analytics.heatmap import Heatmap
from edge_runtime.contract.errors import InputError
from edge_runtime.contract.result import Tracks


def tracks(*boxes):
    count = len(boxes)
    return Tracks(
        np.arange(count, dtype=np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(count, np.float32),
        np.zeros(count, np.int32),
        ("person",),
    )


def test_time_is_counted_at_the_feet():
    heat = Heatmap(rows=2, columns=4)
    heat.add(tracks((0, 0, 20, 40), (110, 10, 130, 90)), height=100, width=200, seconds=0.5)
    assert heat.grid.tolist() == [[0.5, 0, 0, 0], [0, 0, 0.5, 0]]
    assert heat.grid.dtype == np.float32


def test_people_in_one_cell_add_up():
    heat = Heatmap(1, 1)
    for _ in range(3):
        heat.add(tracks((0, 0, 10, 10), (5, 5, 20, 20)), height=100, width=100, seconds=0.1)
    assert heat.grid[0, 0] == pytest.approx(0.6)


def test_boxes_over_the_edge_count_in_the_edge_cells():
    heat = Heatmap(2, 2)
    heat.add(tracks((90, 90, 130, 130), (-60, -60, -10, -10)), height=100, width=100, seconds=1)
    assert heat.grid.tolist() == [[1, 0], [0, 1]]


def test_resolution_does_not_matter():
    heat = Heatmap(3, 3)
    heat.add(tracks((10, 10, 20, 20)), height=60, width=60, seconds=1)
    heat.add(tracks((100, 100, 200, 200)), height=600, width=600, seconds=1)
    assert heat.grid.max() == 2


def test_nobody_counts_nothing_and_the_grid_is_a_copy():
    heat = Heatmap(2, 2)
    heat.add(tracks(), height=100, width=100, seconds=1)
    heat.grid[:] = 5
    assert heat.grid.sum() == 0


def test_a_month_of_frames_is_not_rounded_away():
    heat = Heatmap(1, 1)
    heat.add(tracks((0, 0, 10, 10)), height=100, width=100, seconds=2_600_000)
    for _ in range(100):
        heat.add(tracks((0, 0, 10, 10)), height=100, width=100, seconds=0.04)
    assert heat.grid[0, 0] == 2_600_004


def test_a_grid_without_cells_is_refused():
    with pytest.raises(InputError, match="at least 1 row and 1 column"):
        Heatmap(0, 4)
