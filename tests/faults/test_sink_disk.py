"""Disks that fill up, refuse or lie, and processes that are killed: nothing acknowledged is lost."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import CameraStateChanged
from edge_runtime.sinks.jsonl import JsonlSink
from edge_runtime.sinks.spool import Spool

PRELUDE = """
import resource, sys
from pathlib import Path
from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import CameraStateChanged
from edge_runtime.sinks.hub import EventHub
from edge_runtime.sinks.jsonl import JsonlSink
from edge_runtime.sinks.spool import Spool

def event(n):
    return CameraStateChanged(id=f"{n:032x}", site="s", camera="c", time="2026-01-01T00:00:00.000Z",
                              pts_ns=n, state="online")

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
"""


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def event(number: int) -> CameraStateChanged:
    return CameraStateChanged(
        id=f"{number:032x}",
        site="s",
        camera="c",
        time="2026-01-01T00:00:00.000Z",
        pts_ns=number,
        state="online",
    )


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """Mount a disk in memory, which takes root and a kernel that lets it."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and a kernel that lets it")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_mid_batch_tears_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    done = python(
        """
        sink = JsonlSink(Path(sys.argv[1]))
        sink.write([event(0)])
        room(1000)
        for _ in range(3):
            try:
                sink.write([event(n) for n in range(1, 50)])
            except StorageError as error:
                print(error)
        room(resource.RLIM_INFINITY)
        sink.write([event(n) for n in range(1, 50)])
        sink.close()
        """,
        str(path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("File too large") == 3
    assert "Free the disk" in done.stdout
    assert [json.loads(line)["pts_ns"] for line in path.read_text().splitlines()] == list(range(50))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_no_space_left_is_said() -> None:
    sink = JsonlSink(Path("/dev/full"))
    with pytest.raises(StorageError, match="No space left on device"):
        sink.write([event(0)])


@pytest.fixture
def shut_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to: by its mode, or for root, whom no mode stops, a read-only disk."""
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        tmp_path.chmod(0o500)
        yield tmp_path
        tmp_path.chmod(0o700)
        return
    with small_disk(tmp_path / "disk", "size=1m,ro") as disk:
        yield disk


def test_a_folder_without_permission_is_said(shut_folder: Path) -> None:
    with pytest.raises(StorageError, match=r"Permission denied|Read-only file system"):
        JsonlSink(shut_folder / "events.jsonl").write([event(0)])
    with pytest.raises(StorageError, match="cannot keep events"):
        Spool(shut_folder / "spool.sqlite", max_bytes=100).append([("t", b"1")])


FILM = """
import numpy as np
from edge_runtime.contract.frame import Frame, Picture
from edge_runtime.contract.result import Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.sinks.annotated_video import AnnotatedVideo

nobody = Tracks(np.empty(0, np.int64), np.empty((0, 4), np.float32), np.empty(0, np.float32),
                np.empty(0, np.int32), ("person",))
picture = Picture.from_bgr(np.random.default_rng(1).integers(0, 255, (96, 160, 3), np.uint8))

def film(folder):
    video = AnnotatedVideo(Path(folder), {}, height=96)
    for index in range(200):
        try:
            video.show(Scene(Frame("door", index, index * 40_000_000, 0, 0, picture), nobody, {}, {}))
        except StorageError as error:
            print(error)
            break
    video.close()
    print(video.status().trouble)
"""


@pytest.mark.parametrize("kept", [0, 200, 600, 20_000])
def test_a_full_disk_ends_a_video_with_a_message_and_nothing_else(tmp_path: Path, kept: int) -> None:
    """The header, its end, or a later fragment finds no room; FFmpeg crashed on the first of these."""
    done = python(f"{FILM}\nroom({kept})\nfilm(sys.argv[1])", str(tmp_path))
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "door.mp4: cannot write the video" in done.stdout
    assert "Free the disk" in done.stdout


@pytest.mark.parametrize("left_bytes", [0, 4096])
def test_a_video_on_a_disk_without_room(tmp_path: Path, left_bytes: int) -> None:
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        (disk / "filler").write_bytes(bytes(64 * 1024 - left_bytes - 4096 * (left_bytes > 0)))
        done = python(f"{FILM}\nfilm(sys.argv[1])", str(disk))
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "door.mp4: cannot write the video" in done.stdout


def test_kill_9_loses_no_acknowledged_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = """
    sink = JsonlSink(Path(sys.argv[1]))
    n = 0
    while True:
        sink.write([event(m) for m in range(n, n + 7)])
        n += 7
        print(n, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    acknowledged = 0
    while acknowledged < 700:
        acknowledged = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    acknowledged = int(([str(acknowledged), *child.stdout.read().split()])[-1])
    child.wait()
    child.stdout.close()
    sink = JsonlSink(path)
    sink.write([event(10**6)])
    sink.close()
    numbers = [json.loads(line)["pts_ns"] for line in path.read_text().splitlines()]
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert len(numbers) - 1 >= acknowledged


def test_a_full_disk_costs_the_spool_nothing_it_has(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    done = python(
        """
        spool = Spool(Path(sys.argv[1]), max_bytes=10_000_000)
        spool.append([("t", b"first")])
        room(100_000)
        try:
            spool.append([("t", bytes(1000))] * 500)
        except StorageError as error:
            print(error)
        print(len(spool), [letter.payload for letter in spool.peek(10)])
        room(resource.RLIM_INFINITY)
        spool.append([("t", b"second")])
        print([letter.payload for letter in spool.peek(10)])
        """,
        str(path),
    )
    assert done.returncode == 0, done.stderr
    refusal, kept, after = done.stdout.splitlines()
    assert "cannot keep events" in refusal
    assert "Free the disk" in refusal
    assert kept.endswith("[b'first']")
    assert after == "[b'first', b'second']"


def test_kill_9_keeps_the_spool(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    code = """
    spool = Spool(Path(sys.argv[1]), max_bytes=10_000_000)
    for n in range(10**9):
        spool.append([("t", str(n).encode())])
        print(n, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(200):
        child.stdout.readline()
    child.kill()
    rest = child.stdout.read().split()
    child.wait()
    child.stdout.close()
    spool = Spool(path, max_bytes=10_000_000)
    numbers = [int(letter.payload) for letter in spool.peek(10**6)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 200 + len(rest)
    spool.close()


@pytest.mark.parametrize("place", ["head", "everything", "middle"])
def test_a_damaged_spool_is_moved_aside(place: str, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, max_bytes=10_000_000)
    spool.append([("t", bytes(3000))] * 100)
    spool.close()
    size = path.stat().st_size
    spans = {"head": (0, 100), "everything": (0, size), "middle": (4096, size)}
    start, end = spans[place]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (end - start))
    again = Spool(path, max_bytes=10_000_000)
    again.append([("t", b"new")])
    assert [letter.payload for letter in again.peek(10)] == [b"new"]
    assert "was damaged" in again.damage
    assert str(tmp_path / "spool.sqlite.damaged") in again.damage
    assert (tmp_path / "spool.sqlite.damaged").stat().st_size == size
    again.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
