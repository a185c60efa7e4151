"""A camera that sends MJPEG over HTTP, as most cheap ones can: pictures come without times."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from tests.simulators.clips import moving_square
from tests.simulators.watcher import Watcher, plan

FPS = 10


def serve(listener: socket.socket, stop: threading.Event) -> None:
    """Send every client JPEG pictures, `FPS` a second, until told to stop."""
    jpegs = [cv2.imencode(".jpg", image)[1].tobytes() for image in moving_square(35)]
    while not stop.is_set():
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            try:
                client.recv(4096)
                client.sendall(
                    b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"
                )
                for number in range(10**6):
                    jpeg = jpegs[number % len(jpegs)]
                    head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    client.sendall(head.encode() + jpeg + b"\r\n")
                    if stop.wait(1 / FPS):
                        return
            except OSError:
                continue  # the client has gone


@contextmanager
def mjpeg_camera() -> Iterator[str]:
    """Give the address of a camera."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener, stop), daemon=True)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/video"
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
    server.join(10)
    assert not server.is_alive()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.runtime.close()


def test_source_time_is_the_time_of_arrival(watcher: Watcher) -> None:
    with mjpeg_camera() as url:
        watcher.runtime.add(plan("door", url))
        # The first second comes at once: FFmpeg has looked at it before it said what it is.
        watcher.wait(lambda: len(watcher.scenes) >= 60, "pictures")
        watcher.runtime.close()
    frames = [scene.frame for scene in watcher.scenes]
    pts_s = (frames[-1].pts_ns - frames[0].pts_ns) / 1e9
    arrived_s = (frames[-1].received_ns - frames[0].received_ns) / 1e9
    assert pts_s == pytest.approx(arrived_s, rel=0.05), "FFmpeg's made-up 25 a second is not believed"
    steps = np.diff([frame.pts_ns for frame in frames])
    assert (steps > 0).all()
