"""Starts and stops the RTSP server program of `rtsp_server.py` on a free loopback port."""

import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

PYTHON = "/usr/bin/python3"
"""The system's Python: GStreamer's bindings (python3-gi) come from the distribution."""

SERVER = Path(__file__).with_name("rtsp_server.py")


def available() -> str | None:
    """Say why there is no RTSP server here; None when there is one."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        done = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else "install gir1.2-gst-rtsp-server-1.0 and python3-gi"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """A camera on the network that can be switched off and on again.

    Args:
        clip: H.264 in MP4.
        port: None: a free one.
        lost: Share of its packets that the network loses.
    """

    def __init__(self, clip: Path, port: int | None = None, *, lost: float = 0.0) -> None:
        self.clip = clip
        self.lost = lost
        self.port = port or free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/stream"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, size: tuple[int, int] | None = None) -> None:
        arguments = [PYTHON, str(SERVER), str(self.clip), str(self.port), str(self.lost)]
        arguments += [] if size is None else [str(side) for side in size]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
