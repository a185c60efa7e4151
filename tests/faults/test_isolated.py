"""Cameras with a process of their own that is killed, segfaults or hangs; only that camera notices."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge_runtime.contract.errors import CameraError, InputError
from edge_runtime.contract.frame import PixelFormat
from edge_runtime.contract.status import CameraState
from edge_runtime.video.clock import StreamClock
from edge_runtime.video.isolated import IsolatedSource
from edge_runtime.video.motion import MotionOptions
from edge_runtime.video.shared_frames import SLOTS, SharedFrames
from edge_runtime.video.source import SourceSpec, VideoSource
from edge_runtime.video.tape import Budget, StreamTape
from tests.simulators.broker import wait_until
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.watcher import Watcher, plan

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory is handed over as file descriptors")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(100))


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.runtime.close()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "isolated_child" in " ".join(child.cmdline())]


@pytest.mark.parametrize("motion", [MotionOptions(), MotionOptions(gate=True, doze_after_s=0.5)])
def test_the_same_frames_as_without(watcher: Watcher, clip: Path, motion: MotionOptions) -> None:
    watcher.runtime.add(plan("own", clip, isolate=True, motion=motion))
    watcher.runtime.add(plan("shared", clip, motion=motion))
    statuses = watcher.finish()
    assert statuses["own"].decoded == statuses["shared"].decoded == 100
    assert statuses["own"].dropped == statuses["shared"].dropped
    assert statuses["own"].decoder == statuses["shared"].decoder
    own, shared = watcher.of("own"), watcher.of("shared")
    assert [scene.frame.pts_ns for scene in own] == [scene.frame.pts_ns for scene in shared]
    assert all(
        np.array_equal(one, other)
        for a, b in zip(own, shared, strict=True)
        for one, other in zip(a.frame.picture.planes, b.frame.picture.planes, strict=True)
    )
    assert watcher.states("own") == ["online", "ended"]
    assert not children()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_decoder_that_dies_costs_its_camera_only(
    watcher: Watcher, clip: Path, number: signal.Signals
) -> None:
    watcher.runtime.add(plan("door", clip, realtime=True, loop=True, isolate=True))
    watcher.runtime.add(plan("yard", clip, realtime=True, loop=True))
    watcher.wait(lambda: len(watcher.of("door")) > 5 and len(watcher.of("yard")) > 5, "both")
    (child,) = children()
    os.kill(child.pid, number)
    watcher.wait(lambda: "offline" in watcher.states("door"), "its death to be noticed")
    before = len(watcher.of("door"))
    watcher.wait(lambda: len(watcher.of("door")) > before + 5, "the camera to be back")
    assert watcher.states("door") == ["online", "offline", "online"]
    assert watcher.states("yard") == ["online"]
    pts = [scene.frame.pts_ns for scene in watcher.of("door")]
    assert pts == sorted(set(pts))
    reasons = [event.reason for event in watcher.events if getattr(event, "state", "") == "offline"]
    assert f"got it ended by {number.name}" in reasons[0]


def test_a_recording_whose_decoder_dies_is_not_begun_again(watcher: Watcher, clip: Path) -> None:
    watcher.runtime.add(plan("door", clip, realtime=True, isolate=True))
    watcher.wait(lambda: len(watcher.of("door")) > 5, "frames")
    (child,) = children()
    os.kill(child.pid, signal.SIGKILL)
    assert watcher.finish()["door"].state is CameraState.FAILED
    assert watcher.states("door") == ["online", "failed"]


def test_how_a_process_died_is_said(clip: Path) -> None:
    source = IsolatedSource(SourceSpec("door", str(clip)))
    frames = source.frames()
    next(frames)
    os.kill(source.pid, signal.SIGKILL)
    with pytest.raises(CameraError, match="it ended by SIGKILL"):
        list(frames)
    source.close()


def test_a_decoder_that_hangs_is_killed(clip: Path) -> None:
    source = IsolatedSource(SourceSpec("door", str(clip), timeout_s=0.5), patience_s=5.0)
    frames = source.frames()
    next(frames)
    os.kill(source.pid, signal.SIGSTOP)
    with pytest.raises(CameraError, match="no word from it in time"):
        list(frames)
    pid = source.pid
    source.close()
    assert not psutil.pid_exists(pid)


def test_errors_of_the_source_arrive_whole(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    for url in (
        "rtsp://user:secret@127.0.0.1:1/stream",
        str(tmp_path / "empty.mp4"),
        str(tmp_path / "none.mp4"),
    ):
        spec = SourceSpec("door", str(url))
        said = []
        for kind in (VideoSource, IsolatedSource):
            with pytest.raises((CameraError, InputError)) as caught:
                kind(spec)
            said.append((caught.type, str(caught.value)))
        assert said[0] == said[1]
        assert "secret" not in said[1][1]
    assert not children()


PARENT = """
import sys, time
from edge_runtime.contract.status import CameraState
from edge_runtime.video.clock import StreamClock
from edge_runtime.video.isolated import IsolatedSource
from edge_runtime.video.source import SourceSpec
source = IsolatedSource(SourceSpec("door", sys.argv[1]))
print(source.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
def test_the_process_dies_with_its_agent(clip: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(clip)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_signals_for_the_agent_do_not_end_it(clip: Path) -> None:
    source = IsolatedSource(SourceSpec("door", str(clip)))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(source.pid, number)
    assert sum(1 for _ in source.frames()) == 100
    source.close()


def write(descriptor: int, offset: int, value: int, count: int) -> None:
    os.pwrite(descriptor, bytes([value]) * count, offset)


def test_views_keep_their_slot_and_the_last_slot_is_never_given_away() -> None:
    frames = SharedFrames()
    size = 4 * 4 * 3
    descriptor = frames.grow(size)
    held = []
    for value in range(3 * SLOTS):
        write(descriptor, frames.next_slot(), value, size)
        held.append(frames.take(PixelFormat.BGR, 4, 4))
    assert [int(picture.luma[0, 0]) for picture in held] == list(range(3 * SLOTS))
    luma = held[0].luma
    held.clear()
    gc.collect()
    for value in range(100, 100 + 3 * SLOTS):
        write(descriptor, frames.next_slot(), value, size)
        assert int(frames.take(PixelFormat.BGR, 4, 4).luma[3, 3]) == value
    assert int(luma[0, 0]) == 0, "a view of a view keeps it, too"
    os.close(descriptor)


def test_another_size_takes_other_memory_and_leaves_views_alone() -> None:
    frames = SharedFrames()
    first = frames.grow(48)
    write(first, 0, 7, 48)
    old = frames.take(PixelFormat.BGR, 4, 4)
    second = frames.grow(192)
    write(second, 0, 9, 192)
    assert int(frames.take(PixelFormat.BGR, 8, 8).luma[0, 0]) == 9
    assert int(old.luma[0, 0]) == 7
    with pytest.raises(ValueError, match="in a slot of 192 bytes"):
        frames.take(PixelFormat.BGR, 9, 8)
    for descriptor in (first, second):
        os.close(descriptor)


def test_the_pictures_cannot_be_written_by_the_reading_side() -> None:
    frames = SharedFrames()
    os.close(frames.grow(48))
    picture = frames.take(PixelFormat.BGR, 4, 4)
    assert not picture.planes[0].flags.writeable


def kept(clip: Path, *, isolate: bool) -> list[tuple[int, int, bool, bytes]]:
    """Record a clip's packets and give what the tape has of them."""
    tape = StreamTape(60.0, Budget(2**24))
    opener = IsolatedSource if isolate else VideoSource
    source = opener(SourceSpec("door", str(clip)), tape)
    stamps = StreamClock(live=False, period_ns=source.period_ns)
    for step in source.frames():
        stamp = stamps.stamp(step.source_ns, arrived_ns=0, wall_ns=0)
        tape.stamped(step.source_ns or 0, stamp)
    source.close()
    feed = tape.follow(0)
    assert feed is not None
    return [(piece.at_ns, piece.packet.dts_ns, piece.packet.key, piece.packet.data) for piece in feed.pull()]


def test_packets_for_clips_come_through(clip: Path) -> None:
    assert kept(clip, isolate=True) == kept(clip, isolate=False)
