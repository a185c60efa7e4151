"""Artifacts over HTTPS with the device's token, which goes to the manager alone."""

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.artifacts import FleetArtifacts, client_of
from edge_runtime.update.contents import Contents
from edge_runtime.update.download import Downloader, DownloadOptions
from edge_runtime.update.store import Store
from tests.simulators.certificates import Authority

CONTENT = b"person\ncar\n" * 5000
TOKEN = "t" * 32


class Server:
    """Serves one file over TLS, or sends away to another server; notes who asked with which token."""

    def __init__(self, authority: Authority, elsewhere: str = "") -> None:
        tokens: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

            def do_GET(self) -> None:
                tokens.append(self.headers.get("Authorization"))
                self.send_response(307 if elsewhere else 206)
                if elsewhere:
                    self.send_header("Location", elsewhere + self.path)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                self.send_header("Content-Length", str(len(CONTENT) - first))
                self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.end_headers()
                self.wfile.write(CONTENT[first:])

        self.tokens = tokens
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = authority.server().wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def servers(authority: Authority) -> Iterator[tuple[Server, Server]]:
    """The manager, which sends away to an object store."""
    store = Server(authority)
    manager = Server(authority, store.url)
    yield manager, store
    manager.close()
    store.close()


def artifacts(url: str, ca: Path, manager: str) -> FleetArtifacts:
    options = DownloadOptions(connect_s=20, stall_s=20)
    downloader = Downloader(f"{url}/artifacts", options, client_of(TOKEN, ca, manager))
    return FleetArtifacts(downloader, Contents(trusted=None, check_settings=lambda path: None))


def test_the_token_goes_to_the_manager_and_not_where_it_sends(
    servers: tuple[Server, Server], authority: Authority, tmp_path: Path
) -> None:
    manager, elsewhere = servers
    part = Store(tmp_path / "store").part(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    port = artifacts(manager.url, authority.file, manager.url)
    assert port.fetch("labels/x/1-1.0.0.txt", part, whole_again=True, stop=lambda: False)
    assert manager.tokens == [f"Bearer {TOKEN}"]
    assert elsewhere.tokens == [None]


def test_a_server_of_another_authority_is_not_believed(
    servers: tuple[Server, Server], tmp_path: Path
) -> None:
    manager, _ = servers
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    part = Store(tmp_path / "store").part(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    port = artifacts(manager.url, stranger.file, manager.url)
    with pytest.raises(UpdateFailedError) as caught:
        port.fetch("x", part, whole_again=True, stop=lambda: False)
    assert caught.value.code is Failure.DOWNLOAD_FAILED
    assert manager.tokens == []


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    for file in ("ca", "nothing"):
        with pytest.raises(ConfigError, match="Enrol again"):
            client_of(TOKEN, tmp_path / file, "https://manager")
