"""A receiver of webhooks that keeps what it gets and answers as it is told to."""

import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Mapping[str, str]]


@dataclass
class Delivery:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def numbers(self) -> list[int]:
        return [event["pts_ns"] for event in json.loads(self.body)["events"]]


@dataclass
class Receiver:
    """On a free loopback port. `answers` come first, one a request; then it is 204, but for poison."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    answers: deque[Answer] = field(default_factory=deque[Answer])
    poison: frozenset[int] = frozenset()
    """A batch with one of these events is answered with 422."""
    stalls: threading.Event = field(default_factory=threading.Event)
    """While set, a request gets no answer."""
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    taken: list[int] = field(default_factory=list[int])
    """Events that were acknowledged, in order."""

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"receiver": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http{'' if self.tls is None else 's'}://127.0.0.1:{self.port}/hook/PATH-SECRET"

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def answer(self, delivery: Delivery) -> Answer | None:
        """Decide; None: say nothing at all."""
        self.deliveries.append(delivery)
        if self.stalls.is_set():
            self._closing.wait(20)
            return None
        if self.answers:
            return self.answers.popleft()
        if self.poison & set(delivery.numbers):
            return 422, {}
        self.taken += delivery.numbers
        return 204, {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def setup(self) -> None:
        super().setup()
        self.receiver.connections.add(self.connection)

    def finish(self) -> None:
        self.receiver.connections.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.receiver.answer(Delivery(self.path, dict(self.headers.items()), body))
        if answer is None:
            self.close_connection = True
            return
        status, headers = answer
        with suppress(ConnectionError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", "3")
            self.end_headers()
            if status != 204:
                self.wfile.write(b"no\n")
