"""Events and state to a real broker."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.event import EVENTS, CameraStateChanged, Event
from edge_runtime.contract.status import AgentStatus, CameraState, CameraStatus
from edge_runtime.sinks.mqtt import MqttOptions, MqttSink, Tls
from tests.simulators.broker import MOSQUITTO, Broker, Listener, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"),
]


def events(count: int, camera: str = "door") -> list[Event]:
    return [
        CameraStateChanged(
            id=f"{camera}-{n}",
            site="shop",
            camera=camera,
            time="2026-01-01T00:00:00.000Z",
            pts_ns=n,
            state="online",
        )
        for n in range(count)
    ]


def options(broker: Broker) -> MqttOptions:
    return MqttOptions("127.0.0.1", broker.port, retry_first_s=0.05, retry_longest_s=0.2, refused_s=0.2)


def agent(*cameras: CameraStatus) -> AgentStatus:
    return AgentStatus(cameras, (), 1.0, 0.5, 10**8)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker").start()
    yield broker
    broker.stop()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker.port)
    yield listener
    listener.close()


def test_each_event_arrives_once_and_in_order(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    sink = MqttSink(options(broker), site="shop", spool=tmp_path / "spool.sqlite")
    sent = events(500)
    for start in range(0, 500, 50):
        sink.write(sent[start : start + 50])
    wait_until(lambda: sink.status().written == 500)
    assert sink.status().waiting == 0
    sink.close()
    wait_until(lambda: listener.payloads("/status") == [b"online", b"offline"])
    assert [EVENTS.validate_json(p) for p in listener.payloads("edge/shop/door/events")] == sent
    assert len(listener.heard) == 502


def test_close_hands_over_what_waits(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    sink = MqttSink(options(broker), site="shop", spool=tmp_path / "spool.sqlite")
    sink.write(events(300))
    sink.close()
    assert sink.status().waiting == 0
    wait_until(lambda: len(listener.payloads("/events")) == 300)


def test_state_is_retained_and_told_when_it_changes(broker: Broker, tmp_path: Path) -> None:
    sink = MqttSink(options(broker), site="shop", spool=tmp_path / "spool.sqlite")
    door = CameraStatus(
        "door",
        CameraState.ONLINE,
        inferred_fps=9.87,
        occupancy={"aisle": 2},
        crossings={"door": {"in": 3, "out": 1}},
    )
    sink.report(agent(door))
    early = Listener(broker.port, "edge/shop/+/state")
    wait_until(lambda: len(early.heard) == 1)
    sink.report(agent(door, CameraStatus("till", CameraState.OFFLINE, reason="unplugged")))
    wait_until(lambda: len(early.heard) == 2)
    changed = replace(door, occupancy={"aisle": 1})
    sink.report(agent(changed, CameraStatus("till", CameraState.OFFLINE, reason="unplugged")))
    wait_until(lambda: len(early.heard) == 3)
    early.close()
    late = Listener(broker.port, "edge/shop/+/state")
    wait_until(lambda: len(late.heard) == 2)
    late.close()
    sink.close()
    assert all(retained for _, _, retained in late.heard)
    states = {topic: json.loads(payload) for topic, payload, _ in late.heard}
    assert states["edge/shop/till/state"]["reason"] == "unplugged"
    assert states["edge/shop/door/state"] == {
        "v": 1,
        "camera": "door",
        "state": "online",
        "reason": "",
        "health": [],
        "fps": 9.9,
        "occupancy": {"aisle": 1},
        "crossings": {"door": {"in": 3, "out": 1}},
    }


def test_a_camera_that_was_removed_counts_nobody_any_more(broker: Broker, tmp_path: Path) -> None:
    sink = MqttSink(options(broker), site="shop", spool=tmp_path / "spool.sqlite")
    door = CameraStatus("door", CameraState.ONLINE, occupancy={"aisle": 2})
    till = CameraStatus("till", CameraState.ONLINE, occupancy={"queue": 5})
    listener = Listener(broker.port, "edge/shop/till/state")
    sink.report(agent(door, till))
    wait_until(lambda: len(listener.heard) == 1)
    for _ in range(3):
        sink.report(agent(door))
    wait_until(lambda: len(listener.heard) == 2)
    sink.report(agent(door, till))
    wait_until(lambda: len(listener.heard) == 3)
    listener.close()
    sink.close()
    states = [json.loads(payload) for _, payload, _ in listener.heard]
    assert [(state["state"], state["occupancy"]["queue"]) for state in states] == [
        ("online", 5),
        ("stopped", 0),
        ("online", 5),
    ]
    assert states[1]["reason"] == "the camera was removed"


def test_names_that_are_topic_signs_stay_one_level(
    broker: Broker, listener: Listener, tmp_path: Path
) -> None:
    sink = MqttSink(options(broker), site="a/b", spool=tmp_path / "spool.sqlite")
    sink.write(events(1, camera="+/#"))
    wait_until(lambda: len(listener.payloads("edge/a_b/___/events")) == 1)
    sink.close()


def test_a_missing_certificate_is_said(tmp_path: Path) -> None:
    options = MqttOptions("localhost", tls=Tls(ca_file=tmp_path / "none.crt"))
    with pytest.raises(ConfigError, match=r"none\.crt"):
        MqttSink(options, site="shop", spool=tmp_path / "spool.sqlite")


@pytest.mark.filterwarnings(
    "ignore:.*ssl.SSLSocket"
)  # paho leaves closing it after a bad handshake to Python
def test_tls_checks_the_broker(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "broker.pem"
    make = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(make.split(), check=True, capture_output=True)
    tls = f"cafile {certificate}\ncertfile {certificate}\nkeyfile {key}"
    broker = Broker(tmp_path / "broker", tls=tls).start()
    plain = options(broker)
    trusting = MqttSink(
        replace(plain, tls=Tls(ca_file=certificate)), site="shop", spool=tmp_path / "a.sqlite"
    )
    trusting.write(events(200))
    wait_until(lambda: trusting.status().written == 200)
    trusting.close()
    stranger = MqttSink(replace(plain, tls=Tls()), site="other", spool=tmp_path / "b.sqlite")
    stranger.write(events(1))
    wait_until(lambda: "certificate verify failed" in stranger.status().trouble)
    assert stranger.status().waiting == 1
    stranger.close()
    broker.stop()
