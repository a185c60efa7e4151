"""The door on its port: callers that go away, requests under way when it stops, and other applications."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from edge_runtime.contract.errors import RemoteError
from edge_runtime.web.access import access_for
from edge_runtime.web.door import Door
from edge_runtime.web.exchange import Receive, Scope, Send
from edge_runtime.web.server import Server
from tests.simulators.backends import Shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Server]:
    with Server(Door(shop, access=access_for("127.0.0.1", "")), host="127.0.0.1", port=0) as server:
        yield server


@pytest.fixture
def slow(shop: Shop) -> Iterator[Shop]:
    for event in (shop.release, shop.waiting, shop.left):
        event.clear()
    yield shop
    shop.release.set()


def ask_and_leave(server: Server, shop: Shop, path: str, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(b"POST %s HTTP/1.1\r\nhost: localhost\r\n" % path.encode())
        caller.sendall(b"content-length: %d\r\n\r\n" % len(body) + body)
        assert shop.waiting.wait(30)
    assert shop.left.wait(30)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v1/predict/slow", {"text": "a"}),
        ("/v1/predict/slow", {"texts": ["a", "b"]}),
        ("/v1/completions", {"model": "slow", "prompt": "wait", "stream": True}),
        ("/v1/completions", {"model": "slow", "prompt": "a wait", "stream": True}),
    ],
    ids=["one text", "several texts", "before a stream", "within a stream"],
)
def test_work_for_a_caller_that_left_is_cancelled(
    server: Server, slow: Shop, path: str, document: dict[str, Any]
) -> None:
    ask_and_leave(server, slow, path, document)
    assert httpx.get(f"{server.url}/v2").status_code == 200


def test_stopping_waits_for_requests_under_way(slow: Shop) -> None:
    found: list[httpx.Response] = []
    server = Server(Door(slow), host="127.0.0.1", port=0)
    server.start()
    url = f"{server.url}/v1/predict/slow"
    caller = threading.Thread(target=lambda: found.append(httpx.post(url, json={"text": "kind"}, timeout=30)))
    caller.start()
    assert slow.waiting.wait(30)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    slow.release.set()
    caller.join(30)
    stopping.join(30)
    assert found[0].status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_port_that_is_taken(shop: Shop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RemoteError, match="an address of this machine that is free"):
            Server(Door(shop), host="127.0.0.1", port=taken.getsockname()[1]).start()


def test_what_is_not_its_own_goes_to_the_other_application(shop: Shop) -> None:
    asked: list[str] = []

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(f"{scope['type']} {scope.get('path', '')}")

    async def knock(path: str) -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        door = Door(shop, otherwise=other)
        await door({"type": "lifespan"}, receive, send)
        await door({"type": "http", "method": "GET", "path": path, "headers": []}, receive, send)
        return sent

    assert asyncio.run(knock("/metrics")) == []
    assert asyncio.run(knock("/v2"))[0]["status"] == 200
    assert asked == ["lifespan ", "http /metrics", "lifespan "]


def test_answers_that_take_their_time_are_watched_and_still_answered(server: Server, slow: Shop) -> None:
    """Several at once, over one connection each, and then more over the same connections."""

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            asked = [client.post("/v1/predict/slow", json={"text": "kind"}) for _ in range(8)]
            first = asyncio.gather(*asked)
            assert await asyncio.to_thread(slow.waiting.wait, 30)
            slow.release.set()
            again = [client.post("/v1/predict/sentiment", json={"text": "kind"}) for _ in range(8)]
            return [answer.status_code for answer in [*await first, *await asyncio.gather(*again)]]

    assert asyncio.run(ask()) == [200] * 16
    assert not slow.left.is_set()
