"""An agent that keeps dying, as a process, under something that starts it again and listens to it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.broker import wait_until
from tests.simulators.killer_camera import KillerCamera

CLIP = Path(__file__).parents[2] / "edge_runtime" / "media" / "pedestrians.mp4"

STORE = """
version: 1
site: test
models:
  people: {{bundle: efficientdet-lite0, labels: [person]}}
cameras:
  path: {{source: {clip}, model: people, loop: true, realtime: true, fps: 5}}
  {bad}
sinks:
  - {{type: jsonl, path: events.jsonl}}
"""


class Supervisor:
    """Starts an agent, hears what it says, and knows how it ended."""

    def __init__(self, folder: Path, bad: str = "") -> None:
        self.folder = folder
        self.bad = bad
        self.process: subprocess.Popen[bytes] | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setblocking(False)
        self.heard: list[str] = []

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        store = self.folder / "store.yaml"
        store.write_text(STORE.format(clip=CLIP, bad=self.bad))
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "400000"}
        environment.pop("WATCHDOG_PID", None)
        command = [sys.executable, "-m", "edge_runtime", "run", str(store), "--quiet"]
        self.process = subprocess.Popen(command, env=environment)

    def listen(self) -> list[str]:
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.heard

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(60)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        os.kill(self.pid, number)
        return self.wait()

    def events(self) -> list[dict[str, str]]:
        path = self.folder / "events.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    yield supervisor
    supervisor.close()


def test_the_service_manager_hears_of_a_whole_life(supervisor: Supervisor) -> None:
    supervisor.start()
    wait_until(lambda: supervisor.listen().count("WATCHDOG=1") >= 3, 60)
    assert supervisor.heard[0] == "READY=1"
    wait_until(lambda: "STATUS=1 of 1 cameras online" in supervisor.listen(), 60)
    os.kill(supervisor.pid, signal.SIGHUP)
    wait_until(lambda: supervisor.listen().count("READY=1") == 2, 60)
    assert "RELOADING=1" in supervisor.heard
    assert supervisor.end() == 0
    assert supervisor.listen()[-1] == "STOPPING=1"
    starts = json.loads((supervisor.folder / "state" / "starts.json").read_text())["starts"]
    assert [start["well"] for start in starts] == [True]


def test_a_camera_that_kills_the_agent_is_left_out_of_the_fourth_start(supervisor: Supervisor) -> None:
    with KillerCamera(lambda: supervisor.pid) as camera:
        supervisor.bad = f"bad: {{source: '{camera.url}', model: people}}"
        for _ in range(3):
            supervisor.start()
            assert supervisor.wait() == -signal.SIGSEGV
        supervisor.start()
        wait_until(lambda: any(line.startswith("STATUS=1 of 2") for line in supervisor.listen()), 60)
        (status,) = [line for line in supervisor.heard if line.startswith("STATUS=1 of 2")]
        assert (
            "safe mode: the last 3 starts died early; left out is what was being opened: camera bad" in status
        )
        wait_until(lambda: any(event.get("state") == "failed" for event in supervisor.events()), 60)
        assert supervisor.end() == 0
        (failed,) = [event for event in supervisor.events() if event.get("state") == "failed"]
        assert failed["camera"] == "bad"
        assert "left out in safe mode" in failed["reason"]


def test_changed_settings_end_safe_mode(supervisor: Supervisor) -> None:
    for _ in range(3):
        supervisor.start()
        wait_until(lambda: "READY=1" in supervisor.listen(), 60)
        supervisor.heard.clear()
        assert supervisor.end(signal.SIGKILL) == -signal.SIGKILL
    supervisor.start()
    wait_until(lambda: any("all cameras are slow" in line for line in supervisor.listen()), 60)
    store = supervisor.folder / "store.yaml"
    store.write_text(store.read_text().replace("fps: 5", "fps: 4"))
    supervisor.heard.clear()
    os.kill(supervisor.pid, signal.SIGHUP)
    wait_until(lambda: "STATUS=1 of 1 cameras online" in supervisor.listen(), 60)
    assert supervisor.end() == 0
