"""Requests end to end: a device with a small model, a cloud with a large one, a real network between them."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edge_runtime import Runtime, connect
from edge_runtime.contract.errors import (
    InputError,
    RefusedError,
    UnauthorizedError,
    UnknownAnswerError,
    UnknownModelError,
)
from edge_runtime.contract.result import TextClassification, Values
from edge_runtime.contract.route import Reason, Route
from edge_runtime.routing.sending import SendingOptions
from edge_runtime.runtime.door import RuntimeDoor, door_of
from edge_runtime.runtime.late import LateAnswer
from edge_runtime.settings import load_settings
from tests.simulators.cloud import black_hole, cloud_of, until
from tests.simulators.sentiment import LARGE, sentiment_bundle

CLOUD = """
version: 1
site: cloud
models: {sentiment-large: {bundle: large}}
door: {port: %d}
"""
EDGE = """
version: 1
site: edge
state_dir: state
models:
  sentiment:
    bundle: small
    route: {policy: cascade, cloud_model: sentiment-large, timeout_s: 5}
  later:
    bundle: small
    route: {policy: cascade, cloud_model: sentiment-large, return: local_now, audit_rate: 1}
  private:
    bundle: small
    route: {policy: cascade, cloud_model: sentiment-large, never_leave: [text]}
  large:
    bundle: huge
    route: {cloud_model: sentiment-large}
cloud: {url: "http://127.0.0.1:%d", probe_every_s: 1}
door: {port: 0}
memory_budget_mb: 50
"""
FAST = SendingOptions(first_s=0.05, longest_s=0.5)


class Cloud:
    """The cloud's side, as often as it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0
        self._runtime: Runtime | None = None
        self._door: RuntimeDoor | None = None

    def start(self) -> None:
        (self._folder / "cloud.yaml").write_text(CLOUD % self.port)
        self._runtime = Runtime(self._folder / "cloud.yaml")
        self._door = door_of(self._runtime)
        self.port = int(self._door.url.rsplit(":", 1)[1])

    def stop(self) -> None:
        if self._door is not None and self._runtime is not None:
            self._door.close()
            self._runtime.close()
        self._door = self._runtime = None


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    sentiment_bundle(folder / "small")
    sentiment_bundle(folder / "large", LARGE, name="sentiment-large", version="2.0.0")
    sentiment_bundle(folder / "huge", LARGE, name="sentiment-large", peak_memory_bytes=10**9)
    return folder


@pytest.fixture
def cloud(bundles: Path, tmp_path: Path) -> Iterator[Cloud]:
    shutil.copytree(bundles, tmp_path, dirs_exist_ok=True)
    one = Cloud(tmp_path)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def device(cloud: Cloud, tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    opened: list[Runtime] = []

    def make(**more: Any) -> Runtime:
        (tmp_path / "edge.yaml").write_text(EDGE % cloud.port)
        opened.append(Runtime(tmp_path / "edge.yaml", sending=FAST, **more))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def label(value: TextClassification) -> str:
    return value.labels[int(value.classes[0])]


def test_easy_texts_are_answered_here_and_hard_ones_by_the_cloud(device: Callable[..., Runtime]) -> None:
    edge = device()
    easy, hard = edge.predict("sentiment", "good staff"), edge.predict("sentiment", "rude staff")
    assert (easy.decision.route, easy.decision.reason) == (Route.LOCAL, Reason.CONFIDENT)
    assert (hard.decision.route, hard.decision.reason) == (Route.CLOUD, Reason.LOW_CONFIDENCE)
    assert (label(easy.value), label(hard.value)) == ("positive", "negative")
    assert (hard.model, hard.version, hard.variant) == ("sentiment-large", "2.0.0", "onnx-fp32")


def test_stopped_requests_are_still_answered_started_the_outbox_drains(
    device: Callable[..., Runtime], cloud: Cloud
) -> None:
    late: list[LateAnswer] = []
    edge = device(on_late=late.append)
    door = door_of(edge)
    try:
        with connect(door.url) as client:
            assert client.predict("sentiment", "rude staff").decision.route is Route.CLOUD
            cloud.stop()
            reasons = [client.predict("sentiment", "rude staff").decision.reason for _ in range(4)]
            assert reasons[0] is Reason.CLOUD_FAILED
            assert set(reasons) <= {Reason.CLOUD_FAILED, Reason.OFFLINE, Reason.BREAKER_OPEN}
            ids = [f"id-{number}" for number in range(5)]
            for one in ids:
                answer = client.predict("later", "rude staff", request_id=one)
                assert (answer.decision.route, label(answer.value)) == (Route.LOCAL, "positive")
                assert client.late(one) is None
            assert client.predict("sentiment", "good staff").decision.reason is Reason.CONFIDENT
            cloud.start()
            until(lambda: len(late) == len(ids), "the late answers")
            assert [one.request_id for one in late] == ids
            for one in ids:
                answer = client.late(one)
                assert answer is not None
                assert (answer.decision.route, label(answer.value)) == (Route.CLOUD, "negative")
            with pytest.raises(UnknownAnswerError):
                client.late("never asked")
        status = edge.status().cloud
        assert status is not None
        assert (status.outbox.waiting, status.outbox.sent, status.outbox.poisoned) == (0, 5, 0)
    finally:
        door.close()


def test_what_is_owed_survives_the_device_too(device: Callable[..., Runtime], cloud: Cloud) -> None:
    edge = device()
    cloud.stop()
    edge.predict("later", "rude staff", request_id="before")
    edge.close()
    cloud.start()
    late: list[LateAnswer] = []
    again = device(on_late=late.append)
    until(lambda: late, "the late answer")
    assert again.late("before") is not None


def test_what_is_owed_is_not_sent_when_the_settings_keep_it_here_meanwhile(
    device: Callable[..., Runtime], cloud: Cloud, tmp_path: Path
) -> None:
    edge, said_why = device(), "privacy: text may not leave by the settings"
    cloud.stop()
    edge.predict("later", "rude staff", request_id="before")
    edge.close()
    (tmp_path / "state/audit.jsonl").unlink(missing_ok=True)
    cloud.start()
    route = edge.settings.models["later"].route.model_copy(update={"never_leave": ("text",)})
    models = {"later": edge.settings.models["later"].model_copy(update={"route": route})}
    with Runtime(edge.settings.model_copy(update={"models": models}), sending=FAST) as again:
        until(lambda: (status := again.status().cloud) and status.outbox.withheld, "what is withheld")
        with pytest.raises(RefusedError, match=r"'before' did not leave.*privacy: text may not leave"):
            again.late("before")
        door = door_of(again)
        try:
            told = httpx.get(f"{door.url}/v1/answers/before")
        finally:
            door.close()
        assert (told.status_code, told.json()["code"]) == (403, "refused-error")
        assert told.json()["got"] == said_why
    (line,) = (tmp_path / "state/audit.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["id"], said["how"], said["to"]) == ("before", "withheld", "")
    assert said["why"] == said_why


def test_an_id_is_of_one_question_only(device: Callable[..., Runtime], cloud: Cloud) -> None:
    edge = device()
    cloud.stop()
    door = door_of(edge)
    try:
        with connect(door.url) as client:
            for _ in range(2):
                client.predict("later", "rude staff", request_id="one")
            with pytest.raises(InputError, match="request 'one'"):
                client.predict("later", "rude bread", request_id="one")
    finally:
        door.close()


def test_an_event_holds_nothing_that_any_model_keeps_here(device: Callable[..., Runtime]) -> None:
    edge = device()  # the model `private` keeps texts
    for kept in (None, ["text"], ["faces", "text"]):
        with pytest.raises(RefusedError, match="text may not leave by the settings"):
            edge.tell("/v1/events", {"door": "open"}, data=kept)
    assert edge.tell("/v1/events", {"door": 1}, data=[], event_id="one")
    with pytest.raises(InputError, match="request 'two'"):
        for state in (0, 1):
            edge.tell("/v1/events", {"door": state}, data=["video"], event_id="two")


@pytest.mark.parametrize("said", [None, "tensors", "video"])
def test_a_tensor_of_texts_does_not_leave_where_texts_may_not(
    device: Callable[..., Runtime], tmp_path: Path, said: str | None
) -> None:
    edge = device()
    route = edge.settings.models["large"].route.model_copy(
        update={"never_leave": ("text",), "policy": "cloud_only"}
    )
    model = edge.settings.models["large"].model_copy(update={"route": route, "bundle": None})
    changed = {"models": {"far": model}, "state_dir": tmp_path / "other"}
    document = {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a secret"]}],
    }
    with Runtime(edge.settings.model_copy(update=changed)) as other:
        door = door_of(other)
        try:
            answer = httpx.post(
                f"{door.url}/v2/models/far/infer",
                json=document,
                headers={} if said is None else {"x-edge-data": said},
            )
        finally:
            door.close()
    assert (answer.status_code, answer.json()["code"]) == (403, "refused-error")
    assert "may not leave" in answer.json()["do"]
    assert not (tmp_path / "other/audit.jsonl").exists()


def test_audits_are_compared(device: Callable[..., Runtime]) -> None:
    edge = device()
    assert edge.predict("later", "good staff").decision.reason is Reason.AUDIT
    assert edge.cloud is not None
    desk = edge.cloud.desk
    until(desk.status, "the audit")
    assert (desk.status()["sentiment-large"].audits, desk.status()["sentiment-large"].differing) == (1, 0)


def test_a_model_that_does_not_fit_is_not_opened_and_the_cloud_answers(
    device: Callable[..., Runtime],
) -> None:
    edge = device()
    local = edge.local("large")
    assert local is not None
    assert local.opened is None
    answer = edge.predict("large", "kind staff")
    assert (answer.decision.route, answer.decision.reason) == (Route.CLOUD, Reason.DOES_NOT_FIT)


def test_private_texts_stay_and_the_audit_log_proves_it(
    device: Callable[..., Runtime], tmp_path: Path
) -> None:
    edge = device()
    assert edge.predict("private", "rude staff").decision.reason is Reason.PRIVACY
    assert not (tmp_path / "state/audit.jsonl").exists()
    edge.predict("sentiment", "rude staff", request_id="asked")
    (line,) = (tmp_path / "state/audit.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["id"], said["data"], said["why"], said["how"]) == (
        "asked",
        ["text"],
        "low-confidence",
        "request",
    )


def test_unloaded_the_device_lets_the_cloud_answer(device: Callable[..., Runtime]) -> None:
    edge = device()
    edge.unload("sentiment")
    assert edge.predict("sentiment", "good staff").decision.route is Route.CLOUD
    edge.load("sentiment")
    assert edge.predict("sentiment", "good staff").decision.route is Route.LOCAL
    with pytest.raises(UnknownModelError):
        edge.unload("nobody")


def test_tensors_cross_the_door(device: Callable[..., Runtime]) -> None:
    edge = device()
    door = door_of(edge)
    ids = np.array([[2, 9]], np.int64)
    tensors = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    try:
        with connect(door.url) as client:
            answer = client.predict("sentiment", tensors)
            assert isinstance(answer.value, Values)
            np.testing.assert_allclose(answer.value.tensors["logits"], [[-1.5, 1.5]])
            assert (answer.decision.route, answer.variant) == (Route.LOCAL, "onnx-fp32")
            assert sorted(client.models()) == ["large", "later", "private", "sentiment"]
            with pytest.raises(InputError):
                client.predict("sentiment", {"input_ids": ids})
            with pytest.raises(UnknownModelError):
                client.predict("nobody", "x")
    finally:
        door.close()


def test_a_door_to_others_wants_its_token(cloud: Cloud, tmp_path: Path) -> None:
    del cloud
    store = tmp_path / "open.yaml"
    store.write_text(
        'version: 1\nsite: s\nmodels: {m: {bundle: small}}\ndoor: {host: 0.0.0.0, port: 0, token: "t0ken"}\n'
    )
    with Runtime(load_settings(store)) as edge:
        door = door_of(edge)
        url = door.url.replace("0.0.0.0", "127.0.0.1")
        try:
            with connect(url) as client, pytest.raises(UnauthorizedError):
                client.predict("m", "good")
            with connect(url, token="t0ken") as client:
                assert client.predict("m", "good").decision.reason is Reason.POLICY
        finally:
            door.close()


def test_nobody_answers_what_may_not_leave_and_does_not_fit(
    device: Callable[..., Runtime], tmp_path: Path
) -> None:
    edge = device()
    policy = edge.settings.models["large"].route.model_copy(update={"never_leave": ("text",)})
    models = {"large": edge.settings.models["large"].model_copy(update={"route": policy})}
    with (
        Runtime(
            edge.settings.model_copy(update={"models": models, "state_dir": tmp_path / "other"})
        ) as other,
        pytest.raises(RefusedError, match="privacy"),
    ):
        other.predict("large", "kind staff")


SILENT = """
version: 1
site: edge
state_dir: state
models:
  asks: {bundle: small, route: {policy: cascade, cloud_model: sentiment-large, timeout_s: 30}}
  alone: {bundle: small, route: {policy: local_only}}
cloud: {url: "%s", probe_every_s: 60}
door: {port: 0, at_once: 1}
"""


def test_who_waits_for_a_silent_cloud_holds_nobody_who_needs_none(bundles: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles, tmp_path, dirs_exist_ok=True)
    with cloud_of(black_hole) as silent:
        (tmp_path / "edge.yaml").write_text(SILENT % silent.url)
        with Runtime(tmp_path / "edge.yaml") as edge, ThreadPoolExecutor(1) as other:
            door = door_of(edge)
            try:
                with connect(door.url) as one, connect(door.url) as two:
                    waiting = other.submit(one.predict, "asks", "rude staff", timeout_s=30)
                    until(lambda: silent.seen, "a question")
                    assert two.predict("alone", "rude staff").decision.reason is Reason.POLICY
                    assert not waiting.done()
                    silent.leaving.set()
                    assert waiting.result().decision.route is Route.LOCAL
            finally:
                door.close()


@pytest.mark.parametrize("value", [b"a text", None, 5, ["a text"], {"x": [1.0]}])
def test_what_is_no_value_is_said(device: Callable[..., Runtime], value: Any) -> None:
    with pytest.raises(InputError, match=r"a text, a Prompt, a Picture|pathlib.Path"):
        device().predict("sentiment", value)
