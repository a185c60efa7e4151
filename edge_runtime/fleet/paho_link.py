"""The link to the broker, over paho: MQTT 5, TLS with a certificate of the device's own, one thread.

Connects, connects again with growing pauses, and says what happened. A session on the broker lives on for a
while after a connection ends, so that commands that are not too old find the device when it is back. Keeps no
queue of its own: what a connection took with it is the caller's to send again. Knows no message's meaning.
"""

import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_runtime.contract.fleet import MESSAGE_MAX_BYTES
from edge_runtime.fleet.ports import Connected, Happened, Lost, Message, Post, Settled

log = logging.getLogger(__name__)

_CONNECT_S = 10.0
_PROVEN_S = 30.0
"""A connection that lasted for less does not count as one that worked: two devices under one name would
otherwise take it from each other without a pause."""
_UNPROVEN = 3
"""Failures that are remembered after one that was short."""
_FAREWELL_S = 2.0
_INCOMING = 16
"""Messages that the broker may have under way to us."""
_PACKET_BYTES = 4 * MESSAGE_MAX_BYTES
"""Longer packets the broker keeps to itself; between this and what a message may have, they are refused here,
with a word to the manager."""
_NO_SUBSCRIBER = 0x10


@dataclass(frozen=True, slots=True)
class Certificates:
    """What TLS needs. The files are read at each connection, so that renewed ones count from the next one on.

    Args:
        ca_file: Certificates that the broker's is checked against.
        cert_file: This device's certificate.
        key_file: The key of `cert_file`.
    """

    ca_file: Path
    cert_file: Path
    key_file: Path

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            OSError: One of them is missing or is not what it should be.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _ClosingSocket
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """A broker and who we are to it.

    Args:
        host: Name or address.
        port: TCP port.
        client_id: Unique on the broker.
        certificates: None: plain TCP, for a broker on this machine.
        answer_s: From the first packet to the broker's word on our subscriptions, before it is given up.
        keepalive_s: A silent connection is probed after this, and given up after twice this.
        session_s: The broker keeps our subscriptions and what came for so long after a connection ended.
        will_delay_s: The last will is said so long after a connection broke, if we are not back by then.
        retry_first_s: Pause after the first failure; doubles.
        retry_longest_s: It does not double further.
    """

    host: str
    port: int
    client_id: str
    certificates: Certificates | None
    answer_s: float = 15.0
    keepalive_s: int = 20
    session_s: int = 3600
    will_delay_s: int = 10
    retry_first_s: float = 0.5
    retry_longest_s: float = 30.0

    def __str__(self) -> str:
        return f"mqtt{'' if self.certificates is None else 's'}://{self.host}:{self.port}"


class PahoLink:
    """Implements `Link`.

    Args:
        options: The broker and who we are.
        subscriptions: Topics, all with QoS 1.
        will: What the broker says for us when the connection breaks.
        dice: Gives numbers in [0, 1) that spread connections.
    """

    def __init__(
        self, options: LinkOptions, subscriptions: Sequence[str], will: Post, *, dice: Callable[[], float]
    ) -> None:
        self._options = options
        self._subscriptions = subscriptions
        self._will = will
        self._dice = dice
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._client: Client | None = None
        self._registered: socket.socket | None = None
        self._happened: list[Happened] = []
        self._end: str | None = None
        self._admitted = False
        self._subscribed = False
        self._since_s = time.monotonic()
        self._retry_s = self._since_s
        self._failures = 0

    def poll(self, timeout_s: float) -> Sequence[Happened]:
        """See `Link`."""
        if self._client is None and time.monotonic() >= self._retry_s:
            self._connect()
        self._wait(min(timeout_s, self._time_left_s()))
        if self._client is not None:
            self._check()
        happened, self._happened = self._happened, []
        return happened

    def publish(self, post: Post) -> int | None:
        """See `Link`."""
        if self._client is None or not self._admitted:
            return None
        info = self._client.publish(post.topic, post.payload, 1, post.retain, _properties(post))
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def wake(self) -> None:
        """See `Link`."""
        with suppress(BlockingIOError, OSError):  # it rings already; or it is closed
            self._bell.send(b"!")

    def close(self, farewell: Post) -> None:
        """See `Link`."""
        ticket = self.publish(farewell)
        until_s = time.monotonic() + _FAREWELL_S
        while ticket is not None and time.monotonic() < until_s:
            if any(isinstance(each, Lost) or each == Settled(ticket) for each in self.poll(0.1)):
                break
        if self._client is not None:
            self._client.disconnect()
            self._drop()
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def _time_left_s(self) -> float:
        """Seconds until this has something to do by itself."""
        now_s = time.monotonic()
        if self._client is None:
            return max(0.0, self._retry_s - now_s)
        if self._happened or self._end is not None:
            return 0.0
        return 1.0 if self._subscribed else max(0.0, self._since_s + self._options.answer_s - now_s)

    def _connect(self) -> None:
        self._end, self._admitted, self._subscribed = None, False, False
        self._since_s = time.monotonic()
        try:
            client = self._new_client()
            client.connect(
                self._options.host,
                self._options.port,
                self._options.keepalive_s,
                clean_start=False,
                properties=_session(self._options.session_s),
            )
        except (OSError, ValueError) as error:  # the latter: a host name that cannot be one
            self._lose(f"cannot connect: {getattr(error, 'strerror', None) or error or type(error).__name__}")
            return
        self._client = client

    def _wait(self, timeout_s: float) -> None:
        connection: Any = None if self._client is None else self._client.socket()
        if connection is not self._registered:
            self._unregister()
            if connection is not None:
                self._selector.register(connection, selectors.EVENT_READ)
                self._registered = connection
        if connection is not None and self._client is not None:
            writing = selectors.EVENT_WRITE if self._client.want_write() else 0
            self._selector.modify(connection, selectors.EVENT_READ | writing)
        for key, events in self._selector.select(max(0.0, timeout_s)):
            if key.fileobj is self._ear:
                with suppress(BlockingIOError):
                    self._ear.recv(4096)
            elif self._client is not None:
                self._exchange(self._client, events)

    def _exchange(self, client: Client, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                client.loop_read()
                # What TLS has decrypted already no selector sees.
                connection = client.socket()
                while isinstance(connection, ssl.SSLSocket) and connection.pending():
                    client.loop_read()
                    connection = client.socket()
            if events & selectors.EVENT_WRITE:
                client.loop_write()
        except Exception as error:  # paho's reader meets whatever a broker sends
            log.debug("what the broker sent cannot be read", exc_info=error)
            self._end = self._end or f"the broker sent what cannot be read ({error})"

    def _check(self) -> None:
        client = self._client
        if client is None:
            return
        client.loop_misc()
        late = not self._subscribed and time.monotonic() >= self._since_s + self._options.answer_s
        if late and self._end is None:
            self._end = "the broker does not answer"
        if self._end is None and client.socket() is None:
            self._end = "the connection was lost"
        if self._end is not None:
            if self._subscribed:
                proven = time.monotonic() - self._since_s >= _PROVEN_S
                self._failures = 0 if proven else min(self._failures, _UNPROVEN)
            self._drop()
            self._lose(self._end)

    def _lose(self, reason: str) -> None:
        pause_s = min(
            self._options.retry_longest_s, self._options.retry_first_s * 2.0 ** min(self._failures, 16)
        )
        self._failures += 1
        self._retry_s = time.monotonic() + pause_s * (0.5 + self._dice() / 2)
        self._happened.append(Lost(f"{self._options}: {reason}"))

    def _drop(self) -> None:
        """Let the connection go without a word."""
        self._unregister()
        client, self._client, self._admitted = self._client, None, False
        connection: Any = None if client is None else client.socket()
        if connection is not None:
            with suppress(OSError):
                connection.close()

    def _unregister(self) -> None:
        if self._registered is not None:
            with suppress(KeyError, ValueError):  # closed by paho already
                self._selector.unregister(self._registered)
            self._registered = None

    def _new_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._options.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_S
        client.max_inflight_messages = 0
        will = _properties(self._will, PacketTypes.WILLMESSAGE)
        will.WillDelayInterval = self._options.will_delay_s
        client.will_set(self._will.topic, self._will.payload, 1, self._will.retain, will)
        if self._options.certificates is not None:
            client.tls_set_context(self._options.certificates.context())
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _on_connect(
        self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end = f"refused by the broker: {reason}"
            return
        self._admitted = True  # answers to what a kept session brings need not wait for the subscriptions
        # In every session anew: one that a broker lost, or kept from an older agent, is then whole again.
        client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._subscriptions])

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._end = f"the broker refused a subscription: {refused[0]}"
            return
        self._subscribed = True
        self._happened.append(Connected())

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        properties = message.properties
        expiry_s = getattr(properties, "MessageExpiryInterval", None)
        self._happened.append(
            Message(
                topic=message.topic,
                payload=bytes(message.payload),
                retained=message.retain,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                expiry_s=None if expiry_s is None else float(expiry_s),
            )
        )

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        nobody = reason.is_failure or reason.value == _NO_SUBSCRIBER
        self._happened.append(Settled(mid, str(reason) if nobody else None))

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        # A refusal in CONNACK is followed by a close that says less.
        said_by_broker = int(reason.value) > 0x80
        self._end = self._end or (str(reason) if said_by_broker else "the connection was lost")


class _ClosingSocket(ssl.SSLSocket):
    """Closed when it cannot shake hands: paho lets go of it as it is."""

    def do_handshake(self, block: bool = False) -> None:
        """As in the class above."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _session(session_s: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = session_s
    properties.ReceiveMaximum = _INCOMING
    properties.MaximumPacketSize = _PACKET_BYTES
    return properties


def _properties(post: Post, kind: int = PacketTypes.PUBLISH) -> Properties:
    properties = Properties(kind)
    if post.correlation is not None:
        properties.CorrelationData = post.correlation
    if post.expiry_s is not None:
        properties.MessageExpiryInterval = post.expiry_s
    return properties


def _no_delay(_client: Client, _data: Any, connection: Any) -> None:
    # Acknowledgements of small messages would otherwise wait for Nagle's algorithm.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
