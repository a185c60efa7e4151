"""The door over plain HTTP: what people type, what goes wrong, who is kept out."""

import gzip
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from edge_runtime.contract.errors import ConfigError, QuotaError, UnauthorizedError
from edge_runtime.contract.result import Answer
from edge_runtime.protocol import answers
from edge_runtime.protocol.headers import Metadata
from edge_runtime.protocol.limits import Limits
from edge_runtime.protocol.openai import REFUSED
from edge_runtime.protocol.problems import PROBLEMS
from edge_runtime.web.access import Access, access_for
from edge_runtime.web.door import Door
from edge_runtime.web.predict_routes import Late
from edge_runtime.web.server import Server
from tests.simulators.backends import LOCAL, Shop, sentiment

SMALL = Limits(body_bytes=100_000, pixels=10_000, texts=3, characters=50)


class Letterbox:
    """Late answers: `done` is there, `soon` is awaited."""

    async def find(self, request_id: str) -> Late | None:
        done = Late(Answer(sentiment("kind"), LOCAL, "sentiment", "1", "rule", 1.0, 0.5))
        return {"done": done, "soon": Late(None)}.get(request_id)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Server]:
    door = Door(shop, SMALL, access=access_for("127.0.0.1", ""), late=Letterbox())
    with Server(door, host="127.0.0.1", port=0) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client
        assert client.get("/v2/health/live").json() == {"live": True}, "the server goes on"


def error(answer: httpx.Response) -> dict[str, Any]:
    document = answer.json()
    assert set(document) <= {"error", "expected", "got", "do", "code", "retryable", "retry_after_s"}
    return document


@pytest.mark.parametrize(
    "kind", [None, "application/json", "application/x-www-form-urlencoded", "text/plain"]
)
def test_a_text_whatever_its_content_type(client: httpx.Client, kind: str | None) -> None:
    """Curl says `application/x-www-form-urlencoded` where nobody says otherwise."""
    body = b'{"text": "the queue was short and the staff kind"}'
    answer = client.post(
        "/v1/predict/sentiment", content=body, headers={"content-type": kind} if kind else {}
    )
    assert answer.status_code == 200
    document = answer.json()
    assert document["result"]["classes"][0] == {"class": 0, "label": "good", "score": 0.75}
    assert document["id"] == answer.headers["x-request-id"]
    assert {name: answer.headers[f"x-edge-{name}"] for name in ("route", "reason", "version", "variant")} == {
        name: document[name] for name in ("route", "reason", "version", "variant")
    }
    assert answers.parse(document).value.labels == ("good", "bad")


def test_texts_are_answered_in_their_order(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/predict/sentiment", json={"texts": ["kind", "rude"]}, headers={"x-request-id": "r"}
    )
    found = answer.json()["answers"]
    assert [entry["result"]["classes"][0]["label"] for entry in found] == ["good", "bad"]
    assert [entry["id"] for entry in found] == ["r-0", "r-1"]


def test_prompts_and_conversations(client: httpx.Client) -> None:
    one = client.post("/v1/predict/parrot", json={"prompt": "a b c", "max_tokens": 2}).json()["result"]
    assert (one["text"], one["finish"]) == ("a b", "length")
    messages = [{"role": "user", "content": "a b"}]
    two = client.post("/v1/predict/parrot", json={"messages": messages, "stop": "b"}).json()["result"]
    assert (two["text"], two["finish"]) == ("a", "stop")


def grey(height: int, width: int, level: int, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, np.full((height, width, 3), level, np.uint8))[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kind", ["image/jpeg", "application/x-www-form-urlencoded"])
def test_a_picture(client: httpx.Client, suffix: str, kind: str, shop: Shop) -> None:
    for level, label in ((250, "bright"), (3, "dark")):
        body = grey(20, 30, level, suffix)
        answer = client.post("/v1/predict/light", content=body, headers={"content-type": kind})
        assert answer.json()["result"]["classes"][0]["label"] == label
    assert shop.asked[-1].data == frozenset(), "nobody said what it shows"


BAD: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    "no json": ("/v1/predict/sentiment", b"{", {}, 400, "strict JSON"),
    "no body": ("/v1/predict/sentiment", b"", {}, 400, "strict JSON"),
    "no utf-8": ("/v1/predict/sentiment", b'{"text": "\xff"}', {}, 400, "strict JSON"),
    "nothing asked": ("/v1/predict/sentiment", b"{}", {}, 400, "one of text, texts, prompt, messages"),
    "two things asked": ("/v1/predict/sentiment", b'{"text": "a", "prompt": "b"}', {}, 400, "one of text"),
    "a number": ("/v1/predict/sentiment", b'{"text": 3}', {}, 400, "a text"),
    "too long a text": ("/v1/predict/sentiment", b'{"text": "%s"}' % (b"a" * 51), {}, 413, "at most 50"),
    "no texts": ("/v1/predict/sentiment", b'{"texts": []}', {}, 400, "at least one text"),
    "too many texts": ("/v1/predict/sentiment", b'{"texts": ["a","a","a","a"]}', {}, 413, "at most 3"),
    "text that is none": ("/v1/predict/sentiment", b'{"texts": ["a", 1]}', {}, 400, "a text"),
    "a hot prompt": ("/v1/predict/parrot", b'{"prompt": "a", "temperature": 3}', {}, 400, "from 0 to 2"),
    "a text to a talker": ("/v1/predict/parrot", b'{"text": "a"}', {}, 400, "what it takes"),
    "no such model": ("/v1/predict/nobody", b'{"text": "a"}', {}, 404, "one of"),
    "no picture": ("/v1/predict/light", b"GIF89a", {"content-type": "image/gif"}, 400, "JPEG, PNG or WebP"),
    "a cut picture": ("/v1/predict/light", grey(20, 30, 9)[:60], {}, 400, "JPEG, PNG or WebP"),
    "a large picture": ("/v1/predict/light", grey(101, 100, 9), {}, 413, "at most 10000 pixels"),
    "a large body": ("/v1/predict/sentiment", b" " * 100_001, {}, 413, "at most 100000 bytes"),
    "a header length": (
        "/v2/models/sums/infer",
        b"{}",
        {"inference-header-content-length": "9"},
        400,
        "0 to 2",
    ),
    "an odd id": ("/v1/predict/sentiment", b'{"text": "a"}', {"x-request-id": "a b"}, 400, "visible ASCII"),
    "no time left": ("/v1/predict/sentiment", b'{"text": "a"}', {"x-deadline-ms": "0"}, 400, "from 1 to"),
    "an odd encoding": ("/v1/predict/sentiment", b"{}", {"content-encoding": "br"}, 400, "gzip, deflate"),
    "no gzip": ("/v1/predict/sentiment", b"{}", {"content-encoding": "gzip"}, 400, "gzip data"),
    "an index of texts": ("/v2/repository/index", b'{"ready": "yes"}', {}, 400, "true or false"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong(client: httpx.Client, case: str) -> None:
    path, body, headers, status, expected = BAD[case]
    answer = client.post(path, content=body, headers=headers)
    told = error(answer)
    assert answer.status_code == status
    assert expected in told.get("expected", "")
    assert told["got"]
    assert told["got"] in told["error"]


def test_gzip_and_deflate(client: httpx.Client) -> None:
    body = b'{"text": "kind"}'
    for name, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        answer = client.post("/v1/predict/sentiment", content=packed, headers={"content-encoding": name})
        assert answer.status_code == 200
        for damaged in (packed[:-3], packed + b"x"):
            answer = client.post("/v1/predict/sentiment", content=damaged, headers={"content-encoding": name})
            assert answer.status_code == 400


@pytest.mark.parametrize("size", [100_001, 50_000_000])
def test_a_bomb_is_not_unpacked(client: httpx.Client, size: int) -> None:
    bomb = gzip.compress(b" " * size)
    answer = client.post("/v1/predict/sentiment", content=bomb, headers={"content-encoding": "gzip"})
    assert (answer.status_code, error(answer)["code"]) == (413, "too-large-error")


def test_a_body_of_unknown_length_is_read_to_its_limit(client: httpx.Client) -> None:
    good = client.post("/v1/predict/sentiment", content=iter([b'{"text":', b' "kind"}']))
    assert good.status_code == 200
    large = client.post("/v1/predict/sentiment", content=(b" " * 1000 for _ in range(200)))
    assert large.status_code == 413


def test_paths_and_methods(client: httpx.Client) -> None:
    assert error(client.get("/v3"))["code"] == "unknown-route"
    assert client.get("/v2/").status_code == 404
    assert client.post("/v2/models//infer").status_code == 404
    other = client.delete("/v2/models/sums")
    assert (other.status_code, other.headers["allow"], error(other)["got"]) == (405, "GET", "DELETE")
    head = client.head("/v2/health/live")
    assert (head.status_code, head.content) == (200, b"")


def test_the_index_needs_no_body(client: httpx.Client) -> None:
    everything = client.post("/v2/repository/index").json()
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["name"] for entry in everything} - {entry["name"] for entry in ready} == {"spare"}


def test_a_model_that_is_not_loaded_says_why(client: httpx.Client) -> None:
    assert client.get("/v2/models/sums/ready").json() == {"name": "sums", "version": "1", "ready": True}
    for path, got in (
        ("spare", "UNAVAILABLE unloaded"),
        ("nobody", "nobody"),
        ("sums/versions/2", "2"),
    ):
        answer = client.get(f"/v2/models/{path}/ready")
        assert (answer.status_code, error(answer)["got"]) == (404, got)


def test_a_form_is_told_what_is_taken(client: httpx.Client) -> None:
    answer = client.post("/v1/predict/shapes", files={"file": ("a.png", grey(4, 4, 9), "image/png")})
    assert answer.status_code == 400
    told = error(answer)
    assert told["got"].startswith("multipart/form-data") and "bytes alone" in told["do"]


def test_late_answers(client: httpx.Client) -> None:
    assert client.get("/v1/answers/done").json()["result"]["kind"] == "text-classification"
    soon = client.get("/v1/answers/soon")
    assert (soon.status_code, soon.json()) == (202, {"id": "soon", "state": "awaited"})
    never = client.get("/v1/answers/never")
    assert (never.status_code, error(never)["code"]) == (404, "unknown-answer-error")


def test_failures_have_their_status(client: httpx.Client) -> None:
    told = {"broken": 500, "busy": 503, "late": 504, "forbidden": 403, "buggy": 500}
    for model, status in told.items():
        answer = client.post(f"/v1/predict/{model}", json={"text": "a"})
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (model == "busy")


def test_a_bug_is_in_the_log_and_not_in_the_answer(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = client.post("/v1/predict/buggy", json={"text": "a"})
    assert "hunter2" not in answer.text
    assert [record.exc_info is not None for record in caplog.records if record.name.endswith("failures")] == [
        True
    ]


# Who is kept out.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8008"}, 200),
        ({"host": "LOCALHOST"}, 200),
        ({"host": "[::1]:8008"}, 200),
        ({"host": "models.example.com"}, 403),
        ({"host": "127.0.0.1.example.com"}, 403),
        ({"host": "localhost:8008", "origin": "http://localhost:8008"}, 200),
        ({"host": "localhost:8008", "origin": "http://example.com"}, 403),
        ({"host": "localhost:8008", "origin": "null"}, 403),
    ],
)
def test_web_pages_do_not_come_in(client: httpx.Client, headers: dict[str, str], status: int) -> None:
    assert client.get("/v2", headers=headers).status_code == status


def test_a_token_is_asked_for_and_never_said(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    token = "geheim-ü"
    with (
        caplog.at_level(logging.DEBUG),
        Server(Door(shop, access=Access(token)), host="127.0.0.1", port=0) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        for value, status in (
            (b"", 401),
            (b"Bearer no", 401),
            (b"Basic x", 401),
            (f"bearer {token}".encode(), 200),
        ):
            answer = client.get("/v2", headers={b"authorization": value})
            assert answer.status_code == status
            assert token not in answer.text
        assert client.get("/v2").headers["www-authenticate"] == "Bearer"
        assert client.get("/v2/health/ready").status_code == 200, "a load balancer has no token"
        assert client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert token not in caplog.text
    assert token not in repr(Access(token))


def test_others_reach_a_door_by_token_only() -> None:
    assert access_for("0.0.0.0", "t").hosts is None
    assert access_for("::1", "").hosts is not None
    for host in ("0.0.0.0", "::", "192.168.1.7", "gateway"):
        with pytest.raises(ConfigError, match=r"Set door\.token, or listen on 127\.0\.0\.1"):
            access_for(host, "")


def test_a_hook_admits_callers_before_their_body_is_read(shop: Shop) -> None:
    def admit(metadata: Metadata, path: str) -> None:
        if metadata.token == "used-up":
            raise QuotaError("key 'a'", retry_after_s=20)
        if metadata.token != "good":
            raise UnauthorizedError(f"a key for {path}", expected="a known one", got="another")

    with Server(Door(shop, admit=admit), host="127.0.0.1", port=0) as server:
        for token, status in (("good", 200), ("used-up", 429), ("none", 401)):
            headers = {"authorization": f"Bearer {token}"}
            answer = httpx.post(f"{server.url}/v1/predict/sentiment", json={"text": "a"}, headers=headers)
            assert answer.status_code == status
            if status == 429:
                assert answer.headers["retry-after"] == "20"


def test_the_page_has_every_route_and_status(repository: Path, shop: Shop) -> None:
    page = (repository / "docs/reference/http-api.md").read_text("utf-8")
    for problem in PROBLEMS:
        assert f"| {problem.status} | `{problem.code}` | {problem.grpc} {problem.grpc_name} |" in page
    for name in REFUSED:
        assert f"`{name}`" in page
    for way in Door(shop).ways:
        assert f"`{way.method} {way.path}`" in page
