"""Signed batches to a real HTTP server, and what its answers mean."""

import builtins
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.contract.errors import ConfigError, OverloadedError, RemoteError
from edge_runtime.sinks.pace import RejectedError
from edge_runtime.sinks.spool import Letter
from edge_runtime.sinks.webhook import Webhook, WebhookOptions, asked_s, signature
from tests.simulators.broker import free_port, wait_until
from tests.simulators.certificates import Authority
from tests.simulators.doings import numbered
from tests.simulators.far_servers import sink_of
from tests.simulators.receiver import Receiver

SECRET = "sixteen letters and more"


def letters(count: int, start: int = 0) -> list[Letter]:
    return [
        Letter(n, event.camera, event.model_dump_json().encode())
        for n, event in enumerate(numbered(count, start))
    ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def hook(receiver: Receiver) -> Iterator[Webhook]:
    hook = Webhook(WebhookOptions(receiver.url, site="shop", secret=SECRET, headers={"X-Key": "KEY-SECRET"}))
    yield hook
    hook.close()


@pytest.fixture
def is_genuine(repository: Path) -> Callable[[str, dict[str, str], bytes], bool]:
    """The receiver's side, as the documentation has it."""
    page = (repository / "docs/guide/integrations.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    return names["is_genuine"]


def test_a_batch_is_signed_so_that_the_documented_receiver_takes_it(
    receiver: Receiver, hook: Webhook, is_genuine: Callable[[str, dict[str, str], bytes], bool]
) -> None:
    hook.send(letters(3))
    hook.send(letters(2, 3))
    first, second = receiver.deliveries
    assert (first.numbers, second.numbers) == ([0, 1, 2], [3, 4])
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["X-Key"] == "KEY-SECRET"
    document = json.loads(first.body)
    assert (document["v"], document["site"]) == (1, "shop")
    assert [event["id"] for event in document["events"]] == ["door-0", "door-1", "door-2"]
    assert is_genuine(SECRET, first.headers, first.body)
    assert not is_genuine("another secret, as long", first.headers, first.body)
    assert not is_genuine(SECRET, first.headers, first.body + b" ")
    assert not is_genuine(SECRET, second.headers, first.body)
    old = first.headers | {"X-Edge-Timestamp": "1000"}
    old["X-Edge-Signature"] = signature(SECRET, "1000", first.body)
    assert not is_genuine(SECRET, old, first.body)


def test_the_signature_is_the_one_that_openssl_makes() -> None:
    # printf '1700000000.{"v":1}' | openssl dgst -sha256 -hmac 'sixteen letters and more'
    known = "v1=de2d694eabbdf0e779eb4a7b3e9cb01effc46d841c38615076d198faf72bee73"
    assert signature(SECRET, "1700000000", b'{"v":1}') == known


def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    hook = Webhook(WebhookOptions(receiver.url))
    hook.send(letters(1))
    hook.close()
    assert not [name for name in receiver.deliveries[0].headers if name.startswith("X-Edge")]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_answers_that_pass(receiver: Receiver, hook: Webhook, status: int) -> None:
    receiver.answers.append((status, {}))
    with pytest.raises(RemoteError, match=str(status)) as caught:
        hook.send(letters(1))
    assert caught.value.retryable
    hook.send(letters(1))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_answers_about_us(receiver: Receiver, hook: Webhook, status: int) -> None:
    receiver.answers.append((status, {}))
    with pytest.raises(RemoteError, match=f"does not let these events in: got {status} no") as caught:
        hook.send(letters(1))
    assert not caught.value.retryable
    assert not isinstance(caught.value, RejectedError)


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_answers_about_the_events(receiver: Receiver, hook: Webhook, status: int) -> None:
    receiver.answers.append((status, {}))
    with pytest.raises(RejectedError, match=str(status)):
        hook.send(letters(1))


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heard(receiver: Receiver, hook: Webhook, status: int) -> None:
    receiver.answers.append((status, {"Retry-After": "7"}))
    with pytest.raises(OverloadedError) as caught:
        hook.send(letters(1))
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        ("-5", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 00:01:30 GMT", 90.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read(said: str | None, expected: float | None) -> None:
    assert asked_s(said, datetime(2026, 1, 1, tzinfo=UTC)) == expected


def test_a_redirect_is_not_followed(receiver: Receiver, hook: Webhook) -> None:
    thief = Receiver()
    for status in (301, 302, 307, 308):
        receiver.answers.append((status, {"Location": thief.url}))
        with pytest.raises(RemoteError, match="redirects are not followed") as caught:
            hook.send(letters(1))
        assert not caught.value.retryable
    thief.close()
    assert thief.deliveries == []


def test_a_receiver_that_is_not_there_is_told(tmp_path: Path) -> None:
    hook = Webhook(WebhookOptions(f"http://127.0.0.1:{free_port()}/x"))
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        hook.send(letters(1))
    assert caught.value.retryable
    hook.close()


def test_a_long_answer_is_not_read_to_its_end(receiver: Receiver, hook: Webhook) -> None:
    receiver.answers.append((500, {"X-Long": "x" * 3000}))
    with pytest.raises(RemoteError, match="500 no"):
        hook.send(letters(1))
    hook.send(letters(1))


def test_certificates_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    receiver = Receiver(tls=authority.server())
    trusting = Webhook(WebhookOptions(receiver.url, ca_file=authority.file))
    trusting.send(letters(2))
    trusting.close()
    stranger = Webhook(WebhookOptions(receiver.url))
    with pytest.raises(RemoteError, match="certificate is not trusted") as caught:
        stranger.send(letters(1))
    assert not caught.value.retryable
    stranger.close()
    receiver.close()
    assert receiver.taken == [0, 1]
    with pytest.raises(ConfigError, match=r"none\.pem"):
        Webhook(WebhookOptions(receiver.url, ca_file=tmp_path / "none.pem"))


def test_no_secret_is_in_a_message_or_the_log(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sink = {"type": "webhook", "url": receiver.url, "secret": SECRET, "headers": {"X-Key": "KEY-SECRET"}}
    receiver.answers.extend([(500, {}), (302, {"Location": "/other"})])
    forwarder = sink_of(tmp_path, sink)
    forwarder.write(numbered(1))
    wait_until(lambda: "redirects" in forwarder.status().trouble)
    forwarder.close()
    receiver.close()
    said = caplog.text + forwarder.status().trouble + forwarder.name + str(list(tmp_path.iterdir()))
    assert forwarder.name == f"webhook 127.0.0.1:{receiver.port}"
    for secret in (SECRET, "KEY-SECRET", "PATH-SECRET"):
        assert secret not in said


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "httpx":
            raise ImportError("No module named 'httpx'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "httpx", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"edge-runtime\[web\]"):
        Webhook(WebhookOptions("http://localhost/"))
