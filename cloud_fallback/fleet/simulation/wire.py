"""MQTT 5 packets of a client, bytes to data and back (OASIS MQTT 5.0, sections 2 and 3). Pure.

Only what a simulated device needs: no QoS 2, no topic aliases, no authentication exchange. A client library
costs tens of kilobytes and several objects a device; this costs a buffer.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from edge_runtime.contract.errors import RemoteError

_SESSION_EXPIRY, _RESPONSE_TOPIC, _CORRELATION = 0x11, 0x08, 0x09
_VARIABLE = -1
_PROPERTY_BYTES = {
    0x01: 1, 0x02: 4, 0x0B: _VARIABLE, 0x11: 4, 0x13: 2, 0x17: 1, 0x18: 4, 0x19: 1, 0x21: 2, 0x22: 2,
    0x23: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
"""Sizes of properties that are numbers (MQTT 5.0, table 2-4); all others have their length in front."""
_PAIR = 0x26


class Kind(IntEnum):
    """Kinds of packets, as in the first four bits."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet from the broker.

    Args:
        kind: What it is.
        reason: Of `CONNACK`, `PUBACK`, `DISCONNECT`; from 0x80 it is a refusal.
        number: Packet id of `PUBLISH`, `PUBACK` and `SUBACK`; 0: it has none.
        topic: Of `PUBLISH`.
        payload: Of `PUBLISH`.
        response_topic: Of `PUBLISH`; None: no answer is expected.
        correlation: Of `PUBLISH`.
    """

    kind: Kind
    reason: int = 0
    number: int = 0
    topic: str = ""
    payload: bytes = b""
    response_topic: str | None = None
    correlation: bytes | None = None


def connect(client_id: str, *, keepalive_s: int, session_s: int, will_topic: str, will: bytes) -> bytes:
    """Make a CONNECT that goes on with the session there is, with a retained last will of QoS 1."""
    flags = 0b0010_1100
    properties = _counted(struct.pack("!BI", _SESSION_EXPIRY, session_s))
    body = _text("MQTT") + bytes((5, flags)) + struct.pack("!H", keepalive_s) + properties
    return _packet(Kind.CONNECT, 0, body + _text(client_id) + _counted(b"") + _text(will_topic) + _data(will))


def publish(
    topic: str, payload: bytes, number: int, *, retain: bool = False, correlation: bytes | None = None
) -> bytes:
    """Make a PUBLISH of QoS 1."""
    properties = b"" if correlation is None else bytes((_CORRELATION,)) + _data(correlation)
    body = _text(topic) + struct.pack("!H", number) + _counted(properties) + payload
    return _packet(Kind.PUBLISH, 0b0010 | retain, body)


def subscribe(topics: Sequence[str], number: int) -> bytes:
    """Make a SUBSCRIBE, all with QoS 1."""
    wanted = b"".join(_text(topic) + b"\x01" for topic in topics)
    return _packet(Kind.SUBSCRIBE, 0b0010, struct.pack("!H", number) + _counted(b"") + wanted)


def acknowledge(number: int) -> bytes:
    """Make a PUBACK."""
    return _packet(Kind.PUBACK, 0, struct.pack("!H", number))


PING = bytes((Kind.PINGREQ << 4, 0))
GOODBYE = bytes((Kind.DISCONNECT << 4, 0))
"""The last will is not said."""


@dataclass(slots=True)
class Reader:
    """Cuts what comes into packets."""

    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take bytes in.

        Returns:
            The packets that are whole now.

        Raises:
            RemoteError: It is no MQTT.
        """
        self._buffer += data
        while (found := _length(self._buffer)) is not None:
            start, end = found
            if len(self._buffer) < end:
                return
            head, body = self._buffer[0], bytes(self._buffer[start:end])
            del self._buffer[:end]
            try:
                yield _parsed(head, body)
            except (IndexError, ValueError, struct.error) as error:
                raise RemoteError("mqtt: a packet cannot be read", retryable=True, got=str(error)) from error


def _parsed(head: int, body: bytes) -> Packet:
    kind = Kind(head >> 4)
    match kind:
        case Kind.PUBLISH:
            return _publication(head, body)
        case Kind.CONNACK:
            return Packet(kind, reason=body[1])
        case Kind.PUBACK:
            return Packet(kind, body[2] if len(body) > 2 else 0, _short(body, 0))
        case Kind.SUBACK:
            return Packet(kind, max(body[-1:], default=0), _short(body, 0))
        case _:
            return Packet(kind, reason=body[0] if body else 0)


def _publication(head: int, body: bytes) -> Packet:
    at = 2 + _short(body, 0)
    topic = body[2:at].decode()
    number = 0
    if head & 0b0110:
        number, at = _short(body, at), at + 2
    length, at = _number(body, at)
    end = at + length
    response_topic = correlation = None
    while at < end:
        key, at = body[at], at + 1
        value, at = _property(key, body, at)
        if key == _RESPONSE_TOPIC:
            response_topic = value.decode()
        elif key == _CORRELATION:
            correlation = value
    return Packet(Kind.PUBLISH, 0, number, topic, body[end:], response_topic, correlation)


def _property(key: int, body: bytes, at: int) -> tuple[bytes, int]:
    size = _PROPERTY_BYTES.get(key)
    if size == _VARIABLE:
        _, end = _number(body, at)
    elif size is not None:
        end = at + size
    elif key == _PAIR:
        end = at + 2 + _short(body, at)
        end += 2 + _short(body, end)
    else:
        at, end = at + 2, at + 2 + _short(body, at)
    return body[at:end], end


def _length(buffer: bytearray) -> tuple[int, int] | None:
    """Say where the body of the first packet starts and ends; None: that has not come yet."""
    size = 0
    for place in range(1, min(len(buffer), 5)):
        size |= (buffer[place] & 0x7F) << 7 * (place - 1)
        if not buffer[place] & 0x80:
            return place + 1, place + 1 + size
    if len(buffer) >= 5:
        raise RemoteError("mqtt: a packet's length cannot be read", retryable=True)
    return None


def _number(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = body[at], at + 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _short(body: bytes, at: int) -> int:
    return int(struct.unpack_from("!H", body, at)[0])


def _data(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _text(text: str) -> bytes:
    return _data(text.encode())


def _counted(data: bytes) -> bytes:
    return _variable(len(data)) + data


def _variable(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _packet(kind: Kind, flags: int, body: bytes) -> bytes:
    return bytes((kind << 4 | flags,)) + _counted(body)
