"""Lines: what is a crossing, which way it goes, and what is only trembling."""

import numpy as np
import pytest

from edge_runtime.analytics.lines import Line, LineWatch, check_line, crossing, distance
from edge_runtime.contract.errors import ConfigError

LEFT_TO_RIGHT = ((0.2, 0.5), (0.8, 0.5))
ABOVE, BELOW = (0.5, 0.3), (0.5, 0.7)


@pytest.mark.parametrize(
    ("line", "before", "after", "expected"),
    [
        (LEFT_TO_RIGHT, ABOVE, BELOW, 1),  # walking right, a is above (left hand), b below
        (LEFT_TO_RIGHT, BELOW, ABOVE, -1),
        (LEFT_TO_RIGHT[::-1], ABOVE, BELOW, -1),  # the same line walked the other way
        (((0.5, 0.8), (0.5, 0.2)), (0.4, 0.5), (0.6, 0.5), 1),  # walking up, a is left
        (((0.5, 0.2), (0.5, 0.8)), (0.4, 0.5), (0.6, 0.5), -1),  # walking down, a is right
        (LEFT_TO_RIGHT, ABOVE, (0.6, 0.4), 0),  # stays above
        (LEFT_TO_RIGHT, (0.1, 0.3), (0.1, 0.7), 0),  # passes the left end
        (LEFT_TO_RIGHT, (0.9, 0.3), (0.9, 0.7), 0),  # passes the right end
        (LEFT_TO_RIGHT, (0.2, 0.3), (0.2, 0.7), 1),  # exactly over an end
        (LEFT_TO_RIGHT, (0.0, 0.0), (1.0, 1.0), 1),  # one big step
        (LEFT_TO_RIGHT, ABOVE, (0.5, 0.5), 0),  # on the line is still side a
        (LEFT_TO_RIGHT, (0.5, 0.5), BELOW, 1),
        (LEFT_TO_RIGHT, (0.3, 0.5), (0.7, 0.5), 0),  # along the line
        (LEFT_TO_RIGHT, ABOVE, ABOVE, 0),
    ],
)
def test_one_step(line, before, after, expected):
    assert crossing(*line, before, after) == expected


@pytest.mark.parametrize(
    ("point", "away"),
    [((5, 3), 3.0), ((5, -3), 3.0), ((0, 0), 0.0), ((-3, 4), 5.0), ((13, 4), 5.0), ((7, 0), 0.0)],
)
def test_distance_is_to_the_segment(point, away):
    assert distance((0.0, 0.0), (10.0, 0.0), point) == pytest.approx(away)


def walk(heights, line=None, x=0.5):
    """Walk a track with a box 100 px high through heights (pixels of 1000); answer (step, direction)."""
    watch = LineWatch(line or Line("door", *LEFT_TO_RIGHT, margin=0.1))
    crossed = []
    for step, y in enumerate(heights):
        place = np.array([[x, y / 1000]])
        for _, direction in watch.update([1], place, np.array([100.0]), (1000, 1000)):
            crossed.append((step, direction))
    assert watch.counts["a_to_b"] == sum(way == "a_to_b" for _, way in crossed)
    assert watch.counts["b_to_a"] == sum(way == "b_to_a" for _, way in crossed)
    return crossed


@pytest.mark.parametrize(
    ("heights", "crossed"),
    [
        ([400, 450, 550, 600], [(2, "a_to_b")]),
        ([600, 400], [(1, "b_to_a")]),
        ([400, 505, 509, 512], [(3, "a_to_b")]),  # counts once clear by a tenth of the box
        ([400, 505, 495, 505, 495, 505, 495, 520], [(7, "a_to_b")]),  # trembles on the line
        ([400, 505, 495, 400], []),  # turns back on the line
        ([400, 505, 480, 505, 520], [(4, "a_to_b")]),
        ([400, 600, 400, 600], [(1, "a_to_b"), (2, "b_to_a"), (3, "a_to_b")]),
        ([400, 505], []),  # vanishes on the line
        ([505, 495, 400], []),  # begins on the line: nobody saw from where
        ([505, 495, 600], []),
        ([505, 600, 400], [(2, "b_to_a")]),  # but what comes after counts
        ([400], []),
    ],
)
def test_trembling(heights, crossed):
    assert walk(heights) == crossed


def test_walking_around_the_end_counts_nothing():
    watch = LineWatch(Line("door", *LEFT_TO_RIGHT))
    for x, y in [(0.5, 0.3), (0.9, 0.3), (0.9, 0.7), (0.5, 0.7)]:
        assert watch.update([1], np.array([[x, y]]), np.array([100.0]), (1000, 1000)) == []


def test_a_change_of_resolution_is_no_step():
    watch = LineWatch(Line("door", *LEFT_TO_RIGHT))
    assert watch.update([1], np.array([ABOVE]), np.array([100.0]), (1920, 1080)) == []
    assert watch.update([1], np.array([ABOVE]), np.array([50.0]), (640, 360)) == []
    assert watch.update([1], np.array([BELOW]), np.array([50.0]), (640, 360)) == [(1, "a_to_b")]


def test_tracks_do_not_share_a_path():
    watch = LineWatch(Line("door", *LEFT_TO_RIGHT))
    watch.update([1], np.array([ABOVE]), np.array([100.0]), (1000, 1000))
    assert watch.update([2], np.array([BELOW]), np.array([100.0]), (1000, 1000)) == []
    both = watch.update([2, 1], np.array([ABOVE, BELOW]), np.array([100.0] * 2), (1000, 1000))
    assert both == [(2, "b_to_a"), (1, "a_to_b")]


def test_a_forgotten_track_begins_anew():
    watch = LineWatch(Line("door", *LEFT_TO_RIGHT))
    watch.update([1], np.array([ABOVE]), np.array([100.0]), (1000, 1000))
    watch.forget([1, 2])
    assert watch.update([1], np.array([BELOW]), np.array([100.0]), (1000, 1000)) == []


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ((0.5, 0.5), (0.5, 0.5), "line 'door': expected two different ends"),
        ((-0.1, 0.5), (0.5, 0.5), "line 'door': from: expected x and y from 0 to 1, got (-0.1, 0.5)"),
        ((0.1, 0.5), (0.5, 540), "line 'door': to: expected x and y from 0 to 1, got (0.5, 540)"),
    ],
)
def test_bad_lines_are_refused(start, end, message):
    with pytest.raises(ConfigError) as caught:
        check_line("door", start, end)
    assert message in str(caught.value)


def test_directions_need_names_of_their_own():
    with pytest.raises(ConfigError, match="both directions have the same name"):
        Line("door", *LEFT_TO_RIGHT, a_to_b="in", b_to_a="in")


def test_a_negative_margin_is_refused():
    with pytest.raises(ConfigError, match="line 'door': margin"):
        Line("door", *LEFT_TO_RIGHT, margin=-0.1)
