"""Streams that go wrong while they run: a server that stalls, bytes that flip, packets that get lost, clocks
that jump and wrap. The camera comes back, the one beside it notices nothing, and nobody is counted twice.
"""

import os
import random
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.analytics.rules import Zone
from edge_runtime.contract.event import ZoneEntered, ZoneLeft
from edge_runtime.contract.status import DropCause
from tests.simulators import rtsp
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.http_stream import HttpStream
from tests.simulators.rtsp_proxy import RtspProxy, shifted_by
from tests.simulators.watcher import Watcher, plan

MISSING = rtsp.available()
pytestmark = [pytest.mark.rtsp, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

BASELINE = {"profile": "baseline", "bf": "0"}
EVERYWHERE = Zone("shop", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), settle_s=0.1)
HOUR = 3600 * 90_000
SECOND_NS = 1_000_000_000


def waiting_square(frames: int) -> Iterable[NDArray[np.uint8]]:
    """Somebody who steps from one foot to the other, and goes nowhere."""
    for number in range(frames):
        image = np.full((240, 320, 3), 90, np.uint8)
        left = 120 + abs(number % 20 - 10)
        image[80:140, left : left + 40] = 240
        yield image


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "moving.mp4", moving_square(1500), options=BASELINE)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "wait.mp4", waiting_square(1500), options=BASELINE)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.runtime.close()


def untouched(watcher: Watcher, name: str) -> None:
    """Check that a camera noticed nothing."""
    status = next(status for status in watcher.runtime.status() if status.name == name)
    assert watcher.states(name) == ["online"]
    assert status.reconnects == 0
    assert DropCause.CORRUPT not in status.dropped


def counts(watcher: Watcher) -> list[str]:
    kinds = (ZoneEntered, ZoneLeft)
    return [event.type for event in watcher.events if isinstance(event, kinds) and event.camera == "door"]


def more(watcher: Watcher, count: int) -> None:
    """Wait for more pictures of the camera."""
    before = len(watcher.of("door"))
    watcher.wait(lambda: len(watcher.of("door")) > before + count, "more pictures")


def in_order(watcher: Watcher, longest_s: float) -> None:
    """Check that source time neither stood still, nor ran backwards, nor leapt."""
    pts = np.array([scene.frame.pts_ns for scene in watcher.of("door")])
    steps = np.diff(pts)
    assert (steps > 0).all()
    assert steps.max() <= longest_s * SECOND_NS
    times = [scene.frame.time_ns for scene in watcher.of("door")]
    assert times == sorted(times)


@pytest.mark.parametrize("isolate", [False, True], ids=["thread", "process"])
def test_server_that_stalls(watcher: Watcher, moving: Path, isolate: bool) -> None:
    with rtsp.RtspServer(moving) as server, rtsp.RtspServer(moving) as other:
        watcher.runtime.add(plan("door", server.url, timeout_s=1.0, isolate=isolate))
        watcher.runtime.add(plan("yard", other.url))
        watcher.wait(lambda: len(watcher.of("door")) > 10 and len(watcher.of("yard")) > 10, "both")
        os.kill(server.pid, signal.SIGSTOP)
        watcher.wait(lambda: watcher.states("door")[-1] == "offline", "silence to be noticed")
        before = len(watcher.of("yard"))
        watcher.wait(lambda: len(watcher.of("yard")) > before + 25, "the other one to go on")
        os.kill(server.pid, signal.SIGCONT)
        watcher.wait(lambda: watcher.states("door")[-1] == "online", "the camera to be back")
        untouched(watcher, "yard")


@pytest.mark.parametrize("isolate", [False, True], ids=["thread", "process"])
def test_bytes_that_flip(watcher: Watcher, waiting: Path, isolate: bool) -> None:
    dice = random.Random(1)

    def flip(packet: bytearray) -> None:
        if dice.random() < 0.3:
            for _ in range(4):
                packet[dice.randrange(13, len(packet))] ^= 1 << dice.randrange(8)

    with (
        rtsp.RtspServer(waiting) as server,
        rtsp.RtspServer(waiting) as other,
        RtspProxy(server.port) as proxy,
    ):
        watcher.runtime.add(plan("door", proxy.url, isolate=isolate))
        watcher.runtime.add(plan("yard", other.url))
        watcher.wait(lambda: len(watcher.of("door")) > 25 and len(watcher.of("yard")) > 10, "both")
        proxy.alter = flip
        passed = proxy.passed
        watcher.wait(lambda: proxy.passed > passed + 150, "spoilt packets")
        proxy.alter = None
        more(watcher, 50)
        in_order(watcher, longest_s=20)
        untouched(watcher, "yard")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_packets_that_get_lost(watcher: Watcher, waiting: Path, transport: str) -> None:
    with rtsp.RtspServer(waiting, lost=0.05) as server, rtsp.RtspServer(waiting) as other:
        watcher.runtime.add(plan("door", server.url, transport=transport, zones=(EVERYWHERE,)))
        watcher.runtime.add(plan("yard", other.url))
        watcher.wait(lambda: len(watcher.of("door")) > 150, "pictures in spite of it")
        assert watcher.states("door") == ["online"]
        assert counts(watcher) == ["zone_entered"], "the one who waits is one person"
        in_order(watcher, longest_s=2)
        untouched(watcher, "yard")


@pytest.mark.parametrize(
    "jumps", [(HOUR,), (-HOUR // 2,), (HOUR, -HOUR), (2**31 - 90_000,)],
    ids=["ahead", "back", "there and back", "to the wrap"],
)  # fmt: skip
def test_rtp_clock_that_jumps(watcher: Watcher, waiting: Path, jumps: tuple[int, ...]) -> None:
    with rtsp.RtspServer(waiting) as server, RtspProxy(server.port) as proxy:
        watcher.runtime.add(plan("door", proxy.url, zones=(EVERYWHERE,)))
        watcher.wait(lambda: len(watcher.of("door")) > 25, "the camera")
        ticks = 0
        for jump in jumps:
            ticks += jump
            proxy.alter = shifted_by(ticks)
            before = len(watcher.of("door"))
            watcher.wait(
                lambda before=before: len(watcher.of("door")) > before + 75, "pictures after the jump"
            )  # type: ignore[misc]
        in_order(watcher, longest_s=10)
        assert counts(watcher) == ["zone_entered"]


@pytest.mark.parametrize("start_s", [95440, 95443], ids=["while it runs", "at once"])
def test_mpeg_ts_clock_that_wraps(watcher: Watcher, tmp_path: Path, start_s: int) -> None:
    """33 bits of 1/90000 s are 26.5 hours: every camera that sends MPEG-TS wraps once a day."""
    clip = write_clip(tmp_path / "wrap.ts", waiting_square(250), options=BASELINE, starts_s=start_s)
    with HttpStream(clip, 10) as stream:
        watcher.runtime.add(plan("door", stream.url, zones=(EVERYWHERE,)))
        watcher.wait(lambda: len(watcher.of("door")) > 180, "pictures from both sides of it")
        in_order(watcher, longest_s=1)
        assert counts(watcher) == ["zone_entered"]
        assert watcher.states("door") == ["online"]
