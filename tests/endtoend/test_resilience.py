"""Health and the ladder, from settings to events, status and broker, in one agent."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.agent import Agent
from edge_runtime.contract.status import AgentStatus, Condition
from edge_runtime.settings import load_settings
from tests.simulators.broker import MOSQUITTO, Broker, Listener, wait_until
from tests.simulators.clips import moving_square, write_clip

STORE = """
version: 1
site: shop
models:
  people: {{bundle: efficientdet-lite0}}
cameras:
  covered:
    source: covered.mp4
    model: people
    realtime: true
    loop: true
    fps: 2
    health: {{frozen_s: null, blinded_s: 1}}
  unwatched: {{source: covered.mp4, model: people, realtime: true, loop: true, fps: 2, health: null}}
sinks:
  - {{type: jsonl, path: events.jsonl}}
  - {{type: video, folder: video}}
  {mqtt}
degrade: {degrade}
"""


def run_until(agent: Agent, done: threading.Event, statuses: list[AgentStatus]) -> None:
    """Run an agent and keep its statuses, until one of them was what the test waits for."""
    agent.run(done, statuses.append)


def store(folder: Path, *, mqtt: str = "", degrade: str = "{}") -> Agent:
    grey = (np.full((240, 320, 3), 90, np.uint8) for _ in range(50))
    write_clip(folder / "covered.mp4", grey)
    path = folder / "store.yaml"
    path.write_text(STORE.format(mqtt=mqtt, degrade=degrade))
    return Agent(load_settings(path))


def test_a_covered_lens_becomes_an_event(tmp_path: Path) -> None:
    agent = store(tmp_path)
    done, statuses = threading.Event(), list[AgentStatus]()
    runner = threading.Thread(target=run_until, args=(agent, done, statuses))
    runner.start()
    wait_until(lambda: bool(statuses and statuses[-1].cameras[0].health), 60)
    done.set()
    runner.join(60)
    assert statuses[-1].cameras[0].health == (Condition.BLINDED,)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["type"] == "camera_health"]
    assert (event["camera"], event["condition"], event["present"]) == ("covered", "blinded", True)
    assert event["since"] < event["time"]


@pytest.mark.broker
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_machine_that_is_too_slow_gives_up_frames_and_says_so(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker").start()
    listener = Listener(broker.port)
    mqtt = f"- {{type: mqtt, host: 127.0.0.1, port: {broker.port}}}"
    agent = store(tmp_path, mqtt=mqtt, degrade="{late_s: 0.0001}")
    done, statuses = threading.Event(), list[AgentStatus]()
    runner = threading.Thread(target=run_until, args=(agent, done, statuses))
    runner.start()
    try:
        wait_until(lambda: bool(listener.payloads("shop/level")), 60)
        assert json.loads(listener.payloads("shop/level")[0]) == {"v": 1, "level": 0, "reason": ""}
        wait_until(lambda: bool(statuses and statuses[-1].level), 60)
        wait_until(lambda: json.loads(listener.payloads("shop/level")[-1])["level"] >= 1, 30)
        assert "s old, and 0.0001 s is too old" in statuses[-1].level_reason
        wait_until(lambda: '"blinded"' in listener.payloads("covered/state")[-1].decode(), 30)
    finally:
        done.set()
        runner.join(60)
        listener.close()
        broker.stop()


def test_nothing_is_given_up_where_nobody_wants_it(tmp_path: Path) -> None:
    write_clip(tmp_path / "covered.mp4", moving_square(25))
    agent = store(tmp_path, degrade="null")
    done, statuses = threading.Event(), list[AgentStatus]()
    runner = threading.Thread(target=run_until, args=(agent, done, statuses))
    runner.start()
    wait_until(lambda: len(statuses) > 4, 60)
    done.set()
    runner.join(60)
    assert {status.level for status in statuses} == {0}
