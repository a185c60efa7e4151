"""A manager's door for enrolment, over real TLS: one-time tokens, certificates, or what a test wants said."""

import json
import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cloud_fallback.fleet.api.authority import Authority, make_authority
from edge_runtime.contract.enrolment import OWN_PATH, REVOKED, Broker, Enrol, Enrolled
from edge_runtime.fleet.enrolling import Renew

TOKEN = "one-time-token-0123456789"
DEVICE_TOKEN = "device-token-0123456789"


@dataclass
class Enroller:
    """What it is asked, and what it answers."""

    folder: Path
    days: int = 30
    since_s: float = 0.0
    """The clock of whoever signs is ahead by this."""
    used_by: str | None = None
    revoked: bool = False
    says: tuple[int, bytes] | None = None
    """Instead of an answer."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    url: str = ""

    def __post_init__(self) -> None:
        certificate, key = make_authority("acme", now_s=time.time())
        self.authority = Authority(certificate, key, "acme")
        self.ca = self.folder / "fleet-ca.pem"
        self.ca.write_bytes(certificate)

    def context(self, host: str, *, from_s: float) -> ssl.SSLContext:
        certificate, key = self.authority.issue("manager", now_s=from_s, days=1, hosts=(host,))
        (self.folder / "manager.pem").write_bytes(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "manager.pem")
        return context

    def answer(self, path: str, body: bytes, bearer: str | None) -> tuple[int, bytes]:
        self.asked.append((path, json.loads(body or b"{}")))
        if self.says is not None:
            return self.says
        if path in {"/v1/renew", OWN_PATH}:
            if self.revoked or bearer != f"Bearer {DEVICE_TOKEN}":
                return refusal(401, REVOKED)
            if path == OWN_PATH:
                return 200, b"{}"
            return 200, self._signed(Renew.model_validate_json(body).csr, "d1")
        question = Enrol.model_validate_json(body)
        if question.token != TOKEN:
            return refusal(401, "token-unknown")
        if self.used_by not in {None, question.csr}:
            return refusal(409, "token-used")
        self.used_by = question.csr
        return 200, self._signed(question.csr, question.device or "d1")

    def _signed(self, csr: str, device: str) -> bytes:
        signed = self.authority.sign_device(csr, device, now_s=time.time() + self.since_s, days=self.days)
        answer = Enrolled(
            tenant="acme",
            device=device,
            certificate=signed.pem,
            authority=self.authority.pem,
            broker=Broker(host="127.0.0.1", port=8883),
            device_token=DEVICE_TOKEN,
            tuf_root='{"signed": {}}',
        )
        return answer.model_dump_json().encode()


def refusal(status: int, code: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": {"code": code, "message": f"no: {code}"}}).encode()


@contextmanager
def enrolling(folder: Path, *, host: str = "127.0.0.1", from_s: float | None = None) -> Generator[Enroller]:
    """Serve until the block ends.

    Args:
        folder: For certificates.
        host: That the manager's certificate is for.
        from_s: Since when it is good; None: since now.
    """
    enroller = Enroller(folder)

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = enroller.answer(self.path, body, self.headers.get("authorization"))
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, the name is the base's
            pass

    context = enroller.context(host, from_s=time.time() if from_s is None else from_s)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that do not trust hang up
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    enroller.url = f"https://127.0.0.1:{server.server_port}"
    try:
        yield enroller
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
