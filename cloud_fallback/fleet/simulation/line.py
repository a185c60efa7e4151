"""A simulated device's connection to the broker: a socket that never blocks, TLS, and MQTT on top.

Knows no device: it says what came, and takes what is to be sent. Does not connect again by itself.
"""

import selectors
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cloud_fallback.fleet.simulation.wire import (
    GOODBYE,
    PING,
    Kind,
    Packet,
    Reader,
    acknowledge,
    connect,
    publish,
    subscribe,
)
from edge_runtime.contract.errors import RemoteError

_READ_BYTES = 1 << 16
_IDS = 0xFFFF


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a connection begins with.

    Args:
        client_id: Unique on the broker.
        subscriptions: With QoS 1.
        will_topic: Of the retained last will.
        will: What the broker says for the device.
        keepalive_s: The broker gives up a connection that is silent for one and a half of these.
        session_s: It keeps subscriptions for so long after a connection.
    """

    client_id: str
    subscriptions: Sequence[str]
    will_topic: str
    will: bytes
    keepalive_s: int = 60
    session_s: int = 3600


class Line:
    """One connection.

    Args:
        address: Of the broker.
        context: Of TLS, with the device's certificate; None: plain TCP.
        greeting: What it begins with.

    Raises:
        RemoteError: There is no connection to be had.
    """

    __slots__ = (
        "_greeting", "_numbers", "_out", "_reader", "_shaking", "_tls", "_writes_to_read", "ready", "socket",
        "unsettled",
    )  # fmt: skip

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext | None, greeting: Greeting) -> None:
        try:
            plain = socket.create_connection(address, timeout=5.0)
        except OSError as error:
            raise RemoteError(f"{address[0]}:{address[1]}: cannot connect", retryable=True) from error
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = context is not None
        self._shaking = self._tls
        self.socket = (
            context.wrap_socket(plain, server_hostname=address[0], do_handshake_on_connect=False)
            if context is not None
            else plain
        )
        self._greeting = greeting
        self._reader = Reader()
        self._numbers = 0
        self._writes_to_read = False
        self.ready = False
        """Whether the broker knows what this subscribes to."""
        self.unsettled: set[int] = set()
        """Packet ids that the broker has not acknowledged yet."""
        self._out = bytearray(
            connect(
                greeting.client_id,
                keepalive_s=greeting.keepalive_s,
                session_s=greeting.session_s,
                will_topic=greeting.will_topic,
                will=greeting.will,
            )
        )

    @property
    def events(self) -> int:
        """What to wait for, as `selectors` has it."""
        writing = selectors.EVENT_WRITE if (self._out and not self._shaking) or self._writes_to_read else 0
        return selectors.EVENT_READ | writing

    def publish(self, topic: str, payload: bytes, *, retain: bool, correlation: bytes | None) -> int:
        """Put a message on its way; gives its packet id."""
        number = self._number()
        self.unsettled.add(number)
        self._out += publish(topic, payload, number, retain=retain, correlation=correlation)
        return number

    def flush(self) -> None:
        """Send what can be sent at once.

        Raises:
            RemoteError: The connection has ended.
        """
        try:
            if not self._shaking:
                self._send()
        except OSError as error:
            raise _ended(error) from error

    def ping(self) -> None:
        """Show that this is alive."""
        if self.ready:
            self._out += PING

    def work(self) -> list[Packet]:
        """Read and write what can be; gives the publications and acknowledgements that came.

        Raises:
            RemoteError: The connection has ended.
        """
        came: list[Packet] = []
        try:
            if self._shaking and not self._shake():
                return []
            self._send()
            for data in self._receive():
                for packet in self._reader.feed(data):
                    self._take(packet, came)
            self._send()
        except OSError as error:
            raise _ended(error) from error
        return came

    def close(self, *, politely: bool) -> None:
        """End it; politely: the last will is not said."""
        if politely and self.ready:
            self._out += GOODBYE
            with suppress(OSError):
                self._send()
        with suppress(OSError):
            self.socket.close()

    def _shake(self) -> bool:
        connection = self.socket
        if not isinstance(connection, ssl.SSLSocket):
            return True
        self._writes_to_read = False
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._writes_to_read = True
            return False
        self._shaking = False
        return True

    def _send(self) -> None:
        while self._out:
            try:
                sent = self.socket.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._out[:sent]

    def _receive(self) -> list[bytes]:
        """Read all that is here; what TLS has decrypted already no selector sees."""
        came: list[bytes] = []
        while True:
            try:
                data = self.socket.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return came
            if not data:
                if came:
                    return came  # what came last still counts; the end is met at the next look
                raise ConnectionResetError("closed by the broker")
            came.append(data)
            if not self._tls and len(data) < _READ_BYTES:
                return came

    def _take(self, packet: Packet, came: list[Packet]) -> None:
        if packet.kind is Kind.PUBLISH:
            if packet.number:
                self._out += acknowledge(packet.number)
            came.append(packet)
        elif packet.kind is Kind.PUBACK:
            self.unsettled.discard(packet.number)
            came.append(packet)
        elif packet.kind is Kind.CONNACK and packet.reason < 0x80:
            self._out += subscribe(self._greeting.subscriptions, self._number())
        elif packet.kind is Kind.SUBACK and packet.reason < 0x80:
            self.ready = True
        elif packet.kind is not Kind.PINGRESP:
            raise RemoteError(
                f"mqtt: {packet.kind.name} from the broker",
                retryable=True,
                got=f"reason 0x{packet.reason:02x}",
            )

    def _number(self) -> int:
        self._numbers = self._numbers % _IDS + 1
        return self._numbers


def _ended(error: OSError) -> RemoteError:
    return RemoteError("mqtt: the connection has ended", retryable=True, got=str(error))
