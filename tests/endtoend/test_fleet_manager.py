"""`fleet init` and `fleet manager` as real processes, with a real mosquitto and a device's real code."""

import hashlib
import json
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.update import UpdateFailedError
from edge_runtime.fleet.enrolling import renew_if_due
from edge_runtime.fleet.enrolment import Enrolment
from edge_runtime.update.download import Downloader, DownloadOptions
from edge_runtime.update.store import Part
from tests.simulators.broker import MOSQUITTO, wait_until
from tests.simulators.fleet_device import LiveWorld
from tests.simulators.running_manager import COMMAND, CONTENT, Running, device_of, running_in

pytestmark = [pytest.mark.broker, pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with running_in(tmp_path / "fleet") as site:
        yield site


def test_a_device_joins_reports_obeys_and_is_revoked(running: Running) -> None:
    enrolment = running.enrol("till-7")
    world = LiveWorld(running.url)
    device = device_of(running, enrolment, world)
    seen: dict[str, Any] = {}

    def online() -> bool:
        seen.update(running.ask("GET", "/v1/devices/till-7").json())
        return seen["online"] and seen["health"]["cameras"] == 2

    wait_until(online, 30)
    assert seen["profile"] == "store-pc-cpu" and seen["timezone"] == "Europe/Berlin"
    order = {"name": "restart-pipeline", "arguments": {"camera": "door"}, "timeout_s": 30}
    answer = running.ask("POST", "/v1/devices/till-7/commands", json=order).json()
    assert answer["ok"], answer
    world.off_s = 600 * 86400  # when less than a third of the certificate's life is left
    before = enrolment.cert_file.read_bytes()
    assert renew_if_due(enrolment, datetime.fromtimestamp(world.now_s(), UTC))
    assert enrolment.cert_file.read_bytes() != before

    device.close()
    assert running.ask("DELETE", "/v1/devices/till-7").status_code == 204
    assert running.ask("GET", "/artifacts/x/y", token=enrolment.device_token).status_code == 401
    assert _lets_in(enrolment)  # until the broker reads the list
    running.broker.send_signal(signal.SIGHUP)
    told = running.ask("GET", "/v1/devices/till-7").json()
    assert told["revoked_at"] is not None and not told["online"]
    wait_until(lambda: not _lets_in(enrolment), 30)
    with pytest.raises(EdgeRuntimeError):
        renew_if_due(enrolment, datetime.fromtimestamp(world.now_s() + 86400 * 1200, UTC))


def _lets_in(enrolment: Enrolment) -> bool:
    """Whether the broker takes a device's certificate."""
    welcome: list[Any] = []
    client = Client(CallbackAPIVersion.VERSION2, "", protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set(str(enrolment.ca_file), str(enrolment.cert_file), str(enrolment.key_file))
    client.on_connect = lambda *_: welcome.append(True)
    client.on_connect_fail = lambda *_: welcome.append(False)
    client.on_disconnect = lambda *_: welcome.append(False)
    try:
        client.connect(enrolment.broker_host, enrolment.broker_port)
    except OSError:
        return False
    client.loop_start()
    wait_until(lambda: bool(welcome))
    client.disconnect()
    client.loop_stop()
    return welcome[0]


def test_a_download_goes_on_after_the_manager_was_killed(running: Running, tmp_path: Path) -> None:
    path = "model/people/1-1.0.0.zip"
    running.publish(path)
    enrolment = running.enrol("till-7")
    context = ssl.create_default_context(cafile=enrolment.ca_file)
    headers = {"authorization": f"Bearer {enrolment.device_token}"}
    options = DownloadOptions(chunk_bytes=64 << 10)
    downloader = Downloader(
        f"{running.url}/artifacts", options, lambda: httpx.AsyncClient(verify=context, headers=headers)
    )
    part = Part(tmp_path / "part", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))

    def kill_in_the_middle() -> bool:
        if part.done_bytes > 0 and running.manager.poll() is None:
            running.manager.kill()
        return False

    with pytest.raises(UpdateFailedError) as caught:
        downloader.fetch(path, part, whole_again=False, stop=kill_in_the_middle)
    assert caught.value.retryable
    kept = part.done_bytes
    assert 0 < kept < len(CONTENT)
    running.manager.wait()
    running.start_manager()
    again = Part(tmp_path / "part", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert again.done_bytes == kept
    assert downloader.fetch(path, again, whole_again=False)
    assert again.path.read_bytes() == CONTENT


def test_a_manager_ends_in_order_and_init_makes_only_what_is_missing(running: Running) -> None:
    stream = httpx.stream(
        "GET",
        f"{running.url}/v1/watch",
        headers={"authorization": f"Bearer {running.token}"},
        verify=ssl.create_default_context(cafile=running.ca),
        timeout=60,
    )
    with stream as answer:
        assert answer.status_code == 200
        running.manager.send_signal(signal.SIGTERM)
        answer.read()  # it ends
    assert running.manager.wait(60) == 0
    said = json.loads(running.manager.stdout.read()) if running.manager.stdout else {}
    assert (said["tenant"], said["public_url"]) == ("acme", running.url)
    (running.folder / "tls/manager.crt").unlink()
    kept = (running.folder / "keys/online.pem").read_bytes()
    again = [*COMMAND, "init", str(running.folder), "--tenant", "acme", "--url", running.url, "--json"]
    made = json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
    assert sorted(made["made"]) == ["tls/manager.crt", "tls/manager.key"] and made["token"] is None
    assert (running.folder / "keys/online.pem").read_bytes() == kept
    running.start_manager()
    other = [*COMMAND, "init", str(running.folder), "--tenant", "other", "--url", running.url]
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert refused.returncode == 3 and "tenant" in refused.stderr


def test_a_second_manager_at_the_same_port_says_so(running: Running) -> None:
    copy = running.folder.with_name("copy")
    shutil.copytree(running.folder, copy, ignore=shutil.ignore_patterns("*.log"))
    command = [*COMMAND, "manager", "--settings", str(copy / "manager.yaml")]
    taken = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert taken.returncode == 7 and "stop what listens there" in taken.stderr
