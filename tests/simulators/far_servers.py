"""The three kinds of servers that sinks send events on to, each real, each able to go away and come back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from edge_runtime.agent.forwarders import forwarder_of
from edge_runtime.settings import AgentSettings
from edge_runtime.settings.outgoing import OutgoingSinkSettings
from edge_runtime.sinks.forwarding import Forwarder
from tests.simulators.receiver import Receiver
from tests.simulators.redis_server import REDIS, RedisServer


class FarServer(Protocol):
    """One server."""

    sink: dict[str, Any]
    """What `store.yaml` says of it."""

    def away(self) -> None: ...

    def back(self) -> None: ...

    def heard(self) -> list[tuple[str, int]]:
        """Camera and number of every event that it acknowledged, in its order."""
        ...

    def close(self) -> None: ...


class FarWebhook:
    def __init__(self, folder: Path) -> None:
        self.receiver = Receiver()
        self.sink = {"type": "webhook", "url": self.receiver.url, "secret": "0123456789abcdef"}

    def away(self) -> None:
        self.receiver.close()

    def back(self) -> None:
        old = self.receiver
        self.receiver = Receiver(port=old.port, deliveries=old.deliveries, taken=old.taken)

    def heard(self) -> list[tuple[str, int]]:
        return [("door", number) for number in self.receiver.taken]

    def close(self) -> None:
        self.receiver.close()


class FarRedis:
    def __init__(self, folder: Path) -> None:
        if REDIS is None:
            pytest.skip("redis-server is not installed: apt install redis-server")
        self._redis = pytest.importorskip("redis")
        self.server = RedisServer(folder / "redis").start()
        self.sink = {"type": "redis", "host": "127.0.0.1", "port": self.server.port}

    def client(self) -> Any:
        return self._redis.Redis(port=self.server.port)

    def away(self) -> None:
        self.server.kill()

    def back(self) -> None:
        self.server.start()

    def heard(self) -> list[tuple[str, int]]:
        with self.client() as client:
            entries = client.xrange("edge:shop:events")
        return [(e[b"camera"].decode(), json.loads(e[b"event"])["pts_ns"]) for _, e in entries]

    def close(self) -> None:
        self.server.stop()


class FarKafka:
    def __init__(self, folder: Path) -> None:
        pytest.importorskip("confluent_kafka")
        from tests.simulators.kafka_cluster import KafkaCluster, KafkaListener

        self.cluster = KafkaCluster("events")
        self._listener = KafkaListener(self.cluster)
        self.sink = {"type": "kafka", "brokers": [self.cluster.brokers], "topic": "events"}

    def away(self) -> None:
        self.cluster.down()

    def back(self) -> None:
        self.cluster.up()

    def heard(self) -> list[tuple[str, int]]:
        return [(key, json.loads(value)["pts_ns"]) for key, value in self._listener.look()]

    def close(self) -> None:
        self._listener.close()
        self.cluster.close()


KINDS: dict[str, Callable[[Path], FarServer]] = {
    "webhook": FarWebhook,
    "redis": FarRedis,
    "kafka": FarKafka,
}


def store(state_dir: Path, *sinks: dict[str, Any]) -> AgentSettings:
    """Settings of a store with these sinks and no camera."""
    return AgentSettings.model_validate(
        {
            "version": 1,
            "site": "shop",
            "state_dir": state_dir,
            "models": {"people": {"bundle": "efficientdet-lite0"}},
            "sinks": sinks,
        }
    )


def sink_of(state_dir: Path, sink: dict[str, Any]) -> Forwarder:
    """Open such a sink, as an agent does."""
    settings = store(state_dir, sink)
    only = settings.sinks[0]
    assert isinstance(only, OutgoingSinkSettings)
    return forwarder_of(only, settings)


def first_of_each(heard: list[tuple[str, int]]) -> list[int]:
    """Drop what came twice, as a reader does by its id."""
    return list(dict.fromkeys(number for _, number in heard))
