"""One HTTP request and its answer, over ASGI 3: headers, a body within its limit, a caller that goes away.

Knows no route and no protocol of models.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from edge_runtime.contract.errors import InputError, TooLargeError
from edge_runtime.protocol import headers
from edge_runtime.protocol.headers import Metadata
from edge_runtime.web.watch import Event, Gone, Lookout, Receive, Watch

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

JSON = b"application/json"
_THREAD_FROM_BYTES = 1 << 18
"""Smaller bodies are decompressed faster than a thread is asked to."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as a whole.

    Args:
        body: Its bytes.
        status: HTTP.
        kind: Its content type.
        headers: Others, by lower-case name.
    """

    body: bytes
    status: int = 200
    kind: bytes = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer piece by piece.

    Args:
        pieces: Its bytes; closed when the caller goes away.
        kind: Its content type.
        headers: Others, by lower-case name.
    """

    pieces: AsyncGenerator[bytes]
    kind: bytes = b"text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Exchange:
    """A request under way.

    Args:
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
        lookout: Of the door.

    Attributes:
        method: `GET`, …
        path: Decoded, without the query.
        query: What stands behind the `?`; of a name given twice the last value.
        headers: By lower-case name.
        metadata: What the caller says beside its request.
        id: The request's, the caller's own or a new one.
        client: The caller's address; empty: not known.
    """

    __slots__ = (
        "_began_s",
        "_cut",
        "_lookout",
        "_receive",
        "_send",
        "client",
        "headers",
        "id",
        "metadata",
        "method",
        "path",
        "query",
        "replying",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, lookout: Lookout) -> None:
        self._began_s = time.monotonic()
        self._receive = receive
        self._send = send
        self._lookout = lookout
        client = scope.get("client")
        self.client = str(client[0]) if client else ""
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        asked = scope.get("query_string", b"")
        self.query = dict(parse_qsl(asked.decode("ascii", "replace"))) if asked else {}
        self.headers = headers.every(scope["headers"])
        self.metadata = Metadata()
        self.id = ""
        self.replying = False
        self._cut = False

    def read_metadata(self) -> None:
        """Read what the caller says beside its request.

        Raises:
            InputError: A header is not of its form.
        """
        self.metadata = headers.read(self.headers)
        self.id = self.metadata.id or self._lookout.new_id()

    @property
    def spent_s(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self._began_s

    async def body(self, limit_bytes: int) -> bytes:
        """Read the body and decompress it.

        Args:
            limit_bytes: At most, as it comes and again decompressed; reading ends there.

        Raises:
            TooLargeError: It is larger.
            InputError: It cannot be decompressed.
            Gone: The caller closed its connection.
        """
        said = self.headers.get("content-length", "")
        if said.isascii() and said.isdigit() and int(said[:20]) > limit_bytes:
            raise TooLargeError("body", expected=f"at most {limit_bytes} bytes", got=said[:20])
        raw = await self._read(limit_bytes)
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in {"identity", ""}:
            return raw
        if encoding not in {"gzip", "deflate"}:
            raise InputError(
                "header Content-Encoding", expected="gzip, deflate or identity", got=encoding[:40]
            )
        if len(raw) < _THREAD_FROM_BYTES:
            return decompress(raw, encoding, limit_bytes)
        return await asyncio.to_thread(decompress, raw, encoding, limit_bytes)

    async def _read(self, limit_bytes: int) -> bytes:
        parts: list[bytes] = []
        reading = self._lookout.reading()
        try:
            with reading:
                while True:
                    event = await self._receive()
                    if event["type"] == "http.disconnect":
                        raise Gone
                    part: bytes = event.get("body", b"")
                    reading.size += len(part)
                    if reading.size > limit_bytes:
                        got = f"{reading.size} or more"
                        raise TooLargeError("body", expected=f"at most {limit_bytes} bytes", got=got)
                    parts.append(part)
                    if not event.get("more_body", False):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            self._cut = reading.late

    def watch(self) -> Watch:
        """Cancel the running task when the caller goes away, within a `with` block."""
        return Watch(self._receive, self._lookout)

    async def reply(self, reply: Reply) -> None:
        """Send an answer."""
        length = (b"content-length", str(len(reply.body)).encode())
        await self._start(reply.status, reply.kind, reply.headers, length)
        body = b"" if self.method == "HEAD" else reply.body
        await self._send({"type": "http.response.body", "body": body})

    async def stream(self, stream: Stream) -> None:
        """Send an answer piece by piece; whoever watches sees the caller go away meanwhile."""
        await self._start(200, stream.kind, stream.headers, (b"cache-control", b"no-store"))
        async for piece in stream.pieces:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """End a stream."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(
        self, status: int, kind: bytes, extra: Mapping[str, str], more: tuple[bytes, bytes]
    ) -> None:
        self.replying = True
        told = [(b"content-type", kind), more]
        if self.id:
            told.append((b"x-request-id", self.id.encode()))
        if self._cut:  # nobody reads on in a body that was given up
            told.append((b"connection", b"close"))
        told += [(name.encode(), value.encode("latin-1")) for name, value in extra.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": told})


def decompress(raw: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Decompress a body, never beyond its limit.

    Args:
        raw: As it came.
        encoding: `gzip`, or `deflate`, which is zlib's format (RFC 9110, 8.4.1.2).
        limit_bytes: At most.

    Raises:
        TooLargeError: It would be larger.
        InputError: It is damaged, or ends too early.
    """
    machine = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)
    try:
        body = machine.decompress(raw, limit_bytes + 1)
    except zlib.error as error:
        raise InputError("body", expected=f"{encoding} data", got=str(error)[:120]) from error
    if len(body) > limit_bytes:
        raise TooLargeError("body", expected=f"at most {limit_bytes} bytes decompressed", got="more")
    if not machine.eof or machine.unused_data:
        got = "data after its end" if machine.eof else "its beginning only"
        raise InputError("body", expected=f"one {encoding} stream", got=got)
    return body
