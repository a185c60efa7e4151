"""A whole agent over the shipped recording: its events reach every kind of server, and Home Assistant."""

import json
import threading
from pathlib import Path

import pytest

from edge_runtime.agent.agent import Agent
from edge_runtime.contract.event import EVENTS
from edge_runtime.contract.status import AgentStatus, CameraState
from edge_runtime.settings import load_settings
from tests.simulators.broker import MOSQUITTO, Broker, Listener, wait_until
from tests.simulators.far_servers import FarKafka, FarRedis, FarWebhook
from tests.simulators.home_assistant import HomeAssistant

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"),
]

STORE = """
version: 1
site: shop
models:
  people: {{bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}}
cameras:
  door:
    source: {clip}
    model: people
    zones:
      walk: {{polygon: [[0, 0], [1, 0], [1, 1], [0, 1]]}}
    lines:
      path: {{from: [0.7, 0.2], to: [0.7, 0.8], a_to_b: in, b_to_a: out}}
counts: {{}}
sinks:
  - {{type: jsonl, path: events.jsonl}}
  - {{type: mqtt, host: 127.0.0.1, port: {port}, home_assistant: {{name: The shop}}}}
"""


def test_one_recording_reaches_everybody(tmp_path: Path, shipped_clip: Path) -> None:
    broker = Broker(tmp_path / "broker").start()
    listener = Listener(broker.port)
    servers = [FarWebhook(tmp_path), FarRedis(tmp_path), FarKafka(tmp_path)]
    path = tmp_path / "store.yaml"
    sinks = "".join(f"  - {json.dumps(server.sink)}\n" for server in servers)
    path.write_text(STORE.format(clip=shipped_clip, port=broker.port) + sinks)
    stop = threading.Event()

    def look(status: AgentStatus) -> None:
        if status.cameras[0].state is CameraState.ENDED:
            stop.set()

    Agent(load_settings(path)).run(stop, look)
    events = [EVENTS.validate_json(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    times = [event.pts_ns for event in events]
    assert len(events) > 10
    for server in servers:
        wait_until(lambda server=server: len(server.heard()) >= len(events))
        assert [number for _, number in server.heard()] == times, server.sink
        server.close()
    wait_until(lambda: b"offline" in listener.payloads("shop/status"))
    listener.close()
    broker.stop()
    home = HomeAssistant()
    for topic, payload, _ in listener.heard:
        if not topic.endswith("/events"):
            home.take(topic, payload)
    crossed = [event.name for event in events if event.type == "line_crossed"]
    home.states["edge/shop/status"] = "online"  # as it was before the end
    assert home.state("edge_shop_door_connectivity") == "OFF"
    state = json.loads(home.states["edge/shop/door/state"])
    assert {name: state["crossings"]["path"].get(name, 0) for name in ("in", "out")} == {
        name: crossed.count(name) for name in ("in", "out")
    }
    assert home.state("edge_shop_inside") == str(json.loads(home.states["edge/shop/store"])["inside"])
