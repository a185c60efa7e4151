"""The cloud's client against a real server that misbehaves in every way it knows."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.errors import (
    DeadlineError,
    EdgeRuntimeError,
    InputError,
    OverloadedError,
    RemoteError,
    StorageError,
    UnauthorizedError,
    UnknownModelError,
)
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Message, Prompt, Request, Sampling
from edge_runtime.contract.result import TextClassification, Values
from edge_runtime.contract.route import DataClass
from edge_runtime.protocol import v2
from edge_runtime.routing.breaker import BreakerState
from edge_runtime.routing.call import CallError
from edge_runtime.routing.channel import Channel, ChannelOptions
from edge_runtime.routing.cloud_client import CloudClient
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.outgoing import Outgoing, prepare
from edge_runtime.routing.retry import Failure
from tests.simulators.certificates import Authority
from tests.simulators.cloud import (
    Cloud,
    Does,
    Seen,
    answers,
    black_hole,
    cloud_of,
    drips,
    login_page,
    refuses,
    sentiment,
)
from tests.simulators.http2 import http2_server


class Side:
    """A client of a cloud, and what it says has left."""

    def __init__(self, url: str, **options: Any) -> None:
        self.gauge = CloudGauge()
        self.left: list[tuple[str, str]] = []
        self.client = CloudClient(Channel(ChannelOptions(url, **options)), self.gauge, self._leaving)

    def _leaving(self, what: Outgoing, how: str, to: str) -> None:
        self.left.append((how, what.id))

    def ask(self, value: Any = "rude staff", timeout_s: float = 10.0, **more: Any) -> Any:
        request = Request("id-1", "m", value, data=frozenset({DataClass.TEXT}), trace=more.pop("trace", ""))
        return self.client.predict(request, prepare(request, "m"), time.monotonic() + timeout_s, **more)


@pytest.fixture
def side() -> Iterator[Any]:
    sides: list[Side] = []

    def make(url: str, **options: Any) -> Side:
        sides.append(Side(url, **options))
        return sides[-1]

    yield make
    for one in sides:
        one.client.close()


def test_a_text_goes_with_its_key_deadline_trace_token_and_classes(side: Any) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with cloud_of(answers()) as cloud:
        answer = side(cloud.url, token="secret").ask(trace=trace)
    (seen,) = cloud.seen
    assert isinstance(answer.value, TextClassification)
    assert (answer.model, answer.version, answer.variant) == ("sentiment-large", "2.0.0", "onnx-fp32")
    assert (seen.path, json.loads(seen.body)) == ("/v1/predict/m", {"text": "rude staff"})
    assert (seen.headers["x-request-id"], seen.headers["traceparent"]) == ("id-1", trace)
    assert (seen.headers["authorization"], seen.headers["x-edge-data"]) == ("Bearer secret", "text")
    assert 9_000 < int(seen.headers["x-deadline-ms"]) <= 10_000


def test_what_was_said_beside_a_request_goes_beside_it_again(side: Any) -> None:
    said = {"priority": 0, "sticky": "till-3", "own": 1}
    with cloud_of(answers()) as cloud:
        client = side(cloud.url).client
        for value in ("a text", {"x": np.zeros(1, np.float32)}):
            request = Request("id-1", "m", value, parameters=said)
            client.predict(request, prepare(request, "m", binary=False), time.monotonic() + 10)
    text, tensors = cloud.seen
    for seen in (text, tensors):
        assert (seen.headers["x-edge-priority"], seen.headers["x-edge-sticky"]) == ("0", "till-3")
    assert json.loads(tensors.body)["parameters"] == {"own": 1}


def test_a_picture_goes_as_jpeg(side: Any) -> None:
    picture = Picture.from_bgr(np.full((40, 60, 3), 90, np.uint8))
    with cloud_of(answers()) as cloud:
        side(cloud.url).ask(picture)
    assert cloud.seen[0].headers["content-type"] == "image/jpeg"
    assert cloud.seen[0].body[:2] == b"\xff\xd8"


def test_a_prompt_goes_with_its_wishes(side: Any) -> None:
    prompt = Prompt(messages=(Message("user", "hi"),), sampling=Sampling(max_tokens=3, stop=("x",)))
    with cloud_of(answers()) as cloud:
        side(cloud.url).ask(prompt)
    sent = json.loads(cloud.seen[0].body)
    assert sent == {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stop": ["x"]}


@pytest.mark.parametrize("does", [black_hole, drips])
def test_a_server_that_never_ends_holds_nobody(side: Any, does: Does) -> None:
    with cloud_of(does) as cloud:
        one = side(cloud.url)
        with pytest.raises(DeadlineError, match="no answer"):
            one.ask(timeout_s=0.2)
    assert one.left == [("request", "id-1")]


def test_a_port_that_accepts_and_says_nothing_holds_nobody(side: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hole, pytest.raises(RemoteError):
        side(f"http://127.0.0.1:{hole.getsockname()[1]}").ask(timeout_s=0.2)


def test_a_closed_port_is_tried_again_and_then_said(side: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    one = side(f"http://127.0.0.1:{port}")
    with pytest.raises(CallError, match="cannot be reached") as caught:
        one.ask()
    assert caught.value.failure is Failure.UNREACHABLE
    assert [how for how, _ in one.left] == ["request", "retry", "retry"]
    assert not one.gauge.online


ERRORS = [
    (400, {}, InputError, 1),
    (401, {}, UnauthorizedError, 1),
    (404, {}, UnknownModelError, 1),
    (429, {}, OverloadedError, 1),
    (500, {}, EdgeRuntimeError, 3),
    (502, {}, RemoteError, 3),
    (503, {"retry_after": "0"}, OverloadedError, 3),
    (503, {"retry_after": "100"}, OverloadedError, 1),
    (302, {}, EdgeRuntimeError, 1),
]


@pytest.mark.parametrize(("status", "headers", "error", "tries"), ERRORS)
def test_what_is_tried_again(
    side: Any, status: int, headers: dict[str, str], error: type[Exception], tries: int
) -> None:
    with cloud_of(refuses(status, "no", **headers)) as cloud:
        with pytest.raises(error):
            side(cloud.url).ask()
        assert cloud.keys() == ["id-1"] * tries


def test_a_captive_portal_is_not_the_cloud(side: Any) -> None:
    with cloud_of(login_page) as cloud:
        one = side(cloud.url)
        cloud.echoes = False
        with pytest.raises(CallError, match="somebody else answered") as caught:
            one.ask()
        assert caught.value.failure is Failure.NOT_OURS
        assert len(cloud.seen) == 1
        assert not one.client.probe(5.0)
        cloud.echoes = True
        assert one.client.probe(5.0)


def test_a_server_that_echoes_nothing_shows_its_metadata(side: Any) -> None:
    def foreign(cloud: Cloud, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        body = b'{"name": "mlserver", "version": "1.7", "extensions": []}' if seen.path == "/v2" else b"{}"
        return 200, {"content-type": "application/json"}, body

    with cloud_of(foreign) as cloud:
        cloud.echoes = False
        assert side(cloud.url).client.probe(5.0)


def test_what_cannot_be_written_down_does_not_leave(side: Any) -> None:
    def refuse(what: Outgoing, how: str, to: str) -> None:
        raise StorageError("audit.jsonl")

    with cloud_of(answers()) as cloud:
        one = side(cloud.url)
        one.client._leaving = refuse
        with pytest.raises(StorageError):
            one.ask()
        assert cloud.seen == []
        assert one.gauge.facts("m").breaker is BreakerState.CLOSED


def test_a_slow_answer_is_asked_for_twice_and_the_first_one_counts(side: Any) -> None:
    """Only the first call stalls; the budget of second calls lets one through for every twenty."""
    first = threading.Event()

    def stalls_once(cloud: Cloud, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if seen.body == b'{"text":"slow"}' and not first.is_set():
            first.set()
            cloud.leaving.wait(60)
        return 200, {"content-type": "application/json"}, sentiment()

    with cloud_of(stalls_once) as cloud:
        one = side(cloud.url)
        for _ in range(20):
            one.ask(hedge_after_s=5.0)
        answer = one.ask("slow", hedge_after_s=0.05)
        assert answer.value.labels[0] == "negative"
        assert [how for how, _ in one.left].count("hedge") == 1
        assert one.gauge.status().hedges == 1


def test_without_budget_there_is_no_second_call(side: Any) -> None:
    with cloud_of(answers(after_s=0.2)) as cloud:
        one = side(cloud.url)
        one.ask(hedge_after_s=0.01)
        assert len(cloud.seen) == 1


def test_tensors_go_binary_and_as_json_once_the_server_refuses(side: Any) -> None:
    def json_only(cloud: Cloud, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if v2.HEADER_LENGTH in seen.headers:
            return 400, {"content-type": "application/json"}, b'{"error": "not JSON"}'
        asked = v2.decode_request(seen.body, None)
        body, _ = v2.encode_response({"y": asked.tensors["x"] * 2}, model="m", version="1")
        return 200, {"content-type": "application/json"}, body

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with cloud_of(json_only) as cloud:
        one = side(cloud.url)
        for tries in (2, 3):
            request = Request("id-1", "m", {"x": x})
            outgoing = prepare(request, "m", binary=one.client.binary)
            answer = one.client.predict(request, outgoing, time.monotonic() + 10)
            assert isinstance(answer.value, Values)
            np.testing.assert_array_equal(answer.value.tensors["y"], 2 * x)
            assert len(cloud.seen) == tries
        assert cloud.seen[0].path == "/v2/models/m/infer"


def test_a_wrong_request_stays_wrong_in_both_forms(side: Any) -> None:
    with cloud_of(refuses(400, "input 'x': expected FP32")) as cloud:
        one = side(cloud.url)
        with pytest.raises(InputError, match="expected FP32"):
            one.ask({"x": np.zeros(1, np.float32)})
        assert one.client.binary


STREAM = (
    b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n'
    b'data: {"choices": [{"text": "b", "finish_reason": "length"}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}\n\n'
)


def stream(body: bytes) -> Does:
    return lambda cloud, seen: (200, {"content-type": "text/event-stream"}, body)


def pieces(one: Side, timeout_s: float = 10.0) -> list[Any]:
    request = Request("id-1", "m", Prompt("x"))
    outgoing = prepare(request, "m", stream=True)
    return list(one.client.generate(request, outgoing, time.monotonic() + timeout_s))


def test_a_text_comes_in_pieces(side: Any) -> None:
    with cloud_of(stream(STREAM + b"data: [DONE]\n\n")) as cloud:
        *parts, last = pieces(side(cloud.url))
    assert [part.text for part in parts] == ["a", "b"]
    whole = last.end.value
    assert (whole.text, whole.finish, whole.prompt_tokens, whole.tokens) == ("ab", "length", 4, 2)
    assert cloud.seen[0].path == "/v1/completions"


@pytest.mark.parametrize(
    "body",
    [STREAM, b"data: nonsense\n\n", b'data: {"error": {"message": "out of memory"}}\n\n'],
    ids=["cut", "no JSON", "an error"],
)
def test_a_text_that_breaks_off_is_an_error(side: Any, body: bytes) -> None:
    with cloud_of(stream(body)) as cloud, pytest.raises(RemoteError):
        pieces(side(cloud.url))


def test_a_refused_text_is_the_servers_error(side: Any) -> None:
    with cloud_of(refuses(404, "no such model")) as cloud, pytest.raises(UnknownModelError):
        pieces(side(cloud.url))


def test_the_breaker_opens_and_the_budget_ends(side: Any) -> None:
    with cloud_of(refuses(500)) as cloud:
        one = side(cloud.url)
        for _ in range(2):
            with pytest.raises(EdgeRuntimeError):
                one.ask()
        came = len(cloud.seen)
        with pytest.raises(OverloadedError, match="must not be asked now"):
            one.ask()
        assert len(cloud.seen) == came
    poor = CloudGauge(bytes_per_hour=10)
    assert poor.acquire("m", 11, 0) is None
    assert poor.acquire("m", 10, 0) is not None
    assert poor.facts("m").bytes_left == 0


def test_after_closing_nothing_is_sent(side: Any) -> None:
    with cloud_of(answers()) as cloud:
        one = side(cloud.url)
        one.ask()
        one.client.close()
        with pytest.raises(RemoteError, match="closed"):
            one.ask()


def test_httpx_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(EdgeRuntimeError, match=r"edge-runtime\[web\]"):
        Channel(ChannelOptions("http://127.0.0.1:1"))


def test_certificates_that_are_none_are_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(EdgeRuntimeError, match="PEM certificates"):
        Channel(ChannelOptions("https://127.0.0.1:1", ca_file=tmp_path / "ca.pem"))


def test_tls_trusts_the_authority_that_is_named_and_no_other(side: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with cloud_of(answers(), tls=authority.server()) as cloud:
        assert side(cloud.url, ca_file=authority.file).ask().model == "sentiment-large"
        stranger = side(cloud.url)
        with pytest.raises(CallError, match="certificate is not trusted") as caught:
            stranger.ask()
        assert caught.value.failure is Failure.UNTRUSTED
        assert [how for how, _ in stranger.left] == ["request"]
        assert len(cloud.seen) == 1


def test_mutual_tls_shows_the_devices_certificate(side: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("device")
    with cloud_of(answers(), tls=authority.server(wants_certificates=True)) as cloud:
        with pytest.raises(CallError):
            side(cloud.url, ca_file=authority.file).ask()
        one = side(cloud.url, ca_file=authority.file, cert_file=certificate, key_file=key)
        assert one.ask().version == "2.0.0"


def test_over_tls_requests_share_one_http2_connection(side: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with http2_server(authority.server(), sentiment()) as server:
        one = side(f"https://127.0.0.1:{server.port}", ca_file=authority.file)
        for _ in range(3):
            assert one.ask().version == "2.0.0"
        assert (server.connections, len(server.streams)) == (1, 3)
        one.client.close()
