"""The whole agent as a process: killed, told to stop, and left without its broker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.agent.state_lock import StateLock
from edge_runtime.contract.errors import StorageError
from tests.simulators.broker import MOSQUITTO, Broker, Listener, wait_until

CLIP = Path(__file__).parent.parent.parent / "edge_runtime" / "media" / "pedestrians.mp4"

STORE = """
version: 1
site: test
models:
  people: {{bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}}
cameras:
  path:
    source: {clip}
    model: people
    loop: true
    zones:
      left: {{polygon: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], settle_s: 0}}
      right: {{polygon: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]], settle_s: 0}}
  gone: {{source: missing.mp4, model: people}}
sinks:
  - {{type: jsonl, path: events.jsonl}}
  {mqtt}
"""


class Store:
    """A store in a folder, run by the command line."""

    def __init__(self, folder: Path, mqtt: str = "") -> None:
        self.folder = folder
        self.events = folder / "events.jsonl"
        (folder / "store.yaml").write_text(STORE.format(clip=CLIP, mqtt=mqtt))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "edge_runtime", "run", str(self.folder / "store.yaml"), "--quiet"]
        self.process = subprocess.Popen(command)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def lines(self) -> list[str]:
        whole = self.events.read_text().rpartition("\n")[0] if self.events.exists() else ""
        return whole.splitlines()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    if store.process is not None and store.process.poll() is None:
        store.end(signal.SIGKILL)


def test_kill_9_loses_no_event_that_was_written(store: Store) -> None:
    store.start()
    wait_until(lambda: len(store.lines()) >= 5, 60)
    written = store.lines()
    assert store.end(signal.SIGKILL) == -signal.SIGKILL
    store.start()
    wait_until(lambda: len(store.lines()) >= len(written) + 5, 60)
    assert store.end(signal.SIGTERM) == 0
    lines = store.lines()
    assert lines[: len(written)] == written
    assert store.events.read_text().endswith("\n")
    kinds = {json.loads(line)["type"] for line in lines}
    assert {"camera_state", "zone_entered"} <= kinds


def test_sigterm_drains(store: Store) -> None:
    store.start()
    wait_until(lambda: len(store.lines()) >= 5, 60)
    assert store.end(signal.SIGTERM) == 0
    events = [json.loads(line) for line in store.lines()]
    entered = sum(event["type"] == "zone_entered" for event in events)
    assert entered == sum(event["type"] == "zone_left" for event in events), "open stays are closed"


@pytest.mark.broker
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_broker_outage_loses_no_event(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    store = Store(tmp_path, f"- {{type: mqtt, host: 127.0.0.1, port: {broker.port}}}")
    store.start()
    wait_until(lambda: len(store.lines()) >= 5, 60)
    broker.start()
    listener = Listener(broker.port)
    try:
        wait_until(lambda: len(listener.payloads("/events")) >= len(store.lines()) > 5, 60)
        assert store.end(signal.SIGTERM) == 0
        wait_until(lambda: len(listener.payloads("/events")) >= len(store.lines()), 30)
        heard = {json.loads(payload)["id"] for payload in listener.payloads("/events")}
        assert {json.loads(line)["id"] for line in store.lines()} <= heard
        assert listener.payloads("test/status")[-1] == b"offline"
    finally:
        if store.process is not None and store.process.poll() is None:
            store.end(signal.SIGKILL)
        listener.close()
        broker.stop()


def test_second_agent_on_the_same_state_is_refused_and_named(tmp_path: Path) -> None:
    holder = StateLock(tmp_path)
    with pytest.raises(StorageError, match=rf"in use: .* got process {os.getpid()} holding"):
        StateLock(tmp_path)
    holder.close()
    StateLock(tmp_path).close()


@pytest.mark.broker
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_what_is_owed_finds_its_broker_when_sinks_change_places(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    mqtt = f"- {{type: mqtt, host: 127.0.0.1, port: {broker.port}}}"
    store = Store(tmp_path, mqtt)
    store.start()
    try:
        wait_until(lambda: len(store.lines()) >= 5, 60)
        assert store.end(signal.SIGTERM) == 0
        owed = {json.loads(line)["id"] for line in store.lines()}
        yaml = tmp_path / "store.yaml"
        jsonl = "- {type: jsonl, path: events.jsonl}"
        text = yaml.read_text().replace(mqtt, "").replace(jsonl, f"{mqtt}\n  {jsonl}")
        yaml.write_text(text)
        broker.start()
        listener = Listener(broker.port)
        store.start()
        wait_until(lambda: owed <= {json.loads(p)["id"] for p in listener.payloads("/events")}, 60)
        wait_until(lambda: bool(listener.payloads("path/state")), 30)
        assert store.end(signal.SIGTERM) == 0
        wait_until(lambda: listener.payloads("test/status")[-1] == b"offline")
        left = json.loads(listener.payloads("path/state")[-1])
        assert left["state"] == "stopped"
        assert set(left["occupancy"].values()) <= {0}
        listener.close()
    finally:
        if store.process is not None and store.process.poll() is None:
            store.end(signal.SIGKILL)
        broker.stop()
