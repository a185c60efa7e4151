"""The frame route with real clips and real threads; only the detector is a small stand-in for the port."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.analytics.rules import Line, RuleContext, Zone
from edge_runtime.contract.event import CameraStateChanged, LineCrossed, ZoneDwell, ZoneEntered, ZoneLeft
from edge_runtime.contract.status import CameraState, DropCause
from edge_runtime.video.motion import MotionOptions
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.square_detector import SquareDetector
from tests.simulators.watcher import Watcher, plan


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.runtime.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(100))


def test_every_frame_of_two_recordings_in_order(watcher: Watcher, clip: Path) -> None:
    watcher.runtime.add(plan("left", clip))
    watcher.runtime.add(plan("right", clip))
    statuses = watcher.finish()
    for name in ("left", "right"):
        assert [scene.frame.index for scene in watcher.of(name)] == list(range(100))
        assert (statuses[name].decoded, statuses[name].inferred) == (100, 100)
        assert statuses[name].state is CameraState.ENDED
        assert statuses[name].progress == 1.0
        assert statuses[name].latency.p50_ms > 0
        assert watcher.states(name) == ["online", "ended"]


def test_square_enters_crosses_and_leaves(watcher: Watcher, clip: Path) -> None:
    zone = Zone(name="middle", polygon=((0.3, 0.0), (0.7, 0.0), (0.7, 1.0), (0.3, 1.0)))
    line = Line(name="door", start=(0.5, 0.0), end=(0.5, 1.0))
    watcher.runtime.add(plan("door", clip, zones=(zone,), lines=(line,)))
    watcher.finish()
    kinds = [type(event) for event in watcher.events]
    # 100 frames, 8 pixels each over 280: the square passes the middle twice whole, then starts a third time.
    assert kinds.count(ZoneEntered) == kinds.count(ZoneLeft) >= 2
    assert kinds.count(LineCrossed) >= 2
    assert len({event.id for event in watcher.events}) == len(watcher.events)


def test_same_recording_gives_the_same_event_ids(clip: Path) -> None:
    runs = []
    for _ in range(2):
        watcher = Watcher()
        watcher.runtime.add(plan("door", clip, lines=(Line(name="l", start=(0.5, 0.0), end=(0.5, 1.0)),)))
        watcher.finish()
        runs.append([event.id for event in watcher.events])
    assert runs[0] == runs[1]


def test_broken_camera_leaves_the_others_alone(watcher: Watcher, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    watcher.runtime.add(plan("good", clip))
    watcher.runtime.add(plan("broken", tmp_path / "empty.mp4"))
    watcher.runtime.add(plan("gone", "rtsp://127.0.0.1:1/stream"))
    watcher.wait(lambda: "ended" in watcher.states("good") and "offline" in watcher.states("gone"), "both")
    statuses = {status.name: status for status in watcher.runtime.status()}
    assert statuses["good"].inferred == 100
    assert statuses["broken"].state is CameraState.FAILED
    assert "empty file (0 bytes)" in statuses["broken"].reason
    assert statuses["gone"].state is CameraState.OFFLINE
    assert "Connection refused" in statuses["gone"].reason


def test_cameras_come_and_go(watcher: Watcher, clip: Path) -> None:
    watcher.runtime.add(plan("first", clip, loop=True))
    watcher.wait(lambda: len(watcher.of("first")) > 5, "the first camera")
    watcher.runtime.add(plan("second", clip))
    watcher.wait(lambda: "ended" in watcher.states("second"), "the second camera")
    watcher.runtime.remove("first")
    seen = len(watcher.of("first"))
    watcher.runtime.add(plan("first", clip))
    watcher.finish()
    assert [scene.frame.index for scene in watcher.of("first")[seen:]] == list(range(100))


def test_looped_recording_goes_on_in_time(watcher: Watcher, clip: Path) -> None:
    watcher.runtime.add(plan("door", clip, loop=True))
    watcher.wait(lambda: len(watcher.scenes) > 250, "two rounds and a half")
    watcher.runtime.close()
    times = [scene.frame.pts_ns for scene in watcher.scenes]
    assert all(0 < after - before <= 40_000_000 for before, after in itertools.pairwise(times))


def test_live_overload_keeps_the_newest_and_counts_the_rest(clip: Path) -> None:
    gate = threading.Event()
    watcher = Watcher(workers=1)
    watcher.runtime.add(plan("door", clip, SquareDetector(gate=gate), realtime=True))
    watcher.wait(lambda: watcher.runtime.status()[0].dropped.get(DropCause.REPLACED, 0) >= 3, "drops")
    gate.set()
    status = watcher.finish()["door"]
    indices = [scene.frame.index for scene in watcher.scenes]
    assert indices == sorted(set(indices))
    assert status.inferred + status.dropped[DropCause.REPLACED] == status.decoded == 100


def test_late_frames_are_counted_apart(clip: Path) -> None:
    gate = threading.Event()
    watcher = Watcher(workers=1)
    slow = SquareDetector(gate=gate)
    watcher.runtime.add(plan("door", clip, slow, realtime=True, fps=1.0, deadline_s=0.01))
    watcher.wait(lambda: watcher.runtime.status()[0].decoded >= 40, "a frame that waits")
    gate.set()
    assert watcher.finish()["door"].dropped[DropCause.LATE] >= 1


def test_sampler_and_motion_gate_save_inferences(watcher: Watcher, clip: Path, tmp_path: Path) -> None:
    still = write_clip(tmp_path / "still.mp4", [next(iter(moving_square(1)))] * 100)
    gate = MotionOptions(gate=True)
    watcher.runtime.add(plan("slow", clip, fps=5.0))
    watcher.runtime.add(plan("still", still, motion=gate))
    watcher.runtime.add(plan("moving", clip, motion=gate))
    statuses = watcher.finish()
    assert statuses["slow"].inferred == 20
    assert statuses["slow"].dropped == {DropCause.SAMPLED: 80}
    assert statuses["still"].inferred + statuses["still"].dropped[DropCause.STILL] == 100
    assert statuses["still"].inferred < 60
    assert statuses["moving"].inferred == 100


def test_camera_that_changes_its_resolution(watcher: Watcher, tmp_path: Path) -> None:
    small = write_clip(tmp_path / "a.ts", moving_square(40))
    large = write_clip(tmp_path / "b.ts", moving_square(40, 480, 640))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    detector = SquareDetector()
    watcher.runtime.add(plan("door", both, detector))
    status = watcher.finish()["door"]
    assert detector.shapes == {(240, 320), (480, 640)}
    assert status.state is CameraState.ENDED
    assert status.inferred >= 75


def test_failing_inference_is_said_and_survived(watcher: Watcher, clip: Path) -> None:
    watcher.runtime.add(plan("door", clip, SquareDetector(fail_at=frozenset({3, 4, 50}))))
    status = watcher.finish()["door"]
    assert status.dropped == {DropCause.CORRUPT: 3}
    assert status.inferred == 97
    indices = [scene.frame.index for scene in watcher.scenes]
    assert len(indices) == 97
    assert indices == sorted(indices)


def test_batches_only_as_large_as_the_detector_likes(clip: Path) -> None:
    gate = threading.Event()
    watcher = Watcher(workers=1)
    detector = SquareDetector(batch=4, gate=gate)
    for number in range(6):
        watcher.runtime.add(plan(f"c{number}", clip, detector))
    watcher.wait(lambda: bool(detector.sizes), "the first call")
    gate.set()
    watcher.finish()
    assert max(detector.sizes) == 4
    assert sum(detector.sizes) == 600
    for number in range(6):
        assert [scene.frame.index for scene in watcher.of(f"c{number}")] == list(range(100))


def test_close_lets_what_was_read_go_through(clip: Path) -> None:
    watcher = Watcher()
    watcher.runtime.add(plan("door", clip, loop=True))
    watcher.wait(lambda: len(watcher.scenes) > 10, "some frames")
    watcher.runtime.close()
    status = watcher.runtime.status()[0]
    assert status.inferred == len(watcher.scenes)
    assert watcher.runtime.finished()


@pytest.mark.parametrize("realtime", [False, True])
def test_every_frame_is_accounted_for_when_stopped_in_the_middle(clip: Path, realtime: bool) -> None:
    gate = threading.Event()
    watcher = Watcher(workers=1)
    slow = SquareDetector(gate=gate)
    for number in range(3):
        watcher.runtime.add(plan(f"c{number}", clip, slow, loop=True, realtime=realtime))
    watcher.wait(lambda: all(status.decoded > 1 for status in watcher.runtime.status()), "frames in flight")
    opener = threading.Timer(0.3, gate.set)  # the readers notice the end first, with a frame in the hand
    opener.start()
    watcher.runtime.close()
    opener.join()
    for status in watcher.runtime.status():
        assert status.decoded == status.inferred + sum(status.dropped.values()), status
    assert realtime or any(status.dropped.get(DropCause.STOPPED) for status in watcher.runtime.status())


def test_a_recording_that_is_cut_short_ends_with_a_reason(watcher: Watcher, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.avi", moving_square(100), codec="mpeg4")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    watcher.runtime.add(plan("whole", whole))
    watcher.runtime.add(plan("cut", cut))
    statuses = watcher.finish()
    assert (statuses["whole"].state, statuses["whole"].reason) == (CameraState.ENDED, "")
    assert statuses["cut"].state is CameraState.ENDED
    assert "it is cut short" in statuses["cut"].reason
    (ended,) = [e for e in watcher.events if isinstance(e, CameraStateChanged) and e.reason]
    assert (ended.camera, ended.state) == ("cut", "ended")


def test_dozing_decodes_key_frames_only_and_loses_nothing(tmp_path: Path) -> None:
    """20 s of nothing, then the square walks in between two key frames (one a second), then nothing again."""
    empty = np.full((240, 320, 3), 90, np.uint8)
    images = [empty] * 510 + list(moving_square(100)) + [empty] * 200
    path = write_clip(tmp_path / "night.mp4", images)
    runs = {}
    for doze_after_s in (None, 2.0):
        watcher = Watcher()
        motion = MotionOptions(gate=True, hold_s=1.0, doze_after_s=doze_after_s, look_every_s=1e6)
        watcher.runtime.add(plan("door", path, motion=motion))
        status = watcher.finish()["door"]
        assert status.decoded == len(images) == status.inferred + sum(status.dropped.values())
        runs[doze_after_s] = [(s.frame.pts_ns, len(s.tracks)) for s in watcher.scenes]
    awake, dozed = runs[None], runs[2.0]
    # Both see the square from its first frame on, at the same source times.
    first = 510 * 40_000_000
    assert [scene for scene in dozed if first <= scene[0] < first + 100 * 40_000_000] == [
        scene for scene in awake if first <= scene[0] < first + 100 * 40_000_000
    ]
    assert len([scene for scene in dozed if scene[1]]) >= 95


def test_dozing_camera_wakes_at_the_end_of_a_stream_without_key_frames(tmp_path: Path) -> None:
    empty = np.full((240, 320, 3), 90, np.uint8)
    path = write_clip(tmp_path / "night.mp4", [empty] * 300, options={"g": "1000"})
    watcher = Watcher()
    watcher.runtime.add(plan("door", path, motion=MotionOptions(gate=True, doze_after_s=1.0)))
    status = watcher.finish()["door"]
    assert status.decoded == 300 == status.inferred + sum(status.dropped.values())


def test_who_stands_still_stays_and_costs_nothing(tmp_path: Path) -> None:
    """The square comes in, stands for 20 s behind a shut gate and a dozing decoder, and leaves."""
    images = list(moving_square(20))
    path = write_clip(tmp_path / "still.mp4", [*images, *[images[-1]] * 500, *list(moving_square(40))[20:]])
    watcher = Watcher()
    everywhere = Zone(name="room", polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), dwell_s=10.0)
    motion = MotionOptions(gate=True, hold_s=1.0, doze_after_s=2.0, look_every_s=1e6)
    watcher.runtime.add(plan("door", path, motion=motion, zones=(everywhere,)))
    status = watcher.finish()["door"]
    assert status.inferred < 120
    events = [event for event in watcher.events if not isinstance(event, CameraStateChanged)]
    assert [event.type for event in events] == ["zone_entered", "zone_dwell", "zone_left"]
    dwell, left = events[1], events[2]
    assert isinstance(dwell, ZoneDwell)
    assert isinstance(left, ZoneLeft)
    assert 10.0 <= dwell.dwell_s < 12.0
    assert left.dwell_s > 20.0


@pytest.mark.parametrize("batch", [1, 4])
def test_a_detector_takes_the_place_of_another_between_two_frames(
    watcher: Watcher, clip: Path, batch: int
) -> None:
    gate, left = threading.Event(), list[str]()
    old, new = SquareDetector(batch, gate), SquareDetector(batch)
    watcher.runtime.add(plan("left", clip, old))
    watcher.runtime.add(plan("right", clip, old))
    watcher.wait(lambda: len(old.sizes) == 2, "both workers to be inside")
    context = RuleContext(site="shop", camera="left", epoch="test", model="square", model_version="2")
    plans = {
        name: replace(plan(name, clip, new), context=replace(context, camera=name))
        for name in ("left", "right")
    }
    watcher.runtime.swap(old, {**plans, "unknown": plans["left"]}, lambda: left.append("left"))
    assert left == [], "frames are in it"
    gate.set()
    watcher.finish()
    assert left == ["left"]
    assert len(old.sizes) == 2
    assert sum(old.sizes) + sum(new.sizes) == 200, "not one frame was lost or looked at twice"
    for name in ("left", "right"):
        assert [scene.frame.index for scene in watcher.of(name)] == list(range(100))
    watcher.runtime.swap(new, plans, lambda: left.append("again"))
    assert left == ["left", "again"], "nobody was in it"


def test_frames_are_shown_to_who_asks(watcher: Watcher, clip: Path) -> None:
    shown: list[int] = []
    watcher.runtime.tap(lambda frame: shown.append(frame.index))
    watcher.runtime.add(plan("left", clip))
    watcher.finish()
    assert shown == list(range(100))
