"""A device is revoked while it is connected: real manager, real mosquitto, and the device's own code."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.broker import MOSQUITTO, wait_until
from tests.simulators.fleet_device import LiveWorld
from tests.simulators.running_manager import Running, device_of, running_in

pytestmark = [pytest.mark.broker, pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with running_in(tmp_path / "fleet") as site:
        yield site


def ignored(running: Running) -> list[dict[str, Any]]:
    lines = running.ask("GET", "/v1/audit").json()["audit"]
    return [each for each in lines if each["action"] == "device.ignored"]


def test_a_live_session_ends_and_the_device_learns_why(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    device = device_of(running, running.enrol("till-7"), LiveWorld(running.url), dice=lambda: 0.0)
    other = device_of(running, running.enrol("till-8"), LiveWorld(running.url))
    wait_until(lambda: running.ask("GET", "/v1/devices/till-7").json()["online"], 30)
    wait_until(lambda: other.status()["online"], 30)
    assert "the connection was lost" not in caplog.text

    assert running.ask("DELETE", "/v1/devices/till-7").status_code == 204
    wait_until(lambda: "the connection was lost" in caplog.text, 30)
    # This broker has not read its list again: the device comes back, and nobody listens to it.
    wait_until(lambda: bool(ignored(running)), 30)
    assert [each["subject"] for each in ignored(running)] == ["till-7"]
    events = running.ask("GET", "/v1/events", params={"device": "till-7"}).json()["events"]
    assert "revoked-device" in {each["code"] for each in events}
    assert not running.ask("GET", "/v1/devices/till-7").json()["online"]
    assert not device.status()["revoked"]

    running.broker.send_signal(signal.SIGHUP)
    wait_until(lambda: device.status()["revoked"], 60)
    told = device.status()
    assert not told["online"] and told["trouble"][0].startswith("revoked: ")
    assert "this device was revoked" in caplog.text
    assert other.status()["online"]
    assert len(ignored(running)) == 1, "the log has a line an hour"
