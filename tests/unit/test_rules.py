"""Rules: tracks in, events out."""

import json

import numpy as np
import pytest

from edge_runtime.analytics.rules import Line, RuleContext, Rules, Zone, anchors, check_labels, check_layout
from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.contract.event import EVENTS, LineCrossed, ZoneEntered, ZoneLeft, event_id
from edge_runtime.contract.result import Tracks

LABELS = ("person", "chair")
CONTEXT = RuleContext("store-042", "entrance", 7, "efficientdet-lite0", "1.0.0")
AISLE = Zone("aisle", ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)), dwell_s=1.0, settle_s=0.2)
DOOR = Line("door", (0.0, 0.5), (1.0, 0.5), a_to_b="in", b_to_a="out")
NOON_NS = 1_767_268_800_123_456_789  # 2026-01-01T12:00:00.123 UTC


def tracks(*people, labels=LABELS):
    """Each of people: (id, x, foot y) in a picture 1000 × 1000, and a class."""
    feet = np.array([p[1:3] for p in people], np.float32).reshape(-1, 2)
    return Tracks(
        np.array([p[0] for p in people], np.int64),
        np.column_stack([feet[:, 0] - 20, feet[:, 1] - 100, feet[:, 0] + 20, feet[:, 1]]),
        np.full(len(people), 0.75, np.float32),
        np.array([p[3] if len(p) > 3 else 0 for p in people], np.int32),
        labels,
    )


def play(rules, frames, step_ms=100, size=1000):
    events = []
    for step, frame in enumerate(frames):
        pts_ns = step * step_ms * 1_000_000
        events += rules.update(frame, height=size, width=size, pts_ns=pts_ns, time_ns=NOON_NS + pts_ns)
    return events


def kinds(events):
    return [event.type for event in events]


def test_a_walk_through_the_door_and_back():
    rules = Rules([AISLE], [DOOR], CONTEXT)
    heights = [300, 400, 550, 600, 650, 700, 650, 600, 550, 400, 300, 300]
    events = play(rules, [tracks((5, 500, y)) for y in heights])
    assert kinds(events) == ["line_crossed", "zone_entered", "line_crossed", "zone_left"]
    assert [e.pts_ns // 1_000_000 for e in events] == [200, 400, 900, 1100]
    assert [e.name for e in events if isinstance(e, LineCrossed)] == ["in", "out"]
    assert rules.crossings == {"door": {"in": 1, "out": 1}}
    assert rules.occupancy == {"aisle": 0}


def test_an_event_says_all_the_contract_asks():
    (event,) = play(Rules([AISLE], [], CONTEXT), [tracks((5, 500, 800))] * 3)
    assert json.loads(event.model_dump_json()) == {
        "v": 1,
        "id": event_id("store-042", "entrance", 7, "zone_entered", "aisle", 5, 200_000_000),
        "site": "store-042",
        "camera": "entrance",
        "time": "2026-01-01T12:00:00.323Z",
        "pts_ns": 200_000_000,
        "model": "efficientdet-lite0",
        "model_version": "1.0.0",
        "subject": {
            "track": 5,
            "label": "person",
            "confidence": 0.75,
            "box": [0.48, 0.7, 0.52, 0.8],
        },
        "type": "zone_entered",
        "zone": "aisle",
        "occupancy": 1,
    }
    assert EVENTS.validate_json(event.model_dump_json()) == event


def test_a_box_beyond_the_picture_is_clipped_and_its_feet_are_in_the_zone():
    (event,) = play(Rules([AISLE], [], CONTEXT), [tracks((1, 5, 1010))] * 3)
    assert event.subject.box == (0.0, 0.91, 0.025, 1.0)


def test_dwelling_is_reported_once_with_its_time():
    events = play(Rules([AISLE], [], CONTEXT), [tracks((1, 500, 800))] * 20)
    assert kinds(events) == ["zone_entered", "zone_dwell"]
    assert events[1].dwell_s == 1.0
    assert events[1].occupancy == 1


def test_who_vanishes_has_left_when_patience_ends():
    rules = Rules([AISLE], [], CONTEXT, lost_after_s=0.5)
    events = play(rules, [tracks((1, 500, 800))] * 4 + [tracks()] * 5)
    assert kinds(events) == ["zone_entered"]
    assert rules.occupancy == {"aisle": 1}
    (left,) = rules.update(tracks(), height=1000, width=1000, pts_ns=900_000_000, time_ns=NOON_NS)
    assert isinstance(left, ZoneLeft)
    assert (left.dwell_s, left.occupancy, left.subject.track) == (0.3, 0, 1)
    assert left.subject.box == (0.48, 0.7, 0.52, 0.8)


def test_the_end_of_the_stream_ends_all_stays():
    rules = Rules([AISLE], [], CONTEXT)
    play(rules, [tracks((1, 300, 800), (2, 600, 800), (3, 600, 200))] * 4)
    events = rules.finish(400_000_000, NOON_NS)
    assert [(e.type, e.subject.track, e.occupancy) for e in events] == [
        ("zone_left", 1, 1),
        ("zone_left", 2, 0),
    ]
    assert rules.finish(500_000_000, NOON_NS) == ()


def test_a_zone_counts_only_its_labels():
    people_only = Zone("aisle", AISLE.polygon, labels=("person",), settle_s=0.0)
    events = play(Rules([people_only], [], CONTEXT), [tracks((1, 300, 800, 1), (2, 600, 800, 0))])
    assert [(e.subject.track, e.subject.label) for e in events] == [(2, "person")]


def test_a_line_counts_only_its_labels():
    line = Line("door", DOOR.start, DOOR.end, labels=("chair",))
    walk = [tracks((1, 300, y, 0), (2, 600, y, 1)) for y in (300, 700)]
    assert [e.subject.track for e in play(Rules([], [line], CONTEXT), walk)] == [2]


def test_a_change_of_resolution_is_no_event():
    rules = Rules([AISLE], [DOOR], CONTEXT)
    play(rules, [tracks((1, 500, 300))] * 3)
    half = tracks((1, 250, 150))
    assert rules.update(half, height=500, width=500, pts_ns=300_000_000, time_ns=NOON_NS) == ()


def test_the_same_tracks_make_the_same_events():
    walk = [tracks((5, 500, y)) for y in (300, 400, 550, 600, 650)]
    first, second = (play(Rules([AISLE], [DOOR], CONTEXT), walk) for _ in range(2))
    assert first == second
    other = RuleContext("store-042", "entrance", 8, "efficientdet-lite0", "1.0.0")
    restarted = play(Rules([AISLE], [DOOR], other), walk)
    assert not {e.id for e in first} & {e.id for e in restarted}


def test_the_gone_take_no_memory():
    rules = Rules([AISLE], [DOOR], CONTEXT, lost_after_s=0.5)
    play(rules, [tracks((step, 500, 800)) for step in range(1, 200)])
    assert len(rules._sights) < 8
    assert all(len(watch._before) < 8 for _, watch in rules._lines)
    assert all(len(watch._stays) < 8 for _, watch in rules._zones)


def test_time_that_runs_backwards_is_refused():
    rules = Rules([], [], CONTEXT)
    play(rules, [tracks()] * 3)
    with pytest.raises(InputError, match="source time runs backwards"):
        rules.update(tracks(), height=10, width=10, pts_ns=0, time_ns=0)


def test_no_rules_no_events():
    assert play(Rules([], [], CONTEXT), [tracks((1, 500, 800))] * 5) == []


@pytest.mark.parametrize(("anchor", "y"), [("bottom_center", 0.4), ("center", 0.3)])
def test_anchors(anchor, y):
    points = anchors(np.array([[100, 200, 300, 400]], np.float32), anchor, height=1000, width=2000)
    assert points == [(pytest.approx(0.1), pytest.approx(y))]


@pytest.mark.parametrize(
    ("zones", "lines", "message"),
    [
        ([AISLE, AISLE], [], "zone 'aisle': expected a name of its own, got 2 of that name"),
        ([], [DOOR, DOOR], "line 'door': expected a name of its own"),
        ([], [DOOR, Line("gate", DOOR.end, DOOR.start)], "line 'gate': has the ends of line 'door'"),
    ],
)
def test_layouts_nobody_can_tell_apart_are_refused(zones, lines, message):
    for refuse in (check_layout, lambda *layout: Rules(*layout, CONTEXT)):
        with pytest.raises(ConfigError) as caught:
            refuse(zones, lines)
        assert message in str(caught.value)


def test_labels_the_model_does_not_know_are_refused():
    zone = Zone("aisle", AISLE.polygon, labels=("person", "persn"))
    check_labels([AISLE], [DOOR], LABELS)
    with pytest.raises(ConfigError, match=r"zone 'aisle': labels.*'persn'.*Did you mean 'person'\?"):
        check_labels([zone], [], LABELS)
    line = Line("door", DOOR.start, DOOR.end, labels=("zebra",))
    with pytest.raises(ConfigError, match="line 'door': labels"):
        check_labels([], [line], LABELS)


def test_entering_is_an_event_type_of_its_own():
    (event,) = play(Rules([AISLE], [], CONTEXT), [tracks((5, 500, 800))] * 3)
    assert isinstance(event, ZoneEntered)
