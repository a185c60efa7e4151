"""The operator over a real mosquitto: a rollout, a command, and a broker that forgets everything."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cloud_fallback.fleet.database import deployments, devices, releases
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.operator import Operator, subscriptions
from cloud_fallback.fleet.paho_bus import BusOptions, PahoBus
from cloud_fallback.fleet.simulation.behaviour import Said, SimulatedDevice
from cloud_fallback.fleet.views import DeploymentNew, ReleaseView
from edge_runtime.contract.fleet import Command
from tests.simulators.broker import MOSQUITTO, Broker, wait_until
from tests.simulators.fleet_desk import TENANT, Notary
from tests.simulators.manager_databases import opened

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"),
]


class Wired:
    """A simulated device on a real connection."""

    def __init__(self, port: int, name: str) -> None:
        self.device = SimulatedDevice(name, TENANT, "store-pc", 0.5)
        self._lock = threading.Lock()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def versions(self) -> list[str | None]:
        return [each.version for each in self.device.have()]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe([(each, 1) for each in self.device.topics.taken()])
        with self._lock:
            self._say(self.device.connected(time.time()))

    def _hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        properties = message.properties
        with self._lock:
            outs = self.device.hear(
                message.topic,
                message.payload,
                getattr(properties, "CorrelationData", None),
                getattr(properties, "ResponseTopic", None),
                time.time(),
            )
            self._say(outs)

    def _say(self, outs: Any) -> None:
        for out in outs:
            assert isinstance(out, Said)
            properties = Properties(PacketTypes.PUBLISH)
            if out.correlation is not None:
                properties.CorrelationData = out.correlation
            self._client.publish(out.topic, out.payload, 1, out.retain, properties)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker").start()
    yield made
    made.stop()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened("sqlite", tmp_path) as found:
        yield found


def publish(database: Database, version: str, counter: int) -> None:
    release = ReleaseView(
        kind="model", name="detector", version=version, counter=counter, sha256=f"{counter:064x}",
        size_bytes=10, target=f"model/detector/{counter}-{version}.zip",
        published_at="2026-01-01T00:00:00.000Z", published_by="test",
    )  # fmt: skip
    new = DeploymentNew.model_validate(
        {"name": "detector", "version": version, "pace": {"soak_s": 0.2, "timeout_s": 60}}
    )
    with database.begin() as tx:
        releases.publish(tx, release)
        deployments.create(tx, new, f"to-{version}", "test", time.time())


def test_a_fleet_over_mosquitto(broker: Broker, database: Database) -> None:
    names = [f"d{n}" for n in range(5)]
    with database.begin() as tx:
        for n, name in enumerate(names):
            new = devices.Enrolled(name, "store-pc", "1", "UTC", f"{n:064x}", f"{n}", {})
            devices.enrol(tx, new, time.time(), again=False)
    bus = PahoBus(
        BusOptions("127.0.0.1", broker.port, "manager-a", retry_longest_s=1), subscriptions(TENANT, "a")
    )
    operator = Operator(
        database, bus, Notary(), tenant=TENANT, replica="a", clock=time.time, dice=random.Random(0).random
    )
    operator.start()
    fleet = [Wired(broker.port, name) for name in names]
    try:
        wait_until(lambda: _online(database) == 5)
        publish(database, "1", 1)
        operator.nudge()
        wait_until(lambda: all(each.versions() == ["1"] for each in fleet), 30)
        reply = operator.command("d3", Command(id="c1", name="report"), 10.0)
        assert reply.ok and reply.id == "c1"

        broker.kill()  # it forgets sessions, retained messages and last wills
        publish(database, "2", 2)
        broker.start()
        wait_until(lambda: all(each.versions() == ["2"] for each in fleet), 60)
        wait_until(lambda: _phase(database, "to-2") == "completed", 30)
        figures = operator.figures()
        assert (figures.leads, figures.connected, figures.bad) == (True, True, {})
    finally:
        for each in fleet:
            each.close()
        operator.close()


def _online(database: Database) -> int:
    with database.read() as tx:
        return devices.counts(tx)[1]


def _phase(database: Database, id_: str) -> str:
    with database.read() as tx:
        return deployments.must_find(tx, id_).phase
