"""The tracker: who keeps an identity, who gets one, who loses it."""

from itertools import pairwise

import numpy as np
import pytest

from edge_runtime.analytics import motion
from edge_runtime.analytics.tracker import Tracker, TrackerOptions
from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.contract.result import Detections, Tracks

LABELS = ("person", "chair")
MS = 1_000_000


def found(*boxes, scores=None, classes=None):
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([0.9] * count if scores is None else scores, np.float32),
        np.array([0] * count if classes is None else classes, np.int32),
        LABELS,
    )


def person(x, y=100.0):
    """A box 40 wide and 100 high whose left edge is at x."""
    return (x, y, x + 40, y + 100)


def ids(tracks):
    return tracks.ids.tolist()


def follow(tracker, frames, step_ms=100, start_ms=0):
    return [tracker.update(frame, (start_ms + index * step_ms) * MS) for index, frame in enumerate(frames)]


def test_reports_nobody_before_enough_sightings_and_then_one_id():
    tracker = Tracker(TrackerOptions(confirm_frames=3))
    reports = follow(tracker, [found(person(100 + 5 * i)) for i in range(6)])
    assert [ids(r) for r in reports] == [[], [], [1], [1], [1], [1]]


def test_one_sighting_is_enough_where_that_is_asked():
    assert ids(Tracker(TrackerOptions(confirm_frames=1)).update(found(person(0)), 0)) == [1]


def test_an_empty_shop_has_no_tracks():
    tracker = Tracker()
    assert [len(r) for r in follow(tracker, [Detections.empty(LABELS)] * 3)] == [0, 0, 0]
    assert tracker.update(Detections.empty(LABELS), 10**9).labels == LABELS


def test_output_has_the_types_of_the_contract():
    tracks = follow(Tracker(), [found(person(0), (300, 50, 360, 200), classes=[0, 1])] * 2)[-1]
    assert isinstance(tracks, Tracks)
    assert tracks.ids.dtype == np.int64
    assert tracks.boxes.dtype == np.float32 and tracks.boxes.shape == (2, 4)
    assert tracks.scores.dtype == np.float32
    assert tracks.classes.dtype == np.int32 and sorted(tracks.classes.tolist()) == [0, 1]


def test_boxes_follow_the_detections_and_tremble_less():
    dice = np.random.default_rng(7)
    truth = np.array([person(100 + 4 * i) for i in range(100)])
    seen = truth + dice.normal(0, 3, truth.shape)
    reports = follow(Tracker(), [found(box) for box in seen])
    shown = np.array([r.boxes[0] for r in reports[20:]])
    error, raw = np.abs(shown - truth[20:]).mean(), np.abs(seen[20:] - truth[20:]).mean()
    assert error < 0.75 * raw


def test_the_filter_is_the_textbook_one():
    """Against the matrix form of Bar-Shalom et al., for the x of one object."""
    dice, dt, side = np.random.default_rng(1), 0.2, 70.0
    states = motion.first_states(np.array([[50.0], [80.0], [40.0], [100.0]]))
    mean = np.array([50.0, 0.0])
    spread = np.diag([motion.MEASURED, motion.FIRST_SPEED]) ** 2 * side**2
    step = np.array([[1.0, dt], [0.0, 1.0]])
    push = motion.ACCELERATION**2 * side**2 * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    for seen in (True, False, True, True, False, False, True):
        motion.predict(states, dt)
        mean, spread = step @ mean, step @ spread @ step.T + push
        mean[1] *= np.exp(-dt / motion.SPEED_FADES_S)
        x = 50.0 + dice.normal(0, 5)
        motion.correct(states, np.array([[x], [80.0], [40.0], [100.0]]), np.array([seen]))
        if seen:
            gain = spread[:, 0] / (spread[0, 0] + (motion.MEASURED * side) ** 2)
            mean, spread = mean + gain * (x - mean[0]), spread - np.outer(gain, spread[0])
        assert np.allclose(states[[0, 4], 0], mean)
        assert np.allclose(
            states[[motion.VAR, motion.COV, motion.SPEED_VAR], 0], spread[[0, 0, 1], [0, 1, 1]]
        )


def test_an_empty_box_does_no_harm():
    reports = follow(Tracker(), [found((50, 50, 50, 50), person(100))] * 4)
    assert [ids(r) for r in reports[1:]] == [[1]] * 3
    assert all(np.isfinite(r.boxes).all() for r in reports)


def test_two_people_who_pass_each_other_keep_their_ids():
    tracker = Tracker()
    pairs = [(person(100 + 10 * i), person(500 - 10 * i, y=130)) for i in range(40)]
    reports = follow(tracker, [found(*pair) for pair in pairs])
    left_first = reports[1].ids[np.argmin(reports[1].boxes[:, 0])]
    right_last = reports[-1].ids[np.argmax(reports[-1].boxes[:, 0])]
    assert left_first == right_last
    assert {i for r in reports for i in ids(r)} == {1, 2}


def test_a_hidden_person_comes_back_under_the_same_id_where_the_walk_leads():
    tracker = Tracker()
    walk = [found(person(100 + 8 * i)) if not 20 <= i < 28 else found() for i in range(40)]
    reports = follow(tracker, walk)
    assert ids(reports[19]) == [1]
    assert ids(reports[24]) == []
    assert ids(reports[30]) == [1]


@pytest.mark.parametrize(("away_ms", "same"), [(1900, True), (2100, False)])
def test_patience_is_time_not_frames(away_ms, same):
    for step_ms in (20, 100, away_ms):
        tracker = Tracker(TrackerOptions(max_lost_s=2.0))
        follow(tracker, [found(person(100))] * 10)
        gone = range(900 + step_ms, 900 + away_ms, step_ms)
        for at_ms in gone:
            tracker.update(found(), at_ms * MS)
        later = follow(tracker, [found(person(100))] * 3, start_ms=900 + away_ms)
        assert ids(later[-1]) == ([1] if same else [2])


def test_dropped_frames_are_longer_steps():
    kept = [i for i in range(60) if i % 7 not in (2, 3, 4, 5)]
    tracker = Tracker()
    reports = [tracker.update(found(person(100 + 8 * i)), i * 100 * MS) for i in kept]
    assert {i for r in reports for i in ids(r)} == {1}
    assert all(len(r) == 1 for r in reports[1:])


def test_a_weak_detection_continues_a_track_and_begins_none():
    tracker = Tracker()
    reports = follow(tracker, [found(person(100)), found(person(100)), found(person(100), scores=[0.15])])
    assert ids(reports[-1]) == [1]
    assert reports[-1].scores.tolist() == pytest.approx([0.15])
    fresh = follow(Tracker(), [found(person(100), scores=[0.45])] * 10)
    assert all(len(r) == 0 for r in fresh)


def test_a_detection_below_the_low_score_is_ignored():
    reports = follow(Tracker(), [found(person(100))] * 2 + [found(person(100), scores=[0.05])])
    assert ids(reports[-1]) == []


def test_a_weak_detection_does_not_bring_the_lost_back():
    frames = [found(person(100))] * 3 + [found()] * 2 + [found(person(100), scores=[0.3])]
    assert ids(follow(Tracker(), frames)[-1]) == []


def test_one_detection_is_one_object():
    both = found(person(100), person(120))
    reports = follow(Tracker(), [found(person(100))] * 3 + [both] + [found(person(100))] * 5)
    assert [ids(r) for r in reports[2:]] == [[1]] * 7
    tracker = Tracker()
    follow(tracker, [found(person(100))] * 5)
    assert tracker._facts.shape[1] == 1


def test_one_look_a_second_is_enough_to_be_believed():
    reports = follow(Tracker(), [found(person(100))] * 4, step_ms=1000)
    assert ids(reports[-1]) == [1]


def test_a_person_does_not_become_a_chair():
    frames = [found(person(100))] * 3 + [found(person(100), classes=[1])] * 3
    reports = follow(Tracker(), frames)
    assert ids(reports[2]) == [1]
    assert ids(reports[-1]) == [2]
    assert reports[-1].classes.tolist() == [1]


def test_a_flicker_is_never_confirmed():
    flicker = [found(person(100)) if i % 10 == 0 else found() for i in range(60)]
    assert all(len(r) == 0 for r in follow(Tracker(), flicker))


def test_frames_of_the_same_time_are_no_reason_to_stop():
    tracker = Tracker()
    tracker.update(found(person(100)), 5 * MS)
    assert ids(tracker.update(found(person(101)), 5 * MS)) == [1]
    assert np.isfinite(tracker.update(found(person(102)), 5 * MS).boxes).all()


def test_time_that_runs_backwards_is_refused_and_changes_nothing():
    tracker = Tracker()
    follow(tracker, [found(person(100))] * 3)
    for step in (tracker.still, lambda pts: tracker.update(found(), pts)):
        with pytest.raises(InputError, match=r"expected at least 200000000 ns, got 100000000 ns"):
            step(100 * MS)
    assert ids(tracker.update(found(person(100)), 300 * MS)) == [1]


def test_nobody_who_stands_still_is_lost_while_the_motion_gate_is_closed():
    tracker = Tracker(TrackerOptions(max_lost_s=2.0))
    assert tracker.still(0) is None
    before = follow(tracker, [found(person(100)), found(person(100)), found(person(100), person(400))])
    for at_ms in range(300, 60_000, 500):
        tracks = tracker.still(at_ms * MS)
        assert tracks is before[-1]
    assert ids(tracker.update(found(person(102)), 60_100 * MS)) == [1]


def test_standing_still_does_not_bring_the_lost_back():
    tracker = Tracker(TrackerOptions(max_lost_s=2.0))
    follow(tracker, [found(person(100))] * 3 + [found()])
    tracker.still(1000 * MS)
    tracker.still(2500 * MS)
    assert ids(tracker.update(found(person(100)), 2600 * MS)) == []


def test_old_objects_take_no_memory():
    tracker = Tracker()
    for i in range(300):
        tracker.update(found(person(1000 * (i % 7), y=500 * (i % 3))), i * 700 * MS)
    assert tracker._facts.shape[1] < 10


def test_ids_grow_and_do_not_return():
    tracker = Tracker(TrackerOptions(max_lost_s=0.5))
    seen = []
    for visit in range(5):
        reports = follow(tracker, [found(person(100))] * 3, start_ms=visit * 2000)
        seen += ids(reports[-1])
    assert seen == [1, 2, 3, 4, 5]
    assert all(a < b for a, b in pairwise(seen))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("high_score", 1.5),
        ("low_score", -0.1),
        ("match_iou", float("nan")),
        ("confirm_frames", 0),
        ("max_lost_s", 0),
        ("max_lost_s", float("inf")),
    ],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ConfigError, match=f"tracker.{option}: expected"):
        TrackerOptions(**{option: value})


def test_a_change_of_resolution_changes_nothing_but_the_unit() -> None:
    def detection(step: int, scale: tuple[float, float]) -> Detections:
        corners = np.array([[30 * step, 100, 30 * step + 40, 200]], np.float32) * np.tile(scale, 2)
        return Detections(
            corners.astype(np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32), ("person",)
        )

    same, changed = Tracker(), Tracker()
    for step in range(8):
        for tracker in (same, changed):
            tracker.update(detection(step, (1, 1)), step * 100_000_000)
    changed.rescale(2.0, 2.0)
    pairs = [(same.still(750_000_000), changed.still(750_000_000))]
    for step in range(8, 12):
        pts_ns = step * 100_000_000
        pairs.append(
            (same.update(detection(step, (1, 1)), pts_ns), changed.update(detection(step, (2, 2)), pts_ns))
        )
    for one, other in pairs:
        assert one is not None
        assert other is not None
        assert one.ids.tolist() == other.ids.tolist() == [1]
        np.testing.assert_allclose(other.boxes, one.boxes * 2, rtol=1e-5)
