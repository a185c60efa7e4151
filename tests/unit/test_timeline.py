"""The timeline: events with their pictures, found again, bounded by bytes and age, whole after a kill."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.contract.event import CameraStateChanged, Event
from edge_runtime.contract.scene import Scene
from edge_runtime.sinks.timeline import Timeline, Wanted, milliseconds
from tests.unit.test_live_view import scene


def event(number: int, camera: str = "door", minute: int = 0) -> Event:
    return CameraStateChanged(
        id=f"{number:032x}",
        site="s",
        camera=camera,
        time=f"2026-01-01T00:{minute:02}:00.000Z",
        pts_ns=number,
        state="online",
        reason="r" * 500,
    )


def timeline(path: Path, *, keep_bytes: int = 10**9, keep_s: float = 1e9) -> Timeline:
    return Timeline(path / "timeline.sqlite", {}, keep_bytes=keep_bytes, keep_s=keep_s)


def happening(*events: Event) -> Scene:
    return replace(scene("door"), events=events)


def test_events_come_back_with_their_pictures(tmp_path: Path) -> None:
    one = timeline(tmp_path)
    one.show(happening(event(1)))  # the picture may be first
    one.write([event(1), event(2)])
    one.show(happening(event(2)))  # or last
    assert [moment.pictured for moment in one.find(Wanted())] == [True, True]
    one.sync()
    one.close()
    again = timeline(tmp_path)
    assert [moment.event for moment in again.find(Wanted())] == [event(2), event(1)]
    for number in (1, 2):
        jpeg = again.picture(f"{number:032x}")
        assert jpeg is not None
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape[0] == 216
    assert again.picture("0" * 32) is None


def test_a_filter_and_pages(tmp_path: Path) -> None:
    one = timeline(tmp_path)
    one.write([event(number, "door" if number % 2 else "till", number) for number in range(20)])
    door = one.find(Wanted(camera="door", limit=4))
    assert [moment.event.pts_ns for moment in door] == [19, 17, 15, 13]
    more = one.find(Wanted(camera="door", limit=4, before=door[-1].number))
    assert [moment.event.pts_ns for moment in more] == [11, 9, 7, 5]
    from_ms, to_ms = (milliseconds(f"2026-01-01T00:{at:02}:00Z") for at in (3, 6))
    assert [m.event.pts_ns for m in one.find(Wanted(from_ms=from_ms, to_ms=to_ms))] == [5, 4, 3]
    assert one.find(Wanted(kind="zone_left")) == []
    assert list(one.kinds()) == ["camera_state"]


def test_what_is_too_much_goes_the_oldest_first(tmp_path: Path) -> None:
    one = timeline(tmp_path, keep_bytes=60_000)
    for number in range(300):
        one.show(happening(event(number)))
        one.write([event(number)])
    one.sync()
    left = [moment.event.pts_ns for moment in one.find(Wanted(limit=1000))]
    assert left[0] == 299
    assert 1 <= len(left) < 100
    assert one.picture(f"{0:032x}") is None
    assert one.picture(f"{299:032x}") is not None
    one.close()
    again = timeline(tmp_path, keep_bytes=60_000)
    again.sync()
    assert [moment.event.pts_ns for moment in again.find(Wanted(limit=1000))] == left


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    one = timeline(tmp_path, keep_s=-1)
    one.show(happening(event(1)))
    one.write([event(1)])
    one.sync()
    assert one.find(Wanted()) == []
    assert one.picture(f"{1:032x}") is None


def test_an_event_that_comes_again_is_there_once_and_newest(tmp_path: Path) -> None:
    one = timeline(tmp_path)
    one.show(happening(event(1)))
    one.write([event(1), event(2)])
    one.write([event(1)])
    assert [moment.event.pts_ns for moment in one.find(Wanted())] == [1, 2]
    assert one.picture(f"{1:032x}") is not None


@pytest.mark.parametrize("word", ["' OR 1=1 --", "%", "\x00"])
def test_words_from_outside_are_only_words(word: str, tmp_path: Path) -> None:
    one = timeline(tmp_path)
    one.write([event(1)])
    assert one.find(Wanted(camera=word)) == one.find(Wanted(kind=word)) == []
