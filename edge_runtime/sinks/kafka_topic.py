"""KafkaTopic: events as messages of a Kafka topic; the camera is the key, so its events stay in order.

Sends; keeps and repeats nothing beyond what is on its way: `Forwarder` does. Needs the library
`confluent-kafka`, imported when a topic is made.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import ConfigError, RemoteError
from edge_runtime.sinks.pace import RejectedError
from edge_runtime.sinks.spool import Letter

log = logging.getLogger(__name__)

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """A cluster and how to use it.

    Args:
        brokers: Some of them, as `host:port`.
        topic: Where messages go.
        site: This store; part of the client's id.
        username: For SASL; None: no login.
        password: For SASL.
        mechanism: Of SASL.
        tls: Whether to encrypt, and to check the brokers' certificates.
        ca_file: Certificates to trust; None: the system's.
        cert_file: This device's certificate.
        key_file: Its key.
        timeout_s: How long one batch is waited for; it stays on its way beyond.
    """

    brokers: tuple[str, ...]
    topic: str
    site: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = "SCRAM-SHA-512"
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    timeout_s: float = 10.0


class KafkaTopic:
    """Produces to one topic. Belongs to one thread.

    An idempotent producer with all acknowledgements: what it hands over while it lives is there once, and in
    order. After a restart a batch that was on its way is sent again.

    Args:
        options: Where and how.

    Raises:
        ConfigError: The library is missing, or refuses the options.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self.target = f"kafka {options.brokers[0]}"
        self._options = options
        self._kafka = _kafka()
        self._under_way: set[int] = set()
        self._arrived: set[int] = set()
        self._failed: dict[int, Any] = {}
        self._said: Any = None
        self._broken: Any = None
        self._producer = self._new_producer()

    def send(self, letters: Sequence[Letter]) -> None:
        """Produce letters and wait for the brokers' word on each.

        What is still on its way after `timeout_s` stays there, and is not produced again by the next call.

        Raises:
            RejectedError: The brokers will never take one of them.
            RemoteError: They did not all arrive; says whether trying again can help.
        """
        self._failed = {}
        # What the spool has dropped meanwhile nobody asks for again.
        self._arrived = {number for number in self._arrived if number >= letters[0].id}
        for letter in letters:
            if letter.id not in self._under_way and letter.id not in self._arrived:
                self._produce(letter)
        wanted = {letter.id for letter in letters}
        deadline = time.monotonic() + self._options.timeout_s
        while wanted & self._under_way and time.monotonic() < deadline and self._broken is None:
            self._poll()
        if wanted <= self._arrived:
            self._arrived -= wanted
            self._said = None
            return
        raise self._why()

    def close(self) -> None:
        """Give up what is on its way."""
        self._producer.purge()

    def _produce(self, letter: Letter) -> None:
        try:
            self._producer.produce(
                self._options.topic,
                value=letter.payload,
                key=letter.topic.encode(),
                on_delivery=partial(self._told, letter.id),
            )
        except self._kafka.KafkaException as error:
            self._told(letter.id, error.args[0], None)
        else:
            self._under_way.add(letter.id)

    def _told(self, letter: int, error: Any, _message: Any) -> None:
        self._under_way.discard(letter)
        if error is None:
            self._arrived.add(letter)
        else:
            self._failed[letter] = error
            self._heard(error)

    def _poll(self) -> None:
        try:
            self._producer.poll(_LOOK_S)
        except self._kafka.KafkaException as error:
            self._heard(error.args[0])

    def _heard(self, error: Any) -> None:
        self._said = error
        if error.fatal() or error.code() == self._kafka.KafkaError._FATAL:
            self._broken = error

    def _why(self) -> RemoteError:
        if self._broken is not None:
            error = self._broken
            # A producer that has lost count of its messages is of no use any more.
            self.close()
            self._under_way, self._said, self._broken = set(), None, None
            self._producer = self._new_producer()
            return self._error("it lost count of what it got; the rest is sent again", error, retryable=True)
        error = next(iter(self._failed.values()), self._said)
        if error is None:
            return self._error("no broker has acknowledged the events yet", None, retryable=True)
        codes = self._kafka.KafkaError
        wrong = {
            codes.MSG_SIZE_TOO_LARGE,
            codes.INVALID_MSG,
            codes.INVALID_RECORD,
            codes.RECORD_LIST_TOO_LARGE,
        }
        if error.code() in wrong:
            return RejectedError(f"{self.target}: an event is not taken", got=error.str())
        shut = {
            codes._AUTHENTICATION,
            codes.SASL_AUTHENTICATION_FAILED,
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes.CLUSTER_AUTHORIZATION_FAILED,
            codes.TOPIC_EXCEPTION,
            codes._SSL,
            codes._UNKNOWN_TOPIC,
            codes._UNKNOWN_PARTITION,
            codes.UNKNOWN_TOPIC_OR_PART,
        }
        if error.code() in shut:
            return self._error("it does not let the events in", error, retryable=False)
        return self._error("not all events have arrived", error, retryable=True)

    def _error(self, problem: str, error: Any, *, retryable: bool) -> RemoteError:
        do = "Check `brokers`, and that they run" if retryable else "Check `topic`, the login and its rights"
        got = None if error is None else error.str()
        return RemoteError(
            f"{self.target}: {problem}", retryable=retryable, got=got, do=f"{do}; events wait on disk"
        )

    def _new_producer(self) -> Any:
        options = self._options
        settings: dict[str, Any] = {
            "bootstrap.servers": ",".join(options.brokers),
            "client.id": f"edge-runtime-{options.site}",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            # The spool is what gives up; a message that the library gave up would come again out of order.
            "message.timeout.ms": 0,
            "error_cb": self._heard,
            # What goes wrong is told by the sink's status; the library would log each try to connect.
            "log_level": 2,
            "security.protocol": _protocol(options),
        }
        files = {
            "ssl.ca.location": options.ca_file,
            "ssl.certificate.location": options.cert_file,
            "ssl.key.location": options.key_file,
        }
        settings |= {name: str(path) for name, path in files.items() if path is not None}
        if options.username is not None:
            settings |= {
                "sasl.mechanisms": options.mechanism,
                "sasl.username": options.username,
                "sasl.password": options.password or "",
            }
        try:
            return self._kafka.Producer(settings, logger=log)
        except self._kafka.KafkaException as error:
            raise ConfigError(f"{self.target}: the options are refused", got=str(error.args[0])) from error


def _protocol(options: KafkaOptions) -> str:
    login = "SASL_" if options.username is not None else ""
    return f"{login}{'SSL' if options.tls else 'PLAINTEXT'}"


def _kafka() -> Any:
    try:
        import confluent_kafka  # noqa: PLC0415 - only who has such a sink needs it
    except ImportError as error:
        raise ConfigError(
            "a kafka sink needs the library confluent-kafka",
            got=str(error),
            do="Install it: pip install 'edge-runtime[kafka]'",
        ) from error
    return confluent_kafka
