"""Joined: a transport that sends the head of an HTTP answer together with what comes right behind it.

An ASGI server writes them one by one: two system calls and two packets for an answer of a few hundred bytes.
Reads nothing and knows no request.
"""

import asyncio
from typing import Any

_HEAD = b"HTTP/1."
_HAS_BODY = b"\r\ncontent-length: "
"""Such an answer's body is written right behind its head; a stream, which may take its time, has none."""
_HOLD_S = 0.005
"""An answer to HEAD has no body in spite of it, and goes after so long."""


class Joined:
    """Stands before a transport; what it does not have itself is the transport's.

    Args:
        transport: Of a connection.
        loop: Whose it is.
    """

    __slots__ = ("_head", "_loop", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Send; the head of an answer with a body is held until that follows."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif data.startswith(_HEAD) and _HAS_BODY in data:
            self._head = data
            if self._timer is None:  # one for many answers: none is late by it, and few are sent by it
                self._timer = self._loop.call_later(_HOLD_S, self._ring)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held and close."""
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def _ring(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
