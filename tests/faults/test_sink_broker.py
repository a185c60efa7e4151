"""Brokers that are away, killed or refuse, and agents that are killed: no event is lost."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.contract.event import EVENTS, CameraStateChanged, Event
from edge_runtime.sinks.mqtt import MqttOptions, MqttSink
from tests.simulators.broker import MOSQUITTO, Broker, Listener, free_port, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"),
]


def events(count: int, start: int = 0) -> list[Event]:
    return [
        CameraStateChanged(
            id=str(n), site="shop", camera="door", time="2026-01-01T00:00:00.000Z", pts_ns=n, state="online"
        )
        for n in range(start, start + count)
    ]


def quick(port: int) -> MqttOptions:
    return MqttOptions("127.0.0.1", port, retry_first_s=0.05, retry_longest_s=0.2, refused_s=0.2)


def numbers(listener: Listener) -> list[int]:
    return [EVENTS.validate_json(payload).pts_ns for payload in listener.payloads("/events")]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


def test_a_broker_that_comes_late_gets_everything(broker: Broker, tmp_path: Path) -> None:
    sink = MqttSink(quick(broker.port), site="shop", spool=tmp_path / "spool.sqlite")
    sink.write(events(100))
    wait_until(lambda: "cannot connect" in sink.status().trouble)
    assert f"mqtt://127.0.0.1:{broker.port}: cannot connect: got Connection refused" in sink.status().trouble
    assert sink.status().waiting == 100
    broker.start()
    listener = Listener(broker.port)
    sink.write(events(1, start=100))
    wait_until(lambda: sink.status().written == 101)
    assert (sink.status().waiting, sink.status().trouble) == (0, "")
    # The broker gave what came before this listener to nobody; what it heard is in order and once.
    wait_until(lambda: numbers(listener)[-1:] == [100])
    assert numbers(listener) == list(range(101 - len(numbers(listener)), 101))
    sink.close()
    listener.close()


def test_a_broker_killed_mid_stream_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    listener = Listener(broker.port)
    sink = MqttSink(quick(broker.port), site="shop", spool=tmp_path / "spool.sqlite")
    sink.write(events(300))
    wait_until(lambda: len(numbers(listener)) == 300)
    broker.kill()
    # What comes while the broker is away waits on disk.
    sink.write(events(300, start=300))
    wait_until(lambda: sink.status().trouble != "")
    assert sink.status().waiting == 300
    listener.subscribed.clear()
    broker.start()
    assert listener.subscribed.wait(10)
    sink.write(events(300, start=600))
    wait_until(lambda: sink.status().written == 900)
    # The broker forgot this listener; what it heard after is in order and once.
    wait_until(lambda: numbers(listener)[-1] == 899)
    heard = numbers(listener)
    assert heard == sorted(set(heard))
    sink.close()
    listener.close()


def test_an_agent_killed_with_events_unsent_sends_them_when_it_is_back(
    broker: Broker, tmp_path: Path
) -> None:
    spool = tmp_path / "spool.sqlite"
    code = """
    import sys
    from pathlib import Path
    from edge_runtime.contract.event import CameraStateChanged
    from edge_runtime.sinks.mqtt import MqttOptions, MqttSink

    sink = MqttSink(MqttOptions("127.0.0.1", int(sys.argv[1])), site="shop", spool=Path(sys.argv[2]))
    for n in range(10**9):
        sink.write([CameraStateChanged(id=str(n), site="shop", camera="door", pts_ns=n, state="online",
                                       time="2026-01-01T00:00:00.000Z")])
        print(n, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(broker.port), str(spool)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for _ in range(200):
        child.stdout.readline()
    child.kill()
    acknowledged = 200 + len(child.stdout.read().splitlines())
    child.wait()
    child.stdout.close()
    broker.start()
    listener = Listener(broker.port)
    sink = MqttSink(quick(broker.port), site="shop", spool=spool)
    wait_until(lambda: len(numbers(listener)) >= acknowledged)
    sink.close()
    assert numbers(listener) == list(range(len(numbers(listener))))
    listener.close()


def test_the_last_will_says_offline_when_the_agent_is_killed(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    code = f"""
    import time
    from pathlib import Path
    from edge_runtime.sinks.mqtt import MqttOptions, MqttSink

    sink = MqttSink(MqttOptions("127.0.0.1", {broker.port}), site="shop", spool=Path({str(tmp_path)!r}) / "s")
    time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    listener = Listener(broker.port, "edge/shop/status")
    wait_until(lambda: listener.payloads("status") == [b"online"])
    child.kill()
    child.wait()
    wait_until(lambda: listener.payloads("status") == [b"online", b"offline"])
    listener.close()


def test_a_wrong_password_is_said_and_tried_again(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    for user, word in (("edge", "right"), ("listener", "right")):
        command = ["mosquitto_passwd", "-b", *(["-c"] if user == "edge" else []), str(passwords), user, word]
        subprocess.run(command, check=True, capture_output=True)
    passwords.chmod(0o644)
    broker = Broker(tmp_path / "broker", lines=f"allow_anonymous false\npassword_file {passwords}").start()
    wrong = replace(quick(broker.port), username="edge", password="wrong")
    sink = MqttSink(wrong, site="shop", spool=tmp_path / "spool.sqlite")
    sink.write(events(3))
    wait_until(lambda: "connection refused" in sink.status().trouble)
    assert "Not authorized" in sink.status().trouble or "Bad user name" in sink.status().trouble
    assert "right" not in repr(sink.status())
    assert sink.status().waiting == 3
    sink.close()
    right = MqttSink(
        replace(wrong, password="right"),
        site="shop",
        spool=tmp_path / "spool.sqlite",
    )
    wait_until(lambda: right.status().written == 3)
    right.close()
    broker.stop()


def test_a_topic_the_broker_refuses_keeps_its_events(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic readwrite other/#\n")
    rights.chmod(0o600)
    broker = Broker(tmp_path / "broker", lines=f"allow_anonymous true\nacl_file {rights}").start()
    sink = MqttSink(quick(broker.port), site="shop", spool=tmp_path / "a.sqlite")
    sink.write(events(3))
    wait_until(lambda: "a message was refused: got Not authorized" in sink.status().trouble)
    assert sink.status().waiting == 3
    sink.close()
    allowed = MqttSink(replace(quick(broker.port), prefix="other"), site="shop", spool=tmp_path / "b.sqlite")
    allowed.write(events(3))
    wait_until(lambda: allowed.status().written == 3)
    allowed.close()
    broker.stop()


def test_a_second_agent_with_the_same_name_is_said(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    first = MqttSink(quick(broker.port), site="shop", spool=tmp_path / "a.sqlite")
    first.write(events(1))
    wait_until(lambda: first.status().written == 1)
    second = MqttSink(quick(broker.port), site="shop", spool=tmp_path / "b.sqlite")
    wait_until(lambda: "second agent" in first.status().trouble)
    second.close()
    first.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_a_host_that_is_none_is_said(host: str, tmp_path: Path) -> None:
    sink = MqttSink(replace(quick(free_port()), host=host), site="shop", spool=tmp_path / "spool.sqlite")
    wait_until(lambda: f"mqtt://{host}:" in sink.status().trouble)
    assert "cannot connect" in sink.status().trouble
    sink.close()
