"""A cloud of the tests: a real HTTP server that does what its script says, and remembers what it applied.

Speaks just enough of the door's routes; a request id is applied once, however often it comes.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    """A request that came."""

    path: str
    key: str
    headers: dict[str, str]
    body: bytes


HALF = "x-half"
"""A header of an answer that breaks off in its middle."""

Does = Callable[["Cloud", Seen], tuple[int, dict[str, str], bytes] | None]
"""What the cloud does with a request: status, headers and body; None: it says nothing, ever."""


def sentiment(label: str = "negative", score: float = 0.99, **more: Any) -> bytes:
    """An answer of `/v1/predict`."""
    return json.dumps(
        {
            **{"id": "x", "model": "sentiment-large", "version": "2.0.0", "variant": "onnx-fp32"},
            **{"route": "local", "reason": "policy", "detail": "", "latency_ms": 1.0, "confidence": score},
            "result": {
                "kind": "text-classification",
                "classes": [{"class": 0, "label": label, "score": score}],
                **{"tokens": 3, "truncated": False, "windows": 1},
            },
            **more,
        }
    ).encode()


def answers(label: str = "negative", after_s: float = 0.0) -> Does:
    """Answer everything, a while later."""

    def do(cloud: "Cloud", seen: Seen) -> tuple[int, dict[str, str], bytes]:
        cloud.leaving.wait(after_s)
        return 200, {"content-type": "application/json"}, sentiment(label)

    return do


def refuses(status: int, error: str = "no", **headers: str) -> Does:
    """Refuse everything."""
    said = {"content-type": "application/json", **{name.replace("_", "-"): v for name, v in headers.items()}}
    return lambda cloud, seen: (status, said, json.dumps({"error": error}).encode())


def black_hole(cloud: "Cloud", seen: Seen) -> None:
    """Accept, read, and say nothing until the test is over."""
    cloud.leaving.wait(60)


def login_page(cloud: "Cloud", seen: Seen) -> tuple[int, dict[str, str], bytes]:
    """Answer as a captive portal does."""
    return 200, {"content-type": "text/html"}, b"<html>Please log in</html>"


def drips(cloud: "Cloud", seen: Seen) -> tuple[int, dict[str, str], bytes]:
    """Send one byte now and then: every read succeeds, the answer never ends."""
    return 200, {"content-type": "application/json", "x-drip": "1"}, sentiment()


@dataclass
class Cloud:
    """What it does, and what came. Change `does` while it runs."""

    does: Does
    port: int = 0
    scheme: str = "http"
    seen: list[Seen] = field(default_factory=list[Seen])
    applied: dict[str, int] = field(default_factory=dict[str, int])
    """By id: its place among those that were done. One that comes again is not done again."""
    leaving: threading.Event = field(default_factory=threading.Event)
    probes: int = 0
    echoes: bool = True
    lacks: set[str] = field(default_factory=set[str])
    """Models that it does not have."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def do(self, seen: Seen) -> None:
        """Do what was asked, unless it was done before."""
        with self.lock:
            self.applied[seen.key] = self.applied.get(seen.key, 0) or len(self.applied) + 1

    def keys(self) -> list[str]:
        """The ids of what came, in order."""
        with self.lock:
            return [one.key for one in self.seen]


def _handler(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(OSError):  # a handshake that failed is the client's to tell
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            cloud.probes += 1
            key = self.headers.get("x-request-id", "")
            answer = cloud.does(cloud, Seen(self.path, key, {}, b"")) if not cloud.echoes else None
            status, headers, body = answer or (200, {"x-request-id": key}, b"{}")
            if any(self.path == f"/v2/models/{model}/ready" for model in cloud.lacks):
                status, body = 404, b'{"error": "no such model"}'
            self._send(status, headers, body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            key = self.headers.get("x-request-id", "")
            seen = Seen(self.path, key, {k.lower(): v for k, v in self.headers.items()}, body)
            with cloud.lock:
                cloud.seen.append(seen)
            answer = cloud.does(cloud, seen)
            if answer is None:
                self.close_connection = True
                return
            if answer[0] < 300:
                cloud.do(seen)
            self._send(*answer)

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if HALF in headers:
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                    return
                if "x-drip" not in headers:
                    self.wfile.write(body)
                    return
                for byte in body:
                    if cloud.leaving.wait(0.05):
                        return
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
            except OSError:
                self.close_connection = True  # whoever asked has gone

    return Handler


@contextmanager
def cloud_of(does: Does, port: int = 0, tls: ssl.SSLContext | None = None) -> Generator[Cloud, None, None]:
    """Run a cloud until the block ends."""
    cloud = Cloud(does)
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(cloud))
    server.daemon_threads = True
    cloud.scheme = "http" if tls is None else "https"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    cloud.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        cloud.leaving.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def until(found: Callable[[], Any], what: str, patience_s: float = 20.0) -> Any:
    """Wait until something is there; fail by its name, not by a number."""
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(f"never came: {what}")
