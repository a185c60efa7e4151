"""What the service manager hears, over a real datagram socket."""

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.agent.watchdog import Notifier, Watchdog, summary
from edge_runtime.contract.status import AgentStatus, CameraState, CameraStatus, Condition


class Manager:
    """The service manager's end."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def status(*cameras: CameraStatus, level: int = 0, trouble: str = "") -> AgentStatus:
    reason = "82 °C" if level else ""
    return AgentStatus(
        cameras, (), uptime_s=1, cpu_cores=1, rss_bytes=1, level=level, level_reason=reason, trouble=trouble
    )


def test_ready_once_and_pings_at_half_the_patience(manager: Manager) -> None:
    watchdog = Watchdog(Notifier(manager.address, 10.0), lambda: 0.0)
    for quarter in range(60):
        watchdog.turn(status(), quarter / 4)
    heard = manager.heard()
    assert heard[:3] == ["READY=1", "STATUS=0 of 0 cameras online", "WATCHDOG=1"]
    assert heard[3:] == ["WATCHDOG=1"] * 2


@pytest.mark.parametrize("stuck_s", [31.0, math.inf], ids=["an inference", "the lock"])
def test_no_ping_while_nothing_moves(manager: Manager, stuck_s: float) -> None:
    for_s = [0.0]
    watchdog = Watchdog(Notifier(manager.address, 10.0), lambda: for_s[0])
    watchdog.turn(status(), 0)
    manager.heard()
    for_s[0] = stuck_s
    for second in range(1, 30):
        watchdog.turn(status(), second)
    assert manager.heard() == []
    for_s[0] = 0.0
    watchdog.turn(status(), 30)
    assert manager.heard() == ["WATCHDOG=1"]


def test_no_pings_where_nobody_asked_for_them(manager: Manager) -> None:
    watchdog = Watchdog(Notifier(manager.address), lambda: 0.0)
    for second in range(100):
        watchdog.turn(status(), second)
    assert manager.heard() == ["READY=1", "STATUS=0 of 0 cameras online"]


def test_reloading_and_stopping(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.reloading()
    notifier.ready()
    notifier.stopping()
    reloading, ready, stopping = manager.heard()
    first, second = reloading.split("\n")
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert int(microseconds) > 0
    assert (ready, stopping) == ("READY=1", "STOPPING=1")


def test_an_abstract_address() -> None:
    name = f"edge-runtime-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        Notifier(f"@{name}").ready()
        assert listener.recv(64) == b"READY=1"


def test_what_the_environment_says() -> None:
    ours = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier.from_environment(ours).watchdog_s == 30.0
    assert Notifier.from_environment(ours | {"WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment(ours | {"WATCHDOG_USEC": "soon"}).watchdog_s is None
    Notifier.from_environment({}).ready()


def test_a_manager_that_is_gone_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ready()
    notifier.ready()
    assert len(caplog.records) == 1


def test_the_line_for_systemctl_status() -> None:
    cameras = (
        CameraStatus("door", CameraState.ONLINE, health=(Condition.BLINDED,)),
        CameraStatus("yard", CameraState.OFFLINE),
    )
    line = summary(status(*cameras, level=2, trouble="safe mode"))
    assert line == "1 of 2 cameras online; door is blinded; level 2: 82 °C; safe mode"
