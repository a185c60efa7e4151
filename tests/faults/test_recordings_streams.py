"""Streams that fail while a clip of them is being made, over real sockets."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import pytest

from edge_runtime.sinks.clip_take import ClipSource
from edge_runtime.sinks.clips import ClipOptions, ClipSink
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf
from edge_runtime.video.main_stream import MainStream
from edge_runtime.video.source import SourceSpec
from edge_runtime.video.tape import Budget, StreamTape
from tests.faults.test_http_mjpeg import mjpeg_camera
from tests.simulators import rtsp
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.player import crossed, wait_for
from tests.simulators.watcher import Watcher, plan

MISSING = rtsp.available()
needs_rtsp = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
pytestmark = pytest.mark.rtsp


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"profile": "baseline", "bf": "0"}
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", moving_square(1500), options=options)


class Door:
    """One camera, its tape, and a sink of clips; no agent."""

    def __init__(self, folder: Path, url: str, *, own_reader: bool = False) -> None:
        self.folder = folder
        shelf = Shelf(folder, ".mp4", Limits(10**9), reserve_bytes=0)
        self.sink = ClipSink(shelf, ClipOptions(frozenset({"line_crossed"}), 1.0, 3.0))
        self.tape = StreamTape(10, Budget(10**8), own_reader=own_reader)
        self.sink.watch({"door": ClipSource(self.tape)})
        self.watcher = Watcher()
        self.watcher.runtime.add(plan("door", url, tape=self.tape))

    def now_s(self) -> float:
        return self.watcher.scenes[-1].frame.pts_ns / 1e9 if self.watcher.scenes else 0.0

    def play(self, until_s: float) -> None:
        self.watcher.wait(lambda: self.now_s() >= until_s, f"{until_s} s")

    def order(self, number: int) -> float:
        at_s = self.now_s()
        self.sink.write([crossed(number, at_s)])
        return at_s

    def clip(self) -> list[float]:
        """Wait for the clip, decode all of it; give the times of its pictures."""
        status = wait_for(self.sink.status, lambda now: now.written + now.dropped >= 1)
        assert status.trouble == ""
        (path,) = self.folder.rglob("*.mp4")
        with av.open(str(path)) as container:
            return [float(frame.time or 0) for frame in container.decode(video=0) if not frame.is_corrupt]

    def close(self) -> None:
        self.watcher.runtime.close()
        self.sink.close()


@pytest.fixture
def doors() -> Iterator[list[Door]]:
    made: list[Door] = []
    yield made
    for door in made:
        door.close()


@needs_rtsp
def test_a_camera_that_comes_back_while_its_clip_goes_on(
    doors: list[Door], tmp_path: Path, film: Path
) -> None:
    with rtsp.RtspServer(film) as server:
        door = Door(tmp_path, server.url)
        doors.append(door)
        door.play(2.0)
        door.order(1)
        door.play(3.0)
        server.kill()
        server.start()
        door.watcher.wait(lambda: door.watcher.states("door")[-2:] == ["offline", "online"], "it to be back")
        times = door.clip()
    assert times == sorted(set(times))
    assert 3.0 <= times[-1] - times[0] <= 5.5
    assert max(after - before for before, after in pairwise(times)) > 0.2, "it was away"


@needs_rtsp
def test_a_camera_that_stays_away_ends_its_clip(doors: list[Door], tmp_path: Path, film: Path) -> None:
    with rtsp.RtspServer(film) as server:
        door = Door(tmp_path, server.url)
        doors.append(door)
        door.play(2.0)
        door.order(1)
        door.play(3.0)
        server.kill()
        times = door.clip()
    assert 1.0 <= times[-1] - times[0] <= 4.0


@needs_rtsp
def test_a_main_stream_that_comes_back_is_recorded_again(
    doors: list[Door], tmp_path: Path, film: Path
) -> None:
    with rtsp.RtspServer(film) as server, rtsp.RtspServer(film) as large:
        door = Door(tmp_path, server.url, own_reader=True)
        doors.append(door)
        main = MainStream(SourceSpec("door", large.url), door.tape)
        door.play(2.0)
        large.kill()
        door.watcher.wait(lambda: "main stream" in door.tape.trouble, "the loss to be said")
        assert "main stream" in door.sink.status().trouble
        large.start()
        door.watcher.wait(lambda: door.tape.trouble == "", "it to be back")
        assert door.watcher.states("door") == ["online"], "the camera itself noticed nothing"
        door.play(door.now_s() + 2.0)
        door.order(1)
        times = door.clip()
        main.close()
    assert 3.0 <= times[-1] - times[0] <= 8.0


def test_a_stream_without_times(doors: list[Door], tmp_path: Path) -> None:
    with mjpeg_camera() as url:
        door = Door(tmp_path, url)
        doors.append(door)
        door.play(3.0)
        door.order(1)
        times = door.clip()
    assert times[-1] - times[0] == pytest.approx(4.0, abs=0.7), "a second before and three after"
    assert times == sorted(set(times))
