"""What must hold of tracks, zones, lines and events whatever the crowd does."""

from itertools import pairwise, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_runtime.analytics.assignment import Pairs, assign
from edge_runtime.analytics.lines import Line, LineWatch, crossing
from edge_runtime.analytics.rules import RuleContext, Rules, Zone
from edge_runtime.analytics.tracker import Tracker, TrackerOptions
from edge_runtime.analytics.zones import contains, edges
from edge_runtime.contract.event import EVENTS
from edge_runtime.contract.result import Detections, Tracks

LABELS = ("person",)
STEP_NS = 100_000_000
SIDE = 1000


# --- assignment ---------------------------------------------------------------------------------------------


def best_total(gains):
    """The greatest sum over all ways to pair rows with columns or with nobody."""
    rows, columns = gains.shape
    choices = np.concatenate([np.maximum(gains, 0), np.zeros((rows, rows))], axis=1)
    return max(sum(choices[i, j] for i, j in enumerate(p)) for p in permutations(range(columns + rows), rows))


@settings(max_examples=150)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        elements=st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.7, 0.9, 1.0]),
    )
)
def test_no_assignment_is_worth_more(gains):
    rows, columns = np.nonzero(gains)
    partner = assign(Pairs(rows, columns, gains[rows, columns]), *gains.shape)
    paired = [(i, j) for i, j in enumerate(partner.tolist()) if j >= 0]
    assert len({j for _, j in paired}) == len(paired)
    assert all(gains[pair] > 0 for pair in paired)
    assert np.isclose(sum(gains[pair] for pair in paired), best_total(gains))


def test_large_assignments_cannot_be_bettered_by_a_swap():
    dice = np.random.default_rng(3)
    for _ in range(20):
        gains = dice.random((60, 50)) * (dice.random((60, 50)) < 0.1)
        rows, columns = np.nonzero(gains)
        partner = assign(Pairs(rows, columns, gains[rows, columns]), 60, 50)
        padded = np.column_stack([gains, np.zeros(60)])
        value = padded[np.arange(60), partner]
        swapped = padded[:, partner]  # [i, k]: row i with the column of row k
        assert (value[:, None] + value >= swapped + swapped.T - 1e-9).all()


# --- tracker ------------------------------------------------------------------------------------------------

corner = st.floats(0, 900, width=32)
side = st.floats(20, 200, width=32)
score = st.floats(0, 1, width=32)
detection = st.tuples(corner, corner, side, side, score)
frames = st.lists(st.lists(detection, max_size=6), min_size=2, max_size=8)


def detections(rows):
    table = np.array(rows, np.float32).reshape(-1, 5)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(boxes, table[:, 4], np.zeros(len(table), np.int32), LABELS)


@given(frames, st.lists(st.integers(0, 5 * STEP_NS), min_size=8, max_size=8))
def test_tracks_are_sound_whatever_is_detected(crowd, gaps):
    tracker, pts_ns, known = Tracker(TrackerOptions(confirm_frames=2)), 0, 0
    for rows, gap in zip(crowd, gaps, strict=False):
        pts_ns += gap
        seen = detections(rows)
        tracks = tracker.update(seen, pts_ns)
        assert len(set(tracks.ids.tolist())) == len(tracks) <= len(seen)
        fresh = [i for i in tracks.ids.tolist() if i > known]
        assert fresh == list(range(known + 1, known + 1 + len(fresh)))
        known += len(fresh)
        assert np.isfinite(tracks.boxes).all()
        assert (tracks.boxes[:, 2:] > tracks.boxes[:, :2]).all()
        assert np.isin(tracks.scores, seen.scores).all()


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_the_order_of_detections_does_not_matter(seed, people):
    dice = np.random.default_rng(seed)  # no two alike: of twins either may go on as the other
    plain, shuffled = Tracker(), Tracker()
    names: dict[int, int] = {}
    places = dice.uniform(0, 500, (people, 2))
    for step in range(5):
        places += dice.normal(0, 10, places.shape)
        rows = np.column_stack([places, dice.uniform((40, 90, 0), (50, 110, 1), (people, 3))])
        one = plain.update(detections(rows), step * STEP_NS)
        other = shuffled.update(detections(dice.permutation(rows)), step * STEP_NS)
        by_box = {tuple(b): i for i, b in zip(other.ids.tolist(), other.boxes.tolist(), strict=True)}
        assert {tuple(b) for b in one.boxes.tolist()} == set(by_box)
        for track, box in zip(one.ids.tolist(), one.boxes.tolist(), strict=True):
            assert names.setdefault(track, by_box[tuple(box)]) == by_box[tuple(box)]


@given(st.lists(st.integers(1, 4), min_size=5, max_size=20), st.integers(-8, 8))
def test_a_steady_walk_is_one_track_however_frames_drop(skips, pace):
    tracker, at, seen = Tracker(), 0, set()
    for skip in skips:
        at += skip
        x = 400 + pace * at
        box = (x, 300, 60, 150, 0.9)
        seen.update(tracker.update(detections([box]), at * STEP_NS).ids.tolist())
    assert seen == {1}


# --- zones --------------------------------------------------------------------------------------------------

STAR = np.array(
    [(0.1, 0.1), (0.5, 0.3), (0.9, 0.1), (0.7, 0.5), (0.9, 0.9), (0.5, 0.7), (0.1, 0.9), (0.3, 0.5)]
)
fraction = st.integers(0, 1000).map(lambda n: n / 1000)
points = st.lists(st.tuples(fraction, fraction), min_size=1, max_size=20).map(np.array)


def within(polygon, where):
    """Tell of each of (n, 2) points whether it is inside a (k, 2) polygon."""
    sides = edges([tuple(corner) for corner in polygon.tolist()])
    return np.array([contains(sides, tuple(point)) for point in where.tolist()])


@given(points, st.sampled_from([0.25, 0.5, 2.0, 4.0]), st.integers(-3, 3), st.integers(0, 7))
def test_inside_does_not_depend_on_scale_place_or_first_corner(where, scale, shift, turn):
    # Multiples of 1/1024 and powers of two keep the arithmetic exact, so edges may be hit.
    star, where = np.round(STAR * 1024) / 1024, np.round(where * 1024) / 1024
    inside = within(star, where)
    assert (within(star * scale + shift, where * scale + shift) == inside).all()
    assert (within(np.roll(star, turn, axis=0), where) == inside).all()


@given(points, st.integers(1, 63))
def test_two_zones_that_share_an_edge_share_no_point(where, cut):
    where, cut = np.round(where * 64) / 64, cut / 64
    left = np.array([(0, 0), (cut, 0), (1 - cut, 1), (0, 1)])
    right = np.array([(cut, 0), (1, 0), (1, 1), (1 - cut, 1)])
    where = where[(where < 1).all(axis=1)]
    assert (within(left, where) != within(right, where)).all()


# --- lines --------------------------------------------------------------------------------------------------

paths = st.lists(st.tuples(fraction, fraction), min_size=2, max_size=30).map(np.array)
THROUGH = (-10.0, 0.300371), (10.0, 0.600371)  # meets no point of thousandths


def steps(line, path):
    """Which steps of (n, 2) points cross a line, and which way."""
    return np.array([crossing(*line, tuple(a), tuple(b)) for a, b in pairwise(path.tolist())])


@given(paths)
def test_crossings_of_a_line_through_the_picture_add_up_to_the_change_of_side(path):
    net = int(steps(THROUGH, path).sum())
    below = path[:, 1] - 0.300371 > 0.3 * (path[:, 0] + 10) / 20
    assert net == int(below[-1]) - int(below[0])


@given(paths)
def test_a_line_walked_the_other_way_swaps_directions(path):
    there, back = steps(THROUGH, path), steps(THROUGH[::-1], path)
    assert (there == -back).all()


@given(paths, st.integers(1, 4))
def test_more_frames_on_the_same_path_count_the_same(path, extra):
    """Whole path, looked at `extra` times more often: without a margin the net count is that of the path."""
    line = Line("l", (0.0, 0.503), (1.0, 0.503), margin=0.0)
    path = path * (0.8, 1.0) + (0.1, 0.0)  # away from the line's ends
    fine = np.concatenate([np.linspace(a, b, extra, endpoint=False) for a, b in pairwise(path)] + [path[-1:]])
    nets = []
    for walk in (path, fine):
        watch = LineWatch(line)
        for place in walk:
            watch.update([1], place[None], np.array([100.0]), (SIDE, SIDE))
        nets.append(watch.counts["a_to_b"] - watch.counts["b_to_a"])
    assert nets[0] == nets[1]


@given(paths)
def test_directions_take_turns_on_a_line_through_the_picture(path):
    watch = LineWatch(Line("l", (0.0, 0.5), (1.0, 0.5), margin=0.1))
    path = path * (0.8, 1.0) + (0.1, 0.0)
    ways = [
        way for place in path for _, way in watch.update([1], place[None], np.array([100.0]), (SIDE, SIDE))
    ]
    assert all(a != b for a, b in pairwise(ways))


# --- rules --------------------------------------------------------------------------------------------------

people = st.dictionaries(st.integers(1, 4), st.tuples(fraction, fraction), max_size=4)
shows = st.lists(st.tuples(people, st.integers(1, 8)), min_size=1, max_size=25)
ZONES = (
    Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), dwell_s=0.5, settle_s=0.2),
    Zone("low", ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)), settle_s=0.0),
)
LINES = (Line("mid", (0.0, 0.5), (1.0, 0.5)),)


def perform(show):
    """Answer (events, occupancy claimed, rules) of each frame, and at last of the end."""
    rules = Rules(ZONES, LINES, RuleContext("s", "c", 0, "m", "1"), lost_after_s=0.5)
    pts_ns = 0
    for where, steps in show:
        pts_ns += steps * STEP_NS
        feet = np.array(list(where.values()), np.float32).reshape(-1, 2) * SIDE
        tracks = Tracks(
            np.array(list(where), np.int64),
            np.column_stack([feet[:, 0] - 20, feet[:, 1] - 100, feet[:, 0] + 20, feet[:, 1]]),
            np.full(len(where), 0.5, np.float32),
            np.zeros(len(where), np.int32),
            LABELS,
        )
        yield rules.update(tracks, height=SIDE, width=SIDE, pts_ns=pts_ns, time_ns=pts_ns), rules
    yield rules.finish(pts_ns, pts_ns), rules


@given(shows)
def test_occupancy_is_who_entered_less_who_left(show):
    inside = {zone.name: set() for zone in ZONES}
    for events, rules in perform(show):
        for event in events:
            if event.type == "zone_entered":
                assert event.subject.track not in inside[event.zone]
                inside[event.zone].add(event.subject.track)
            elif event.type == "zone_left":
                inside[event.zone].remove(event.subject.track)
            elif event.type == "zone_dwell":
                assert event.subject.track in inside[event.zone]
                assert event.dwell_s >= 0.5
        assert rules.occupancy == {name: len(who) for name, who in inside.items()}
    assert set(rules.occupancy.values()) == {0}


@given(shows)
def test_events_are_unique_repeatable_in_time_order_and_readable(show):
    first = [event for events, _ in perform(show) for event in events]
    assert first == [event for events, _ in perform(show) for event in events]
    assert len({event.id for event in first}) == len(first)
    assert [e.pts_ns for e in first] == sorted(e.pts_ns for e in first)
    assert all(EVENTS.validate_json(event.model_dump_json()) == event for event in first)


@given(shows)
def test_line_counts_are_the_line_events(show):
    names = [e.name for events, rules in perform(show) for e in events if e.type == "line_crossed"]
    *_, (_, rules) = perform(show)
    assert rules.crossings == {"mid": {"a_to_b": names.count("a_to_b"), "b_to_a": names.count("b_to_a")}}
