"""A manager as publishing sees it: a repository, files, releases; over HTTP, too. It can break off."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cloud_fallback.fleet.trust.repository import Repository
from edge_runtime.contract.trust import place_of
from edge_runtime.contract.update import Failure, UpdateFailedError

TOKEN = "a-token-of-a-publisher"


class BrokenOffError(Exception):
    """The publisher was killed."""


class SmallManager:
    """Args: repository, clock; `breaks_at` is the call that breaks off, before or after it was done."""

    def __init__(self, repository: Repository, now_s: float) -> None:
        self.repository = repository
        self.now_s = now_s
        self.artifacts: dict[str, bytes] = {}
        self.released: list[str] = []
        self.calls: list[str] = []
        self.breaks_at: int | None = None
        self.breaks_after = False
        self.before_sign_off: Callable[[], None] = lambda: None
        self.highest_ever = 0
        self.gone: frozenset[str] = frozenset()

    def _call(self, name: str, work: Callable[[], object]) -> None:
        self.calls.append(name)
        breaks = self.breaks_at == len(self.calls)
        if breaks and not self.breaks_after:
            raise BrokenOffError
        work()
        if breaks:
            raise BrokenOffError

    def read(self, file: str) -> bytes | None:
        return self.repository.read(file)

    def fetch(self, target: str, file: Path) -> None:
        self._call(f"fetch {target}", lambda: file.write_bytes(self.artifacts[target]))

    def upload(self, target: str, file: Path, sha256: str) -> None:
        content = file.read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256
        self._call(f"upload {target}", lambda: self.artifacts.update({target: content}))

    def sign_off(self, role: str, signed: bytes) -> bool:
        self.before_sign_off()
        try:
            self._call(f"sign off {role}", lambda: self.repository.accept(role, signed, self.now_s))
        except UpdateFailedError as error:
            if error.code in {Failure.METADATA_REPLAY, Failure.DOWNGRADE}:
                return False
            raise
        return True

    def announce(self, target: str) -> None:
        def keep() -> None:
            assert self.repository.target(target) is not None
            assert target in self.artifacts
            if target not in self.released:
                self.released.append(target)

        self._call(f"announce {target}", keep)

    def withdrawn(self, kind: str, name: str) -> frozenset[str]:
        return self.gone

    def highest(self, kind: str, name: str) -> int:
        places = [place_of(target) for target in self.released]
        mine = [each.counter for each in places if each and (each.kind, each.name) == (kind, name)]
        return max([self.highest_ever, *mine])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    manager: SmallManager

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        area, _, path = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        if area == "tuf":
            self._answer(self.manager.read(path))
        elif self._refuses():
            return
        elif area == "artifacts":
            self._answer(self.manager.artifacts.get(path))
        else:
            found = [place_of(target) for target in self.manager.released]
            rows = [
                {"kind": each.kind, "counter": each.counter, "version": each.version}
                for each in found
                if each
            ]
            self._answer(json.dumps({"releases": rows}).encode())

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refuses():
            return
        _, area, path = unquote(self.path).lstrip("/").split("/", 2)
        if area == "artifacts":
            digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
            if self.headers["Content-Digest"] != f"sha-256=:{digest}:":
                self._answer(_problem("digest", "another digest"), 400)
                return
            self.manager.artifacts[path] = content
            self._answer(b"{}", 201)
            return
        try:
            version = self.manager.repository.accept(path, content, self.manager.now_s)
        except UpdateFailedError as error:
            self._answer(_problem(error.code, error.problem), 422)
            return
        self._answer(json.dumps({"version": version}).encode())

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._refuses():
            self.manager.announce(json.loads(content)["target"])
            self._answer(b"{}", 201)

    def _refuses(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return False
        self._answer(_problem("unauthorized", "who are you?"), 401)
        return True

    def _answer(self, content: bytes | None, status: int = 200) -> None:
        body = b"" if content is None else content
        self.send_response(404 if content is None else status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


def _problem(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


@contextmanager
def serving_manager(manager: SmallManager) -> Generator[str]:
    """Serve a manager on a free port of this machine; give its URL."""
    handler = type("Handler", (_Handler,), {"manager": manager})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
