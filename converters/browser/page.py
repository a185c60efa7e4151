"""One page in a headless Chromium, and the server on loopback that it talks to.

Knows no model: it serves files and exchanges messages. The page asks for the next job and posts the answer:
nothing remote-controls the browser. A connection that the page keeps open tells when it has crashed.
"""

import atexit
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from converters.browser.frame import pack, unpack
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.tensors import Array, Tensors

CHROMIUM_VARIABLE = "EDGE_RUNTIME_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    # Nothing but the server of this process can be reached.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_POLL_S = 0.1
_START_S = 60.0
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}


def find_chromium() -> str | None:
    """Give the path of Chromium or Chrome: `$EDGE_RUNTIME_CHROMIUM`, or on the PATH; None: there is none."""
    told = os.environ.get(CHROMIUM_VARIABLE)
    return shutil.which(told) if told else next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
    """A page that does jobs. One caller at a time; others wait.

    Args:
        chromium: Path of the program.
        folders: First part of a path -> the folder served there; "" is the folder of the page itself.
        documents: Path -> content that is served as it is.

    Raises:
        EngineError: Chromium does not start, or does not open the page.
    """

    def __init__(
        self, chromium: str, folders: Mapping[str, Path | Traversable], documents: Mapping[str, bytes]
    ) -> None:
        self.folders = folders
        self.documents = documents
        self.gone = False
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._job: bytes | None = None
        self._answer: bytes | None = None
        self._closed = False
        self._ready = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        # Other users of this machine reach the port as well; they do not know the path.
        self.secret = secrets.token_urlsafe(16)
        self._server.page = self  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._home = tempfile.mkdtemp(prefix="edge-runtime-chromium-")
        root = (
            hasattr(os, "geteuid") and os.geteuid() == 0
        )  # as root Chromium refuses to start in its sandbox
        try:
            self._browser = subprocess.Popen(
                [
                    chromium,
                    *_FLAGS,
                    *(["--no-sandbox"] if root else []),
                    f"--user-data-dir={self._home}",
                    f"http://127.0.0.1:{self._server.server_port}/{self.secret}/index.html",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            self._stop()
            raise EngineError(f"{chromium} does not start", got=error.strerror or str(error)) from error
        atexit.register(self.close)
        try:
            self._wait(lambda: self._ready, _START_S, "opened no page")
        except EngineError:
            self.close()
            raise
        self._before = self.memory_bytes()

    def ask(
        self, head: Mapping[str, object], tensors: Tensors | None = None, *, timeout_s: float = 300.0
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Have one job done.

        Args:
            head: What to do, JSON.
            tensors: What to do it with.
            timeout_s: How long to wait.

        Raises:
            EngineError: The page said it failed, crashed or does not answer, or it is closed.
        """
        with self._lock:
            if self._closed:
                raise EngineError("the page is closed")
            with self._changed:
                self._answer, self._job = None, pack(head, tensors)
                self._changed.notify_all()
            self._wait(lambda: self._answer is not None, timeout_s, f"did not answer within {timeout_s:g} s")
            found, arrays = unpack(self._answer or b"")
        if "error" in found:
            kind = found.get("kind") if found.get("kind") not in {"Error", "undefined", "Number"} else ""
            raise EngineError(": ".join(filter(None, (kind, str(found["error"]).split("\n", 1)[0][:300]))))
        return found, arrays

    def memory_bytes(self, *, peak: bool = False) -> int | None:
        """Give what the page's process has in memory, or had at most; None where that is not known."""
        found = 0
        for child in self._family():
            with suppress(psutil.Error, OSError, StopIteration):
                if "--type=renderer" not in child.cmdline():
                    continue
                lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
                field = "VmHWM:" if peak else "VmRSS:"
                found += next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
        return found or None

    def added_memory_bytes(self) -> int | None:
        """Give what the page's jobs added at most, the engine included; None where that is not known."""
        peak = self.memory_bytes(peak=True)
        return None if peak is None or self._before is None else max(0, peak - self._before)

    def close(self) -> None:
        """End the browser and the server; waits for a job under way. Idempotent."""
        with self._lock:
            if self._closed:
                return
            family = self._family()
            self._browser.kill()  # it has nothing to save
            self._browser.wait()
            for child in family:
                with suppress(psutil.Error):
                    child.kill()
            self._stop()

    def next_job(self) -> bytes | None:
        """Wait for a job, for the server's thread; None: there will be none."""
        with self._changed:
            self._ready = True
            self._changed.notify_all()
            while self._job is None and not self._closed:
                self._changed.wait(_POLL_S)
            job, self._job = self._job, None
            return job

    def take_answer(self, content: bytes) -> None:
        """Take what the page made of a job, for the server's thread."""
        with self._changed:
            self._answer = content
            self._changed.notify_all()

    def _wait(self, done: Any, timeout_s: float, what: str) -> None:
        with self._changed:
            for _ in range(max(1, round(timeout_s / _POLL_S))):
                if done():
                    return
                if self._browser.poll() is not None or self.gone:
                    raise EngineError(
                        "Chromium's page crashed", do="Is there memory enough? Try a smaller model"
                    )
                self._changed.wait(_POLL_S)
        raise EngineError(f"Chromium {what}", do="Close other programs, or try a smaller model")

    def _family(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return psutil.Process(self._browser.pid).children(recursive=True)
        return []

    def _stop(self) -> None:
        self._closed = True
        atexit.unregister(self.close)
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._home, ignore_errors=True)


class _Handler(BaseHTTPRequestHandler):
    """Serves one request of the page."""

    protocol_version = "HTTP/1.1"

    @property
    def _page(self) -> Page:
        return self.server.page  # type: ignore[attr-defined, no-any-return]  # pyright: ignore

    def do_GET(self) -> None:
        path = self._inside()
        if path == "life":
            self._watch()
        elif path is None or (content := self._content(path)) is None:
            self._send(404, b"")
        else:
            self._send(200, content, _TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"))

    def do_POST(self) -> None:
        path = self._inside()
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "job":
            job = self._page.next_job()
            self._send(410 if job is None else 200, job or b"")
        elif path == "answer":
            self._page.take_answer(content)
            self._send(200, b"")
        else:
            self._send(404, b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: requests are no news."""

    def _inside(self) -> str | None:
        """The path behind the secret; None where it is another."""
        _, secret, *rest = self.path.partition("?")[0].split("/")
        fits = secrets.compare_digest(secret.encode(), self._page.secret.encode()) and ".." not in rest
        return "/".join(rest) if fits else None

    def _content(self, path: str) -> bytes | None:
        if path in self._page.documents:
            return self._page.documents[path]
        first, _, rest = path.partition("/")
        place = self._page.folders.get(first) if rest else self._page.folders.get("")
        file = None if place is None else place.joinpath(*(rest or path).split("/"))
        return file.read_bytes() if file is not None and file.is_file() else None

    def _watch(self) -> None:
        with suppress(OSError):
            self.connection.recv(1)
        self._page.gone = True
        self.close_connection = True

    def _send(self, status: int, content: bytes, kind: str = "application/octet-stream") -> None:
        # The browser may go while it is being answered.
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            # An isolated page has the precise clock.
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(content)
