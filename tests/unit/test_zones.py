"""Zones: what is a polygon, what is inside it, and when somebody has entered or left."""

import numpy as np
import pytest

from edge_runtime.analytics.zones import Zone, ZoneWatch, check_polygon, contains, edges
from edge_runtime.contract.errors import ConfigError

SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
L_SHAPE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.4), (0.4, 0.4), (0.4, 0.9), (0.1, 0.9))
IN, OUT = (0.5, 0.5), (0.1, 0.5)


@pytest.mark.parametrize(
    ("polygon", "point", "inside"),
    [
        (SQUARE, (0.5, 0.5), True),
        (SQUARE, (0.1, 0.5), False),
        (SQUARE, (0.9, 0.5), False),
        (SQUARE, (0.5, 0.1), False),
        (SQUARE, (0.5, 0.9), False),
        (SQUARE, (0.2, 0.5), True),  # half-open: the left and the upper edge belong to it
        (SQUARE, (0.8, 0.5), False),
        (SQUARE, (0.5, 0.2), True),
        (SQUARE, (0.5, 0.8), False),
        (L_SHAPE, (0.2, 0.8), True),
        (L_SHAPE, (0.8, 0.2), True),
        (L_SHAPE, (0.6, 0.6), False),
        (L_SHAPE, (0.2, 0.4), True),  # level with a corner
        (L_SHAPE, (0.05, 0.4), False),
    ],
)
def test_inside(polygon, point, inside):
    for way_round in (polygon, polygon[::-1]):
        assert contains(edges(way_round), point) == inside


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (SQUARE[:2], "zone 'aisle': expected at least 3 corners, got 2"),
        (
            ((0.1, 0.1), (1.2, 0.1), (0.5, 0.9)),
            "zone 'aisle': corner 2: expected x and y from 0 to 1, got (1.2, 0.1)",
        ),
        (((0.1, 0.1), (0.5, float("nan")), (0.5, 0.9)), "corner 2"),
        (((0.1, 0.1), (0.1, 0.1), (0.5, 0.9)), "corners 1 and 2 are the same"),
        (((0.1, 0.1), (0.5, 0.1), (0.5, 0.9), (0.1, 0.1)), "corners 4 and 1 are the same"),
        (
            ((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9)),
            "edge 1 (0.1, 0.1) to (0.9, 0.9) meets edge 3 (0.9, 0.1) to (0.1, 0.9)",
        ),
        (((0.1, 0.1), (0.9, 0.1), (0.5, 0.1)), "meets edge"),  # folds back on itself
        (((0.1, 0.1), (0.2, 0.2), (0.3, 0.3)), "zone 'aisle'"),
        (((0.1, 0.1), (0.9, 0.1), (0.5, 0.5), (0.5, 0.1), (0.1, 0.5)), "meets edge"),  # touches itself
    ],
)
def test_bad_polygons_are_refused_by_name_and_place(points, message):
    with pytest.raises(ConfigError) as caught:
        check_polygon("aisle", points)
    assert message in str(caught.value)
    assert "zone 'aisle'" in str(caught.value)


@pytest.mark.parametrize("points", [SQUARE, L_SHAPE, ((0, 0), (1, 0), (0.5, 1))])
def test_good_polygons_pass(points):
    check_polygon("aisle", points)
    check_polygon("aisle", points[::-1])


@pytest.mark.parametrize(
    ("field", "value"), [("dwell_s", 0.0), ("settle_s", -1.0), ("settle_s", float("inf"))]
)
def test_bad_times_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"zone 'z': {field}"):
        Zone("z", SQUARE, **{field: value})


def visit(watch, places, step_s=0.1):
    """Walk track 1 through places, one a step; answer (step, kind) of every change."""
    changes = []
    for step, place in enumerate(places):
        ids, anchors = ([1], np.array([place])) if place else ([], np.empty((0, 2)))
        changes += [(step, change.kind) for change in watch.update(ids, anchors, round(step * step_s * 1e9))]
    return changes


@pytest.mark.parametrize(
    ("places", "changes"),
    [
        ([OUT] * 5, []),
        ([IN] * 3, []),  # 0.2 s
        ([IN] * 4, [(3, "entered")]),
        ([IN, IN, OUT, IN, IN, IN], []),  # not long enough at a stretch
        ([IN, IN, OUT, IN, IN, IN, IN], [(6, "entered")]),
        ([IN] * 4 + [OUT] * 3, [(3, "entered")]),
        ([IN] * 4 + [OUT] * 4, [(3, "entered"), (7, "left")]),
        ([IN] * 4 + [OUT, OUT, IN] * 3, [(3, "entered")]),  # trembling on the edge is one stay
        ([IN] * 4 + [None] * 10 + [IN] * 2, [(3, "entered")]),  # hidden is not outside
        ([IN] * 10 + [OUT] * 4 + [IN] * 4, [(3, "entered"), (13, "left"), (17, "entered")]),
    ],
)
def test_settling(places, changes):
    watch = ZoneWatch(Zone("z", SQUARE, settle_s=0.3))
    assert visit(watch, places) == changes
    assert watch.occupancy == sum({"entered": 1, "left": -1}[kind] for _, kind in changes)


def test_dwelling_is_said_once_a_stay():
    watch = ZoneWatch(Zone("z", SQUARE, dwell_s=1.0, settle_s=0.3))
    changes = visit(watch, [IN] * 30 + [OUT] * 5 + [IN] * 12)
    assert changes == [
        (3, "entered"),
        (10, "dwelled"),
        (33, "left"),
        (38, "entered"),
        (45, "dwelled"),
    ]


def test_no_settling_is_immediate():
    watch = ZoneWatch(Zone("z", SQUARE, settle_s=0.0))
    assert visit(watch, [IN, OUT, IN]) == [(0, "entered"), (1, "left"), (2, "entered")]


def test_a_stay_is_as_long_as_it_was_seen_inside():
    watch = ZoneWatch(Zone("z", SQUARE, settle_s=0.3))
    visit(watch, [OUT] * 2 + [IN] * 21)
    (left,) = watch.forget([1, 99])
    assert (left.kind, left.track, left.occupancy) == ("left", 1, 0)
    assert left.seconds == pytest.approx(2.0)
    assert watch.forget([1]) == []


def test_who_is_forgotten_before_entering_never_was_there():
    watch = ZoneWatch(Zone("z", SQUARE))
    visit(watch, [IN])
    assert watch.forget([1]) == []
    assert watch.occupancy == 0
