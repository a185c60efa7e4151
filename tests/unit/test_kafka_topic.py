"""Events in a topic of brokers that speak Kafka's protocol (tests/simulators/kafka_cluster.py)."""

import builtins
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from edge_runtime.contract.errors import ConfigError, RemoteError
from edge_runtime.sinks.kafka_topic import KafkaOptions, KafkaTopic
from edge_runtime.sinks.pace import RejectedError
from edge_runtime.sinks.spool import Letter
from tests.simulators.broker import free_port, wait_until
from tests.simulators.doings import numbered
from tests.simulators.kafka_cluster import KafkaCluster, KafkaListener

AUTHORIZATION_FAILED, TOO_LARGE = 29, 10


def letters(count: int, *cameras: str) -> list[Letter]:
    events = [event for n in range(count) for camera in cameras for event in numbered(1, n, camera)]
    return [Letter(n, event.camera, event.model_dump_json().encode()) for n, event in enumerate(events)]


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    cluster = KafkaCluster("shop")
    yield cluster
    cluster.close()


def options(cluster: KafkaCluster, timeout_s: float = 10.0) -> KafkaOptions:
    return KafkaOptions((cluster.brokers,), "shop", "main-street", timeout_s=timeout_s)


def heard(cluster: KafkaCluster, count: int) -> list[tuple[str, int]]:
    listener = KafkaListener(cluster)
    wait_until(lambda: len(listener.look()) >= count)
    listener.close()
    return [(key, json.loads(value)["pts_ns"]) for key, value in listener.heard]


def test_a_camera_is_a_key_and_its_events_are_in_order(cluster: KafkaCluster) -> None:
    topic = KafkaTopic(options(cluster))
    topic.send(letters(50, "door", "till", "aisle", "back"))
    topic.close()
    messages = heard(cluster, 200)
    for camera in ("door", "till", "aisle", "back"):
        assert [number for key, number in messages if key == camera] == list(range(50))


def test_what_is_on_its_way_is_not_produced_again(cluster: KafkaCluster) -> None:
    topic = KafkaTopic(options(cluster, timeout_s=0.1))
    cluster.slow(1000)
    batch, tries = letters(20, "door"), 0
    while True:
        try:
            topic.send(batch)
            break
        except RemoteError as error:
            assert error.retryable
            tries += 1
    assert tries > 1
    topic.close()
    cluster.slow(0)
    assert heard(cluster, 20) == [("door", n) for n in range(20)]


def test_brokers_that_are_not_there_are_told() -> None:
    topic = KafkaTopic(KafkaOptions((f"127.0.0.1:{free_port()}",), "shop", timeout_s=1))
    with pytest.raises(RemoteError, match=r"not all events have arrived.*refused") as caught:
        topic.send(letters(1, "door"))
    assert caught.value.retryable
    topic.close()


def test_a_topic_without_rights_is_told_and_sent_to_later(cluster: KafkaCluster) -> None:
    topic = KafkaTopic(options(cluster))
    cluster.refuse(AUTHORIZATION_FAILED, 1)
    with pytest.raises(RemoteError, match="does not let the events in") as caught:
        topic.send(letters(2, "door"))
    assert not caught.value.retryable
    assert not isinstance(caught.value, RejectedError)
    wait_until(lambda: sent(topic, letters(2, "door")))
    topic.close()
    assert heard(cluster, 2) == [("door", 0), ("door", 1)]


def sent(topic: KafkaTopic, batch: list[Letter]) -> bool:
    """Send; the library has to learn of the topic anew after it was refused."""
    try:
        topic.send(batch)
    except RemoteError:
        return False
    return True


def test_an_event_that_is_too_large_is_rejected(cluster: KafkaCluster) -> None:
    topic = KafkaTopic(options(cluster))
    with pytest.raises(RejectedError, match="not taken"):
        topic.send([Letter(1, "door", b"x" * 2_000_000)])
    cluster.refuse(TOO_LARGE, 1)
    with pytest.raises(RejectedError, match="too large"):
        topic.send(letters(1, "door"))
    topic.send(letters(1, "door"))
    topic.close()


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="options are refused"):
        KafkaTopic(KafkaOptions(("localhost:1",), "shop", username="a", password="SECRET", mechanism="NONE"))
    assert "SECRET" not in repr(KafkaOptions(("localhost:1",), "shop", username="a", password="SECRET"))


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "confluent_kafka":
            raise ImportError("No module named 'confluent_kafka'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "confluent_kafka", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"edge-runtime\[kafka\]"):
        KafkaTopic(KafkaOptions(("localhost:1",), "shop"))
