"""Shoppers: events and scenes of people who come in, stand somewhere, wait and leave."""

from datetime import UTC, datetime

import numpy as np

from edge_runtime.contract.event import LineCrossed, Subject, ZoneEntered, ZoneLeft, event_id
from edge_runtime.contract.frame import Frame, Picture
from edge_runtime.contract.result import Tracks
from edge_runtime.contract.scene import Scene

LABELS = ("person",)


def crossed(
    at_s: float, word: str, *, track: int = 1, camera: str = "door", line: str = "front"
) -> LineCrossed:
    """Somebody crosses a line."""
    return LineCrossed(
        **_seen("line_crossed", camera, line, track, at_s),
        line=line,
        direction="a_to_b" if word == "in" else "b_to_a",
        name=word,
    )


def entered(at_s: float, *, track: int = 1, camera: str = "till", zone: str = "line") -> ZoneEntered:
    """Somebody comes into a zone."""
    return ZoneEntered(**_seen("zone_entered", camera, zone, track, at_s), zone=zone, occupancy=1)


def left(
    at_s: float, lasted_s: float, *, track: int = 1, camera: str = "till", zone: str = "line"
) -> ZoneLeft:
    """Somebody leaves a zone after a stay."""
    seen = _seen("zone_left", camera, zone, track, at_s)
    return ZoneLeft(**seen, zone=zone, occupancy=0, dwell_s=lasted_s)


def scene(camera: str, at_s: float, places: list[tuple[float, float]], *, began_s: float) -> Scene:
    """A picture of 160 × 90 with people whose feet are at these fractions of it."""
    boxes = np.array([(x * 160 - 2, y * 90 - 20, x * 160 + 2, y * 90) for x, y in places], np.float32)
    count = len(places)
    tracks = Tracks(
        np.arange(1, count + 1, dtype=np.int64),
        boxes.reshape(-1, 4),
        np.full(count, 0.9, np.float32),
        np.zeros(count, np.int32),
        LABELS,
    )
    picture = Picture.from_bgr(np.zeros((90, 160, 3), np.uint8))
    frame = Frame(camera, 0, round((at_s - began_s) * 1e9), round(at_s * 1e9), 0, picture)
    return Scene(frame, tracks, {}, {})


def _seen(kind: str, camera: str, place: str, track: int, at_s: float):
    moment = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": event_id("test", camera, "now", kind, place, track, round(at_s * 1000)),
        "site": "test",
        "camera": camera,
        "time": moment,
        "pts_ns": 0,
        "model": "people",
        "model_version": "1.0.0",
        "subject": Subject(track=track, label="person", confidence=0.9, box=(0.1, 0.1, 0.2, 0.2)),
    }
