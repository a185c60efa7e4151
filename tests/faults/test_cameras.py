"""Cameras that fail in the ways cameras do, over a real RTSP server and real sockets."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.contract.status import CameraState
from tests.simulators import rtsp
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.square_detector import SquareDetector
from tests.simulators.watcher import Watcher, plan

MISSING = rtsp.available()
needs_rtsp = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
pytestmark = pytest.mark.rtsp


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"profile": "baseline", "bf": "0"}
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(750), options=options)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.runtime.close()


@needs_rtsp
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_camera_is_seen(watcher: Watcher, clip: Path, transport: str) -> None:
    with rtsp.RtspServer(clip) as server:
        watcher.runtime.add(plan("door", server.url, transport=transport))
        watcher.wait(lambda: len(watcher.scenes) > 50, "frames")
        assert watcher.states("door") == ["online"]
        times = [scene.frame.time_ns for scene in watcher.scenes]
        assert times == sorted(times)


@needs_rtsp
def test_camera_that_is_switched_off_and_on_and_has_another_resolution(watcher: Watcher, clip: Path) -> None:
    with rtsp.RtspServer(clip) as server, rtsp.RtspServer(clip) as other:
        detector = SquareDetector()
        watcher.runtime.add(plan("door", server.url, detector))
        watcher.runtime.add(plan("yard", other.url))
        watcher.wait(lambda: len(watcher.of("door")) > 10 and len(watcher.of("yard")) > 10, "both")
        server.kill()
        watcher.wait(lambda: watcher.states("door")[-1] == "offline", "the camera to be missed")
        before = len(watcher.of("yard"))
        server.start(size=(640, 480))
        watcher.wait(lambda: watcher.states("door")[-1] == "online", "the camera to be back")
        watcher.wait(lambda: (480, 640) in detector.shapes, "its new resolution")
        assert len(watcher.of("yard")) > before
        assert watcher.states("yard") == ["online"]
        pts = [scene.frame.pts_ns for scene in watcher.of("door")]
        assert pts == sorted(set(pts)), "source time goes on across the outage"
        assert {status.reconnects > 0 for status in watcher.runtime.status()} == {True, False}


def serve_garbage(listener: socket.socket) -> None:
    """Answer every client with bytes that mean nothing, until the listener is closed."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            client.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: video/mpeg\r\n\r\n" + b"\xa5\x5a garbage" * 4000
            )


def test_camera_that_sends_garbage(watcher: Watcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve_garbage, args=(listener,), daemon=True)
        server.start()
        watcher.runtime.add(plan("door", f"http://127.0.0.1:{listener.getsockname()[1]}/video"))
        watcher.wait(lambda: watcher.states("door") == ["offline"], "garbage to be noticed")
        assert "expected a video stream" in watcher.runtime.status()[0].reason
        listener.shutdown(socket.SHUT_RDWR)
    server.join(10)
    assert not server.is_alive()


def test_camera_that_accepts_and_says_nothing(watcher: Watcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/stream"
        watcher.runtime.add(plan("door", url, timeout_s=1.0))
        watcher.wait(lambda: watcher.states("door") == ["offline"], "silence to be noticed")
        status = watcher.runtime.status()[0]
        assert status.state is CameraState.OFFLINE
        assert "no answer within 1 s" in status.reason
