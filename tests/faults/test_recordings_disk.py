"""Disks that are full or read-only, and recorders that are killed: no half clip, and it is said."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.clip_take import ClipSource
from edge_runtime.sinks.clips import ClipOptions, ClipSink
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf
from edge_runtime.sinks.snapshots import SnapshotOptions, SnapshotSink
from edge_runtime.video.tape import Budget, StreamTape
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.player import Player, crossed, wait_for

KINDS = frozenset({"line_crossed"})


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", moving_square(500), options={"bf": "0"})


@contextmanager
def small_disk(place: Path, options: str) -> Generator[Path]:
    """Mount a disk in memory, which takes root and a kernel that lets it."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and a kernel that lets it")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def record(folder: Path, film: Path, blur: Blur = Blur.NOTHING, reserve: int = 0) -> SinkStatus:
    """Order one clip and see what becomes of it."""
    sink = ClipSink(
        Shelf(folder, ".mp4", Limits(10**9), reserve_bytes=reserve), ClipOptions(KINDS, 2, 2, blur=blur)
    )
    tape = StreamTape(10, Budget(10**8))
    sink.watch({"door": ClipSource(tape)})
    player = Player(tape, film, sink).play(5)
    sink.write([crossed(1, 5)])
    player.play(15)
    status = wait_for(sink.status, lambda now: now.written + now.dropped == 1)
    sink.close()
    player.close()
    return status


@pytest.mark.parametrize("blur", [Blur.NOTHING, Blur.PERSONS])
def test_a_disk_that_fills_up_costs_the_clip_and_is_said(tmp_path: Path, film: Path, blur: Blur) -> None:
    with small_disk(tmp_path / "disk", "size=8k") as disk:
        status = record(disk / "clips", film, blur)
        assert (status.written, status.dropped) == (0, 1)
        assert "No space left on device" in status.trouble
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    assert record(tmp_path / "clips", film, blur).written == 1


def test_the_reserve_is_left_free(tmp_path: Path, film: Path) -> None:
    with small_disk(tmp_path / "disk", "size=64m") as disk:
        status = record(disk / "clips", film, reserve=65 * 2**20)
        assert status.dropped == 1
        assert "expected 65 MB free on its disk, got 6" in status.trouble
        assert record(disk / "clips", film, reserve=32 * 2**20).written == 1


def test_a_read_only_disk_is_said(tmp_path: Path, film: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m,ro") as disk:
        status = record(disk / "clips", film)
        assert status.dropped == 1
        assert "Read-only file system" in status.trouble
        player_tape = StreamTape(10, Budget(10**8))
        shots = SnapshotSink(
            Shelf(disk / "shots", ".jpg", Limits(10**9), reserve_bytes=0), SnapshotOptions(KINDS), {}
        )
        shots.watch({"door"}, {})
        player = Player(player_tape, film, shots).play(1)
        shots.write([crossed(1, 1)])
        assert wait_for(shots.status, lambda now: now.dropped == 1).trouble.startswith(str(disk))
        shots.close()
        player.close()


KILLED = """
import sys, time
from pathlib import Path
from edge_runtime.sinks.clip_take import ClipSource
from edge_runtime.sinks.clips import ClipOptions, ClipSink
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf
from edge_runtime.video.tape import Budget, StreamTape
from tests.simulators.player import Player, crossed

sink = ClipSink(Shelf(Path(sys.argv[1]), ".mp4", Limits(10**9), reserve_bytes=0),
                ClipOptions(frozenset({"line_crossed"}), 2, 60, 100))
tape = StreamTape(10, Budget(10**8))
sink.watch({"door": ClipSource(tape)})
player = Player(tape, Path(sys.argv[2]), sink).play(5)
sink.write([crossed(1, 5)])
second = 5
while True:
    second += 0.5
    player.play(second)
    print(second, flush=True)
    time.sleep(0.25)
"""


def test_a_killed_recorder_leaves_nothing_that_looks_like_a_clip(tmp_path: Path, film: Path) -> None:
    folder = tmp_path / "clips"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(film)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        deadline = time.monotonic() + 60
        while process.stdout.readline():
            parts = list(folder.rglob(".*.part"))
            if parts and parts[0].stat().st_size > 4000:
                break
            assert time.monotonic() < deadline, "it writes nothing"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    (part,) = (path for path in folder.rglob("*") if path.is_file())
    assert part.name.startswith("."), "it never had a clip's name"
    with av.open(str(part), format="mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) > 25, (
            "though what is in it plays, if somebody wants it"
        )
    assert record(folder, film).written == 1
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    assert not path.name.startswith("."), "the next one cleans up"
