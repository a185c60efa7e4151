"""An HTTP server of files, with Range and ETag, that can misbehave in the ways that servers and links do."""

import hashlib
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Files:
    """What is served, and how.

    `cut_after` closes each connection after so many bytes of a body; `stall_after` sends nothing more but
    keeps it open; `changes` has another content from the second request on.
    """

    content: dict[str, bytes] = field(default_factory=dict[str, bytes])
    ignores_range: bool = False
    no_etag: bool = False
    weak_etag: bool = False
    cut_after: int | None = None
    stall_after: int | None = None
    stalls_head: bool = False
    changes: bool = False
    too_long: bool = False
    status: int | None = None
    redirect: str | None = None
    asked: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Path and first byte of every request."""
    sent: int = 0
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        files = self.files
        path = self.path.lstrip("/")
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        files.asked.append((path, start))
        self.close_connection = True
        if files.stalls_head:
            files.closing.wait()
            return
        if files.redirect:
            self._head(302, {"Location": files.redirect, "Content-Length": "0"})
            return
        content = files.content.get(path)
        if files.status or content is None:
            self._head(files.status or 404, {"Content-Length": "0"})
            return
        if files.changes and len(files.asked) > 1:
            content = bytes(reversed(content))
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        etag = f"W/{etag}" if files.weak_etag else etag
        headers = {} if files.no_etag else {"ETag": etag}
        wanted = self.headers.get("If-Range", etag)
        if found and not files.ignores_range and wanted == etag:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = content[start:]
        else:
            body = content
        if files.too_long:
            self._head(206 if "Content-Range" in headers else 200, headers)
            body += b"more" * 1000
        else:
            headers["Content-Length"] = str(len(body))
            self._head(206 if "Content-Range" in headers else 200, headers)
        self._body(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, body: bytes) -> None:
        files = self.files
        limit = files.cut_after if files.cut_after is not None else files.stall_after
        kept = body if limit is None else body[:limit]
        with suppress(OSError):
            self.wfile.write(kept)
            self.wfile.flush()
            files.sent += len(kept)
        if files.stall_after is not None and len(kept) < len(body):
            files.closing.wait()


@contextmanager
def serving(files: Files) -> Generator[Files]:
    """Serve on a free port of this machine until the block ends."""
    handler = type("Handler", (_Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    files.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        files.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
