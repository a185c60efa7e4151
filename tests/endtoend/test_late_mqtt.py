"""Late answers of a cloud, published by an agent to a real broker; what may not leave is kept back."""

import json
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime import Runtime, connect
from edge_runtime.agent.agent import Agent
from edge_runtime.agent.outlets import Outlets
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.result import Answer, Finish, Generation, Values
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.runtime.door import door_of
from edge_runtime.runtime.late import LateAnswer
from edge_runtime.settings import load_settings
from tests.simulators.broker import MOSQUITTO, Broker, Listener, wait_until
from tests.simulators.sentiment import LARGE, sentiment_bundle

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"),
]

CLOUD = """
version: 1
site: cloud
models: {sentiment-large: {bundle: large}}
door: {port: 0}
"""
STORE = """
version: 1
site: shop
state_dir: state
models:
  later:
    bundle: small
    route: {policy: cascade, cloud_model: sentiment-large, return: local_now, never_leave: [%s]}
  other:
    bundle: small
    route: {policy: local_only, never_leave: [faces]}
cloud: {url: "%s", probe_every_s: 1}
door: {port: 0}
sinks:
  - {type: mqtt, host: 127.0.0.1, port: %d, late: true}
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    one = Broker(tmp_path / "broker").start()
    yield one
    one.stop()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    one = Listener(broker.port)
    yield one
    one.close()


@contextmanager
def running(agent: Agent) -> Generator[str]:
    """Run an agent; give its door."""
    stop = threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    try:
        requests = agent.status().requests
        assert requests is not None
        yield requests.door
    finally:
        stop.set()
        thread.join(60)


def store(folder: Path, port: int, *, url: str = "http://127.0.0.1:9", never: str = "") -> Path:
    file = folder / "store.yaml"
    file.write_text(STORE % (never, url, port))
    return file


def late(value: object, asked: str | None = "later", request_id: str = "one") -> LateAnswer:
    decision = Decision(Route.CLOUD, Reason.LOW_CONFIDENCE, "came later")
    return LateAnswer(request_id, Answer(value, decision, "large", "2.0.0", "onnx-fp32", 3.0, 0.9), asked)


def published_by(outlets: Outlets, listener: Listener) -> list[str]:
    """Close the sinks; give the topics of the answers that the broker had before it heard "offline"."""
    wait_until(lambda: not outlets.status()[0].waiting)
    outlets.close()
    wait_until(lambda: b"offline" in listener.payloads("/status"))
    return [topic for topic, _, _ in listener.heard if "/answers/" in topic]


TEXT = Generation("a secret", Finish.STOP, 3, 2)


def test_a_late_answer_is_published_by_the_agent(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    sentiment_bundle(tmp_path / "small")
    sentiment_bundle(tmp_path / "large", LARGE, name="sentiment-large", version="2.0.0")
    (tmp_path / "cloud.yaml").write_text(CLOUD)
    with Runtime(tmp_path / "cloud.yaml") as there:
        door = door_of(there)
        try:
            agent = Agent(load_settings(store(tmp_path, broker.port, url=door.url)))
            with running(agent) as url, connect(url) as client:
                now = client.predict("later", "rude staff", request_id="order/17")
                assert now.decision.route is Route.LOCAL
                wait_until(lambda: bool(listener.payloads("/answers/order_17")))
        finally:
            door.close()
    (payload,) = listener.payloads("edge/shop/answers/order_17")
    document = json.loads(payload)
    assert (document["id"], document["route"], document["model"]) == ("order/17", "cloud", "sentiment-large")
    assert document["result"]["classes"][0]["label"] == "negative"


@pytest.mark.parametrize(
    ("never", "answer", "published"),
    [
        ("", late(TEXT), True),
        ("text", late(TEXT), False),
        ("faces", late(TEXT), True),
        ("embedding", late(Values({}, ())), False),
        ("text", late(Values({}, ()), request_id="what the patient said"), False),
        ("", late(TEXT, "other"), True),
        ("text", late(TEXT, None), False),
        ("text", late(TEXT, "gone since"), False),
    ],
)
def test_what_may_not_leave_is_kept_back(
    broker: Broker, listener: Listener, tmp_path: Path, never: str, answer: LateAnswer, *, published: bool
) -> None:
    (tmp_path / "small").mkdir()
    outlets = Outlets(load_settings(store(tmp_path, broker.port, never=never)))
    outlets.answer(answer)
    assert published_by(outlets, listener) == (["edge/shop/answers/one"] if published else [])


def test_routes_of_now_decide(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    outlets = Outlets(load_settings(store(tmp_path, broker.port)))
    outlets.answer(late(TEXT, request_id="before"))
    outlets.reroute(load_settings(store(tmp_path, broker.port, never="text")))
    outlets.answer(late(TEXT, request_id="after"))
    assert published_by(outlets, listener) == ["edge/shop/answers/before"]


def test_an_answer_waits_on_disk_for_the_broker(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    broker.stop()
    settings = load_settings(store(tmp_path, broker.port))
    outlets = Outlets(settings)
    outlets.answer(late(TEXT))
    outlets.close()
    with pytest.raises(StorageError, match="after the sinks were closed"):
        outlets.answer(late(TEXT))
    broker.start()
    listener = Listener(broker.port)
    again = Outlets(settings)
    wait_until(lambda: bool(listener.payloads("edge/shop/answers/one")))
    again.close()
    listener.close()


def test_sinks_that_are_not_told_to_publish_no_answer(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    file = store(tmp_path, 1883)
    file.write_text(file.read_text().replace(", late: true", ""))
    outlets = Outlets(load_settings(file))
    outlets.close()
    assert not outlets.wants_answers


def test_nobody_could_be_answered_late_without_a_door(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    file = store(tmp_path, 1883)
    file.write_text(file.read_text().replace("door: {port: 0}\n", ""))
    with pytest.raises(ConfigError, match=r"sinks\[0\].late: late answers come from a cloud"):
        load_settings(file)
