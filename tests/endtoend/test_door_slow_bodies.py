"""Bodies that trickle: both doors give them up, say why, and close the connection."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cloud_fallback.serving.app import make_app
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.protocol.limits import Limits
from edge_runtime.web.door import Application, Door
from edge_runtime.web.server import Server
from tests.simulators.backends import Shop

LIMITS = Limits(body_s=0.2)


def device(folder: Path) -> Application:
    return Door(Shop(folder), LIMITS)


def cloud(folder: Path) -> Application:
    (folder / "bundles").mkdir()
    return make_app(ServeSettings(str(folder / "bundles"), limits=LIMITS))


def all_of(caller: socket.socket) -> bytes:
    """Read until the server closes the connection; it would hang where it does not."""
    caller.settimeout(60)
    parts: list[bytes] = []
    while part := caller.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("sent", [b"", b'{"te'], ids=["nothing", "a part"])
@pytest.mark.parametrize("door", [device, cloud])
def test_a_body_that_trickles_is_given_up(
    tmp_path: Path, door: Callable[[Path], Application], sent: bytes
) -> None:
    with Server(door(tmp_path), host="127.0.0.1", port=0) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(
                b"POST /v1/predict/m HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20\r\n\r\n" + sent
            )
            head, _, body = all_of(caller).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ") and b"connection: close" in head.lower()
        said = json.loads(body)
        assert said["expected"] == "all of it in 0.2 s, and a second more for each 64 KiB"
        assert said["got"].startswith(f"{len(sent)} bytes in")
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200


def test_a_large_body_that_comes_steadily_is_read(tmp_path: Path) -> None:
    text = "a" * (1 << 19)
    with Server(device(tmp_path), host="127.0.0.1", port=0) as server:
        found = httpx.post(f"{server.url}/v1/predict/nobody", json={"text": text}, timeout=60)
    assert found.status_code == 404
