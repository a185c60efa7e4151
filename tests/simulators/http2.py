"""A server that speaks HTTP/2 over TLS and nothing else: answers every request alike, counts connections."""

import asyncio
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events


@dataclass
class Counted:
    """What came.

    Args:
        port: Where it listens.
        connections: How many were made.
        streams: Requests, over all of them.
    """

    port: int = 0
    connections: int = 0
    streams: list[int] = field(default_factory=list[int])


class _Speaks(asyncio.Protocol):
    def __init__(self, counted: Counted, body: bytes) -> None:
        self._counted = counted
        self._body = body
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._counted.connections += 1
        self._h2.initiate_connection()
        transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, h2.events.StreamEnded):
                self._counted.streams.append(event.stream_id)
                length = str(len(self._body))
                said = [(":status", "200"), ("content-type", "application/json"), ("content-length", length)]
                self._h2.send_headers(event.stream_id, said)
                self._h2.send_data(event.stream_id, self._body, end_stream=True)
        self._transport.write(self._h2.data_to_send())


@contextmanager
def http2_server(tls: ssl.SSLContext, body: bytes) -> Generator[Counted, None, None]:
    """Serve until the block ends."""
    tls.set_alpn_protocols(["h2"])
    counted, loop, ready = Counted(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> asyncio.Server:
        server = await loop.create_server(lambda: _Speaks(counted, body), "127.0.0.1", 0, ssl=tls)
        counted.port = server.sockets[0].getsockname()[1]
        ready.set()
        return server

    def run() -> None:
        server = loop.run_until_complete(serve())
        loop.run_forever()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield counted
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
