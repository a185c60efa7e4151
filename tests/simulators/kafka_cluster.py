"""A Kafka cluster in this process: the mock brokers of librdkafka, which speak Kafka's own protocol over TCP.

They keep topics in memory, know idempotent producers, and can be taken down, be slow, or answer with errors.
They are not Kafka: nothing is on disk, and there are no rights.
Source: https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

confluent_kafka: Any = pytest.importorskip("confluent_kafka")

_PRODUCER = 0
PRODUCE = 0
"""Number of the request (Kafka protocol, API keys)."""


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka-*.so*"))
    if not found:
        pytest.skip("confluent-kafka brings no librdkafka of its own here")
    library = ctypes.CDLL(str(found[0]))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_new", pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_rtt", ctypes.c_int, [pointer, ctypes.c_int32, ctypes.c_int]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KafkaCluster:
    """One broker with one topic of four partitions."""

    def __init__(self, topic: str) -> None:
        self._library = _library()
        said = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        self._client = self._library.rd_kafka_new(_PRODUCER, conf, said, len(said))
        assert self._client, said.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        assert self._cluster
        self.topic = topic
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), 4, 1) == 0
        self.brokers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def down(self) -> None:
        """Refuse and cut connections; the topic is kept."""
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, 1) == 0

    def up(self) -> None:
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, 1) == 0

    def slow(self, ms: int) -> None:
        """Answer so much later."""
        assert self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, ms) == 0

    def refuse(self, error: int, times: int) -> None:
        """Answer the next requests to produce with an error of the protocol."""
        push = self._library.rd_kafka_mock_push_request_errors
        push.restype = None
        errors = [ctypes.c_int(error)] * times
        push(ctypes.c_void_p(self._cluster), ctypes.c_int16(PRODUCE), ctypes.c_size_t(times), *errors)

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


class KafkaListener:
    """Reads a topic from its beginning."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": cluster.brokers,
                "group.id": "listener",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self._consumer.assign(
            [
                confluent_kafka.TopicPartition(cluster.topic, n, confluent_kafka.OFFSET_BEGINNING)
                for n in range(4)
            ]
        )

    def look(self) -> list[tuple[str, bytes]]:
        """Give all that came so far: key and value."""
        for message in self._consumer.consume(500, timeout=0.2):
            if message.error() is None:
                self.heard.append((message.key().decode(), message.value()))
        return self.heard

    def close(self) -> None:
        self._consumer.close()


def kafka_cluster(topic: str) -> Iterator[KafkaCluster]:
    """A cluster for the body of a fixture."""
    cluster = KafkaCluster(topic)
    yield cluster
    cluster.close()
