"""A head and its body leave together, whatever else is written; nothing is lost, and all stays in order."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from edge_runtime.web.joined import Joined
from tests.simulators.served_bundles import bundle, scaling

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """What was sent, each call by itself."""

    def __init__(self) -> None:
        super().__init__({"peername": ("here", 1)})
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def writelines(self, list_of_data: object) -> None:
        assert isinstance(list_of_data, tuple)
        self.sent.append(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def served_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`edge-runtime serve` in a process of its own."""
    folder = tmp_path_factory.mktemp("bundles")
    bundle(folder / "scale-1", scaling(2.0))
    arguments = [
        sys.executable,
        "-m",
        "edge_runtime",
        "serve",
        "--bundles",
        str(folder),
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:  # one document, indented
                lines.append(line)
                if line == "}\n":
                    break
            yield json.loads("".join(lines))["url"]
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ((HEAD, b"ok"), [HEAD + b"ok"]),
        ((HEAD, b"ok", HEAD, b"no"), [HEAD + b"ok", HEAD + b"no"]),
        ((HEAD, b"o", b"k"), [HEAD + b"o", b"k"]),
        ((STREAM, b"2\r\nok\r\n"), [STREAM, b"2\r\nok\r\n"]),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"ok"), [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"ok"]),
        ((HEAD, HEAD, b"ok"), [HEAD + HEAD, b"ok"]),  # to HEAD, and to what came right behind it
    ],
)
def test_what_leaves_together(written: tuple[bytes, ...], sent: list[bytes]) -> None:
    async def scene() -> None:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop())
        for data in written:
            joined.write(data)
        assert wire.sent == sent
        assert joined.get_extra_info("peername") == ("here", 1)
        joined.close()
        assert wire.closed

    asyncio.run(scene())


def test_a_head_without_a_body_leaves_a_little_later_or_at_the_end() -> None:
    async def scene() -> None:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop())
        joined.write(HEAD)
        assert wire.sent == []
        while not wire.sent:
            await asyncio.sleep(0)
        joined.write(HEAD)
        joined.close()
        assert wire.sent == [HEAD, HEAD] and wire.closed

    asyncio.run(scene())


def test_a_real_server_answers_every_method(served_url: str) -> None:
    with httpx.Client(base_url=served_url) as client:
        for _ in range(2):
            assert client.head("/v2/health/live").content == b""
            assert client.get("/v2/health/live").json() == {"live": True}
            assert client.post("/v2/models/scale/infer", content=b"{").status_code == 400


def test_pipelined_requests_are_answered_in_order(served_url: str) -> None:
    port = int(served_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.settimeout(60)
        one = b"%s /v2/health/live HTTP/1.1\r\nhost: localhost\r\n%s\r\n"
        caller.sendall(one % (b"GET", b"") + one % (b"HEAD", b"") + one % (b"GET", b"connection: close\r\n"))
        came = b""
        while part := caller.recv(1 << 16):
            came += part
    assert came.count(b"HTTP/1.1 200 OK") == 3 and came.count(b'{"live":true}') == 2
