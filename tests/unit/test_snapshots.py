"""Snapshots: the picture of the moment of an event, with nobody in it whom nobody may see."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.contract.frame import Frame, Picture
from edge_runtime.sinks.drawing import Overlay
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf
from edge_runtime.sinks.snapshots import SnapshotOptions, SnapshotSink
from tests.simulators.clips import moving_square
from tests.simulators.player import crossed, hidden, scene, wait_for

NOBODY = np.empty((0, 4), np.float32)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SnapshotSink]:
    shelf = Shelf(tmp_path, ".jpg", Limits(10**9), reserve_bytes=0)
    sink = SnapshotSink(shelf, SnapshotOptions(frozenset({"line_crossed"}), drawn=False), {})
    sink.watch({"door"}, {})
    yield sink
    sink.close()


def frames(count: int) -> list[Frame]:
    images = moving_square(count)
    return [
        Frame("door", number, number * 40_000_000, 0, 0, Picture.from_bgr(image))
        for number, image in enumerate(images)
    ]


def shot(folder: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    (path,) = folder.rglob("*.jpg")
    image = cv2.imread(str(path))
    assert image is not None
    return image.astype(np.uint8)


@pytest.mark.parametrize("first", ["the event", "its picture"])
def test_an_event_gets_the_picture_that_caused_it(sink: SnapshotSink, tmp_path: Path, first: str) -> None:
    event, pictures = crossed(1, 0.12), frames(8)
    for frame in pictures[:3]:
        sink.show(scene(frame, NOBODY))
    if first == "the event":
        sink.write([event])
    sink.show(scene(pictures[3], NOBODY, event))
    for frame in pictures[4:]:
        sink.show(scene(frame, NOBODY))
    if first == "its picture":
        sink.write([event])
    wait_for(sink.status, lambda now: now.written == 1)
    image = shot(tmp_path)
    assert image.shape == (240, 320, 3), "no larger than the camera's"
    assert np.abs(image.astype(int) - pictures[3].picture.planes[0]).mean() < 2
    assert sink.find(event.id, "door", event.time) is not None


def test_an_event_without_a_picture_of_its_own_gets_the_last_one(sink: SnapshotSink, tmp_path: Path) -> None:
    last = frames(4)[-1]
    sink.show(scene(last, NOBODY))
    sink.write([crossed(1, 7)])
    wait_for(sink.status, lambda now: now.written == 1)
    assert np.abs(shot(tmp_path).astype(int) - last.picture.planes[0]).mean() < 2


def test_what_is_hidden_is_hidden(sink: SnapshotSink, tmp_path: Path) -> None:
    frame, event = frames(1)[0], crossed(1, 0)
    sink.show(scene(frame, hidden(frame) + np.array([0, -20, 20, 20], np.float32), event))
    sink.write([event])
    wait_for(sink.status, lambda now: now.written == 1)
    edges = np.abs(np.diff(frame.picture.luma.astype(int), axis=0)) > 60
    seen = np.abs(np.diff(shot(tmp_path)[:, :, 1].astype(int), axis=0))[edges]
    assert seen.mean() < 60


def test_an_event_of_a_camera_that_never_showed_anything_is_counted(sink: SnapshotSink) -> None:
    sink.write([crossed(1, 0)])
    status = wait_for(sink.status, lambda now: now.dropped == 1)
    assert "has no picture" in status.trouble


def test_more_events_than_can_be_written_of_are_counted(sink: SnapshotSink) -> None:
    sink.write([crossed(number, 0) for number in range(40)])
    assert sink.status().waiting + sink.status().dropped == 40
    assert sink.status().waiting <= 16


def test_other_events_and_cameras_get_none(sink: SnapshotSink) -> None:
    sink.write([crossed(1, 0, camera="yard")])
    assert (sink.status().waiting, sink.status().dropped) == (0, 0)


def test_a_snapshot_is_drawn_into(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".jpg", Limits(10**9), reserve_bytes=0)
    overlays = {"door": Overlay(lines={"door": ((0.1, 0.9), (0.9, 0.9))})}
    sink = SnapshotSink(shelf, SnapshotOptions(frozenset({"line_crossed"})), overlays)
    sink.watch({"door"}, overlays)
    frame, event = frames(1)[0], crossed(1, 0)
    sink.show(scene(frame, NOBODY, event))
    sink.write([event])
    sink.close()
    strip = shot(tmp_path)[210:222]
    assert np.ptp(strip.astype(int), axis=2).max() > 80, "the line has a colour, and the picture has none"
