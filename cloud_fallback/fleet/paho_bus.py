"""The manager's connection to the broker, over paho: MQTT 5, TLS with a certificate, a session that lasts.

A message is acknowledged when it is in the database, not when it came: what a manager that is killed had not
written down, the broker sends again. Knows no message's meaning.
"""

import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from cloud_fallback.fleet.bus import Heard, Post
from cloud_fallback.fleet.expelling import Expeller
from edge_runtime.contract.fleet import MESSAGE_MAX_BYTES

log = logging.getLogger(__name__)

_INCOMING = 20_000
"""Messages that the broker may have under way to us: a fleet that reports at once."""
_QOS = 1


@dataclass(frozen=True, slots=True)
class BusOptions:
    """A broker and who we are to it.

    Args:
        host: Name or address.
        port: TCP port.
        client_id: Unique on the broker, and the same after a restart.
        tls: None: plain TCP, for a broker on this machine.
        keepalive_s: A silent connection is probed after this.
        session_s: The broker keeps what comes for us for so long.
        retry_longest_s: Pause between attempts to connect; the first one is a second.
    """

    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext | None = None
    keepalive_s: int = 20
    session_s: int = 86400
    retry_longest_s: int = 15

    def __str__(self) -> str:
        return f"mqtt{'' if self.tls is None else 's'}://{self.host}:{self.port}"


class PahoBus:
    """Implements `Bus`.

    Args:
        options: The broker and who we are.
        subscriptions: Topic filters, all with QoS 1.
    """

    def __init__(self, options: BusOptions, subscriptions: Sequence[str]) -> None:
        self._options = options
        self._subscriptions = tuple(subscriptions)
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        self._hear: Callable[[Heard], None] | None = None
        self._joined: Callable[[], None] | None = None
        self._expeller = Expeller(options.host, options.port, options.tls)
        self._connection = 0
        self._subscribed = False

    @property
    def connected(self) -> bool:
        """See `Bus`."""
        return self._subscribed

    def start(self, hear: Callable[[Heard], None], joined: Callable[[], None]) -> None:
        """See `Bus`."""
        self._hear, self._joined = hear, joined
        client, options = self._client, self._options
        client.max_inflight_messages = 0
        client.max_queued_messages = 0
        client.reconnect_delay_set(1, options.retry_longest_s)
        if options.tls is not None:
            client.tls_set_context(options.tls)
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = options.session_s
        session.ReceiveMaximum = _INCOMING
        session.MaximumPacketSize = 4 * MESSAGE_MAX_BYTES
        client.connect_async(
            options.host, options.port, options.keepalive_s, clean_start=False, properties=session
        )
        client.loop_start()

    def publish(self, post: Post) -> bool:
        """See `Bus`."""
        if not self._subscribed:
            return False
        info = self._client.publish(post.topic, post.payload, _QOS, post.retain, _properties(post))
        return info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def settle(self, heard: Iterable[Heard]) -> None:
        """See `Bus`."""
        for each in heard:
            if each.ticket is not None and each.ticket[0] == self._connection:
                self._client.ack(each.ticket[1], _QOS)

    def expel(self, clients: Sequence[str], forget: Sequence[str]) -> None:
        """See `Bus`."""

        def then() -> None:
            for topic in forget:
                self.publish(Post(topic, b"", retain=True))

        self._expeller.expel(clients, then)

    def close(self) -> None:
        """See `Bus`."""
        self._expeller.close()
        self._subscribed = False
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            log.warning("%s: refused: %s", self._options, reason)
            return
        # Numbers of messages begin anew with a connection; an old one must not settle a new message.
        self._connection += 1
        client.subscribe([(each, SubscribeOptions(qos=_QOS)) for each in self._subscriptions])

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [
            f"{topic} ({reason})"
            for topic, reason in zip(self._subscriptions, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            log.error("%s: subscriptions refused: %s", self._options, ", ".join(refused))
            return
        self._subscribed = True
        if self._joined is not None:
            self._joined()

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if self._subscribed:
            log.warning("%s: connection lost: %s", self._options, reason)
        self._subscribed = False

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        ticket = (self._connection, message.mid) if message.qos else None
        correlation = getattr(message.properties, "CorrelationData", None)
        if self._hear is not None:
            self._hear(Heard(message.topic, bytes(message.payload), message.retain, correlation, ticket))


def _properties(post: Post) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    if post.response_topic is not None:
        properties.ResponseTopic = post.response_topic
    if post.correlation is not None:
        properties.CorrelationData = post.correlation
    if post.expiry_s is not None:
        properties.MessageExpiryInterval = post.expiry_s
    return properties


def _no_delay(_client: Client, _data: Any, connection: Any) -> None:
    # Acknowledgements of small messages would otherwise wait for Nagle's algorithm.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
