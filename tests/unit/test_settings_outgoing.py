"""What `store.yaml` says of webhooks, Redis, Kafka and Home Assistant."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.agent.forwarders import forwarder_of
from edge_runtime.agent.outlets import Outlets
from edge_runtime.contract.errors import StorageError
from edge_runtime.settings import SettingsError, load_settings
from edge_runtime.settings.outgoing import OutgoingSinkSettings
from edge_runtime.sinks.forwarding import Forwarder
from tests.simulators.broker import wait_until
from tests.simulators.doings import numbered
from tests.simulators.far_servers import store
from tests.simulators.receiver import Receiver

HEAD = """\
version: 1
site: main-street
models: {people: {bundle: efficientdet-lite0}}
door: {}
"""


def load(tmp_path: Path, sinks: str) -> Any:
    file = tmp_path / "store.yaml"
    file.write_text(f"{HEAD}sinks:\n{sinks}\n")
    return load_settings(file)


def said(tmp_path: Path, sink: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"  - {{{sink}}}")
    return str(caught.value)


@pytest.mark.parametrize(
    ("sink", "problem"),
    [
        ("type: webhook, url: ftp://x/SECRET", "no web address"),
        ("type: webhook, url: 'https://user:SECRET@x/'", "an address with a user"),
        ("type: webhook, url: 'https://x/', secret: SECRET", "at least 16"),
        ("type: webhook, url: 'https://x/', headers: {Host: SECRET}", "a header 'Host'"),
        (
            "type: webhook, url: 'https://x/', headers: {X-Edge-Signature: SECRET}",
            "a header 'X-Edge-Signature'",
        ),
        ("type: webhook, url: 'https://x/', headers: {'a b': SECRET}", "a header 'a b'"),
        ('type: webhook, url: "https://x/", headers: {X: "SECRET\\r\\nY: 1"}', "header 'X' has signs"),
        ("type: webhook, url: 'http://10.0.0.9/', headers: {X: SECRET}", "plain http"),
        ("type: webhook, url: 'http://x/', ca_file: a.pem", "`ca_file` with a plain http address"),
        ("type: webhook, url: 'https://x/', events: [zone_entred]", "no event is a 'zone_entred'"),
        ("type: webhook, url: 'https://x/', cameras: [till]", "no camera is called 'till'"),
        ("type: redis, host: x, ca_file: a.pem", "`ca_file` without `tls`"),
        ("type: redis, host: x, batch: 0", "batch"),
        ("type: kafka, brokers: [], topic: a", "at least 1"),
        ("type: kafka, brokers: [localhost], topic: a", "'localhost' is no broker"),
        ("type: kafka, brokers: ['x:9092'], topic: a b", "topic"),
        ("type: kafka, brokers: ['x:9092'], topic: a, username: b", "`username` and `password`"),
        ("type: kafka, brokers: ['x:9092'], topic: a, tls: true, key_file: b", "`cert_file` and `key_file`"),
        ("type: mqtt, host: x, home_assistant: {prefix: 'a/#'}", "prefix"),
    ],
)
def test_mistakes_are_said_and_secrets_are_not(tmp_path: Path, sink: str, problem: str) -> None:
    message = said(tmp_path, sink)
    assert problem in message
    assert "SECRET" not in message


def test_two_sinks_of_one_place_are_refused(tmp_path: Path) -> None:
    twice = "  - {type: redis, host: a}\n  - {type: redis, host: b}\n  - {type: redis, host: a, batch: 5}"
    with pytest.raises(SettingsError, match=r"sinks\[2\].*sinks\[0\] sends there already"):
        load(tmp_path, twice)


def test_the_example_of_the_guide_is_whole(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MQTT_PASSWORD", "REDIS_PASSWORD", "WEBHOOK_SECRET"):
        monkeypatch.setenv(name, f"the value of {name}")
    page = (repository / "docs/guide/integrations.md").read_text()
    example = re.search(r"```yaml\nsinks:\n(.*?)```", page, re.DOTALL)
    assert example is not None
    settings = load(tmp_path, example[1])
    assert [sink.type for sink in settings.sinks] == ["mqtt", "webhook", "redis", "kafka"]
    assert "the value of" not in repr(settings)
    assert "alarms.example.com" not in repr(settings.sinks[1])


@pytest.mark.parametrize(
    ("sink", "name"),
    [
        ({"type": "webhook", "url": "https://127.0.0.1:1/a"}, "webhook 127.0.0.1:1"),
        ({"type": "redis", "host": "127.0.0.1", "port": 1}, "redis 127.0.0.1:1"),
        ({"type": "kafka", "brokers": ["127.0.0.1:1"], "topic": "a"}, "kafka 127.0.0.1:1"),
    ],
)
def test_a_sink_is_named_after_its_server(tmp_path: Path, sink: dict[str, Any], name: str) -> None:
    settings = store(tmp_path, sink)
    only = settings.sinks[0]
    assert isinstance(only, OutgoingSinkSettings)
    forwarder = forwarder_of(only, settings)
    assert isinstance(forwarder, Forwarder)
    assert forwarder.name == name
    forwarder.close()


def test_an_agent_sends_what_a_sink_wants(tmp_path: Path) -> None:
    receiver = Receiver()
    sink = {"type": "webhook", "url": receiver.url, "events": ["camera_state"], "batch": 3}
    outlets = Outlets(store(tmp_path, sink))
    outlets.publish(tuple(numbered(10)))
    wait_until(lambda: len(receiver.taken) == 10)
    outlets.close()
    receiver.close()
    assert max(len(delivery.numbers) for delivery in receiver.deliveries) <= 3
    assert (outlets.status()[0].written, outlets.status()[0].waiting) == (10, 0)


def test_two_agents_of_one_folder_are_refused(tmp_path: Path) -> None:
    sink = {"type": "redis", "host": "127.0.0.1", "port": 1}
    outlets = Outlets(store(tmp_path, sink))
    with pytest.raises(StorageError, match="one agent for a folder"):
        Outlets(store(tmp_path, sink))
    outlets.close()


def test_who_has_no_such_sink_does_not_pay_for_it() -> None:
    code = (
        "import sys, edge_runtime.agent.agent\n"
        "heavy = {'httpx', 'redis', 'confluent_kafka', 'edge_runtime.sinks.webhook',"
        " 'edge_runtime.sinks.redis_stream', 'edge_runtime.sinks.kafka_topic'}\n"
        "print(*(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
