"""Link: one connection to an MQTT 5 broker, from CONNECT to its end, over paho.

Keeps nothing beyond the connection: what was not acknowledged is the caller's to send again. Waits for
nothing but the socket, and tries nothing twice.
"""

import selectors
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_runtime.contract.errors import ConfigError, RemoteError

_CONNECT_S = 5.0
_ANSWER_S = 10.0
_PASSING = frozenset({0x88, 0x89, 0x8B, 0x8D, 0x93, 0x97, 0x98, 0x9F})
"""Reasons that go away by themselves: unavailable, busy, shutting down, keep alive timeout, receive maximum
exceeded, quota exceeded, administrative action, connection rate exceeded (MQTT 5.0, 2.4)."""
_TAKEN_OVER = 0x8E
_DO: Mapping[int, str] = {
    0x84: "This agent speaks MQTT 5: use a broker that does (mosquitto 1.6 or newer)",
    0x86: "Correct the user name or the password",
    0x87: "Check the user name and the password, then the broker's access list",
    _TAKEN_OVER: "Another client has the same id: is a second agent running for this site?",
}


@dataclass(frozen=True, slots=True)
class Tls:
    """How to encrypt.

    Args:
        ca_file: Certificates to trust; None: the system's.
        cert_file: This device's certificate; None: it has none.
        key_file: The key of `cert_file`.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            ConfigError: One of them is missing or is not what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(f) for f in (self.ca_file, self.cert_file, self.key_file) if f is not None)
            raise ConfigError(f"mqtt certificates {files}", got=str(error), do="Check the paths") from error
        return context


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker and who we are to it.

    Args:
        host: Name or address.
        port: TCP port.
        client_id: Unique on the broker.
        username: None: none is sent.
        password: None: none is sent.
        tls: None: plain TCP.
        keepalive_s: A silent connection is probed, and given up after one and a half of these.
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    keepalive_s: int = 30

    def __str__(self) -> str:
        return f"mqtt{'' if self.tls is None else 's'}://{self.host}:{self.port}"

    def __repr__(self) -> str:
        return str(self)


class Link:
    """One connection. Belongs to one thread; a byte on `wake` ends a `poll` early.

    Args:
        broker: Where to connect to.
        context: Of the broker's TLS; None: plain TCP.
        availability: Topic that says, retained, "online" while connected and else "offline": the last will.
        wake: The reading end of a socket pair.
    """

    def __init__(
        self, broker: Broker, context: ssl.SSLContext | None, availability: str, wake: socket.socket
    ) -> None:
        self._broker = broker
        self._availability = availability
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._connected = False
        self._end: ReasonCode | None = None
        self._refusal: ReasonCode | None = None
        self._settled: list[int] = []
        self.receive_maximum = 65_535
        """Publications the broker lets us have unacknowledged."""
        self._client = self._new_client(context)

    def open(self) -> None:
        """Connect, say "online", and wait for the broker's word on both.

        A broker without rights for this user says so here, before any event is sent.

        Raises:
            RemoteError: No broker, no network, or a refusal; says whether trying again can help.
        """
        try:
            self._client.connect(self._broker.host, self._broker.port, self._broker.keepalive_s)
        except (OSError, UnicodeError) as error:  # the latter: a host name that cannot be one
            raise RemoteError(
                f"{self._broker}: cannot connect",
                retryable=not isinstance(error, ssl.SSLError),
                got=getattr(error, "strerror", None) or str(error) or type(error).__name__,
                do="Check that the broker runs and can be reached; events wait on disk",
            ) from error
        self._selector.register(self._socket(), selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        deadline = time.monotonic() + _ANSWER_S
        self._await(lambda: self._connected, deadline)
        self.publish(self._availability, b"online", retain=True)
        self._await(lambda: len(self._settled) > 0, deadline)
        self._settled.clear()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Hand a message to the connection.

        Returns:
            Its packet id, for `settled`.

        Raises:
            RemoteError: The connection ended.
        """
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._ended()
        return info.mid

    def poll(self, timeout_s: float) -> None:
        """Wait for something to happen on the wire, or for `wake`, and deal with it.

        Raises:
            RemoteError: The connection ended, or the broker refused a message.
        """
        self._selector.modify(
            self._socket(), selectors.EVENT_READ | (selectors.EVENT_WRITE if self._client.want_write() else 0)
        )
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._wake:
                self._wake.recv(4096)
                continue
            if events & selectors.EVENT_READ:
                self._read()
            if events & selectors.EVENT_WRITE:
                self._client.loop_write()
        self._client.loop_misc()
        self._socket()

    def settled(self) -> list[int]:
        """Take the packet ids that the broker acknowledged since the last call."""
        settled, self._settled = self._settled, []
        return settled

    def close(self) -> None:
        """Say "offline" where that is still possible, disconnect and release everything."""
        if self._connected and self._client.socket() is not None:
            self._client.publish(self._availability, b"offline", 1, retain=True)
        self._client.disconnect()
        self._selector.close()

    def _await(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            if time.monotonic() >= deadline:
                raise RemoteError(
                    f"{self._broker}: no answer",
                    retryable=True,
                    do="Check that an MQTT broker listens on this port; events wait on disk",
                )
            self.poll(max(0.0, deadline - time.monotonic()))

    def _new_client(self, context: ssl.SSLContext | None) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._broker.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_S
        client.max_inflight_messages = 0
        client.will_set(self._availability, b"offline", qos=1, retain=True)
        if self._broker.username is not None or self._broker.password is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        if context is not None:
            client.tls_set_context(context)
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end = reason
            return
        self.receive_maximum = int(getattr(properties, "ReceiveMaximum", self.receive_maximum))
        self._connected = True

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        # A refusal in CONNACK is followed by a close that says less.
        self._end = self._end or reason

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refusal = self._refusal or reason
        else:
            self._settled.append(mid)

    def _socket(self) -> socket.socket:
        connection: Any = self._client.socket()
        if connection is None or self._end is not None or self._refusal is not None:
            raise self._ended()
        return connection

    def _read(self) -> None:
        self._client.loop_read()
        # What TLS has decrypted already no selector sees.
        connection = self._client.socket()
        while isinstance(connection, ssl.SSLSocket) and connection.pending():
            self._client.loop_read()
            connection = self._client.socket()

    def _ended(self) -> RemoteError:
        if self._refusal is not None:
            # Some brokers hang up right after it, and that would say less.
            return RemoteError(
                f"{self._broker}: a message was refused",
                retryable=False,
                got=str(self._refusal),
                do="Allow this user to publish under the prefix; events wait on disk",
            )
        code = 0 if self._end is None else int(self._end.value)
        said_by_broker = code > 0x80
        hint = "Events wait on disk; if it happens again and again, look for a second agent of this site"
        return RemoteError(
            f"{self._broker}: {'connection ended' if self._connected else 'connection refused'}",
            retryable=not said_by_broker or code in _PASSING,
            got=str(self._end) if said_by_broker else "the connection was lost",
            do=_DO.get(code, hint),
        )


def _no_delay(_client: Client, _data: Any, connection: Any) -> None:
    # Acknowledgements of small messages would otherwise wait for Nagle's algorithm.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
