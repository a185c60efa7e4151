"""Servers that go away, are slow or refuse, and agents that are killed: no acknowledged event is lost."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.broker import wait_until
from tests.simulators.doings import numbered
from tests.simulators.far_servers import (
    KINDS,
    FarKafka,
    FarRedis,
    FarServer,
    FarWebhook,
    first_of_each,
    sink_of,
)

EVENTS = """
from edge_runtime.contract.event import CameraStateChanged

def event(n):
    return CameraStateChanged(id=f"door-{n}", site="shop", camera="door", time="2026-01-01T00:00:00.000Z",
                              pts_ns=n, state="online")
"""


@pytest.fixture(params=sorted(KINDS))
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FarServer]:
    far = KINDS[request.param](tmp_path)
    yield far
    far.close()


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[FarWebhook]:
    far = FarWebhook(tmp_path)
    yield far
    far.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[FarRedis]:
    far = FarRedis(tmp_path)
    yield far
    far.close()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[FarKafka]:
    far = FarKafka(tmp_path)
    yield far
    far.close()


def test_everything_arrives_once_and_in_order(far: FarServer, tmp_path: Path) -> None:
    sink = sink_of(tmp_path, far.sink)
    for start in range(0, 1000, 50):
        sink.write(numbered(50, start))
    wait_until(lambda: sink.status().written == 1000)
    sink.close()
    wait_until(lambda: len(far.heard()) == 1000)
    assert far.heard() == [("door", n) for n in range(1000)]


def test_a_server_that_goes_away_and_comes_back_gets_everything(far: FarServer, tmp_path: Path) -> None:
    sink = sink_of(tmp_path, far.sink | {"timeout_s": 1})
    sink.write(numbered(200))
    wait_until(lambda: sink.status().written == 200)
    far.away()
    sink.write(numbered(200, 200))
    wait_until(lambda: sink.status().trouble != "", timeout_s=30)
    assert sink.status().waiting == 200
    far.back()
    sink.write(numbered(200, 400))
    wait_until(lambda: sink.status().written == 600, timeout_s=60)
    wait_until(lambda: first_of_each(far.heard())[-1:] == [599])
    assert (sink.status().waiting, sink.status().dropped, sink.status().trouble) == (0, 0, "")
    sink.close()
    assert first_of_each(far.heard()) == list(range(600))


def test_a_killed_agent_sends_the_rest_when_it_is_back(far: FarServer, tmp_path: Path) -> None:
    code = """
    import json, sys
    from pathlib import Path
    from tests.simulators.far_servers import sink_of
    sink = sink_of(Path(sys.argv[1]), json.loads(sys.argv[2]))
    for n in range(10**9):
        sink.write([event(n)])
        print(n, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", EVENTS + textwrap.dedent(code), str(tmp_path), json.dumps(far.sink)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for _ in range(300):
        child.stdout.readline()
    child.kill()
    acknowledged = 300 + len(child.stdout.read().splitlines())
    child.wait()
    child.stdout.close()
    sink = sink_of(tmp_path, far.sink)
    wait_until(lambda: sink.status().waiting == 0)
    wait_until(lambda: len(set(far.heard())) >= acknowledged)
    sink.close()
    heard = first_of_each(far.heard())
    assert heard == list(range(len(heard)))


def test_a_receiver_that_never_answers_is_asked_again(webhook: FarWebhook, tmp_path: Path) -> None:
    webhook.receiver.stalls.set()
    sink = sink_of(tmp_path, webhook.sink | {"timeout_s": 0.3})
    sink.write(numbered(3))
    wait_until(lambda: "no answer within 0.3 s" in sink.status().trouble)
    sink.write(numbered(3, 3))
    assert sink.status().waiting == 6
    webhook.receiver.stalls.clear()
    wait_until(lambda: sink.status().written == 6)
    sink.close()
    assert webhook.receiver.taken == list(range(6))


def test_a_redis_that_is_frozen_gets_everything_in_order(redis: FarRedis, tmp_path: Path) -> None:
    sink = sink_of(tmp_path, redis.sink | {"timeout_s": 0.3, "batch": 10})
    with redis.client() as client:
        client.execute_command("CLIENT", "PAUSE", "2000", "WRITE")
        sink.write(numbered(50))
        wait_until(lambda: "cannot be reached" in sink.status().trouble)
    wait_until(lambda: sink.status().written == 50)
    sink.close()
    assert first_of_each(redis.heard()) == list(range(50))


def test_a_redis_without_room_or_rights_loses_nothing(redis: FarRedis, tmp_path: Path) -> None:
    with redis.client() as client:
        client.set("edge:shop:events", "no stream")
        sink = sink_of(tmp_path, redis.sink)
        sink.write(numbered(5))
        wait_until(lambda: "WRONGTYPE" in sink.status().trouble)
        client.delete("edge:shop:events")
        sink.close()  # tries once more, instead of in half a minute
        assert sink.status().written == 5
        client.config_set("maxmemory", 1)
        sink = sink_of(tmp_path, redis.sink)
        sink.write(numbered(5, 5))
        wait_until(lambda: "cannot take the events now" in sink.status().trouble)
        client.config_set("maxmemory", 0)
        wait_until(lambda: sink.status().written == 5)
        sink.close()
        client.config_set("requirepass", "secret-of-redis")
    stranger = sink_of(tmp_path, redis.sink | {"password": "wrong-password"})
    stranger.write(numbered(1, 10))
    wait_until(lambda: "does not let us in" in stranger.status().trouble)
    assert "wrong-password" not in stranger.status().trouble
    stranger.close()
    assert stranger.status().waiting == 1
    redis.server.kill()
    redis.server.start()  # without the password again
    assert first_of_each(redis.heard()) == list(range(10))


def test_slow_and_failing_kafka_brokers_keep_the_order(kafka: FarKafka, tmp_path: Path) -> None:
    kafka.cluster.slow(150)
    sink = sink_of(tmp_path, kafka.sink | {"timeout_s": 0.2, "batch": 50})
    not_leader, timed_out, not_enough_replicas = 6, 7, 19
    for start, error in enumerate((not_leader, timed_out, not_enough_replicas)):
        kafka.cluster.refuse(error, 2)
        sink.write(numbered(100, 100 * start))
    wait_until(lambda: sink.status().written == 300, timeout_s=60)
    kafka.cluster.slow(0)
    sink.close()
    wait_until(lambda: len(set(kafka.heard())) == 300)
    assert first_of_each(kafka.heard()) == list(range(300))


def test_a_kafka_producer_that_is_broken_for_good_is_replaced(kafka: FarKafka, tmp_path: Path) -> None:
    out_of_order_sequence_number = 45
    sink = sink_of(tmp_path, kafka.sink | {"batch": 50})
    sink.write(numbered(50))
    wait_until(lambda: sink.status().written == 50)
    kafka.cluster.refuse(out_of_order_sequence_number, 1)
    sink.write(numbered(200, 50))
    wait_until(lambda: sink.status().written == 250, timeout_s=60)
    sink.close()
    wait_until(lambda: len(set(kafka.heard())) == 250)
    assert first_of_each(kafka.heard()) == list(range(250))


def test_a_kafka_that_refuses_one_event_goes_on_with_the_next(kafka: FarKafka, tmp_path: Path) -> None:
    message_too_large = 10
    kafka.cluster.refuse(message_too_large, 4)  # the batch, and then the first event three times
    sink = sink_of(tmp_path, kafka.sink)
    sink.write(numbered(3))
    wait_until(lambda: sink.status().written == 2, timeout_s=30)
    wait_until(lambda: sink.status().waiting == 0)
    sink.close()
    assert sink.status().dropped == 1
    wait_until(lambda: len(kafka.heard()) >= 2)
    assert first_of_each(kafka.heard()) == [1, 2]


def test_a_disk_that_cannot_forget_sends_nothing_twice(tmp_path: Path) -> None:
    code = """
    import resource, sys, threading
    from pathlib import Path
    from edge_runtime.sinks.forwarding import Forwarder, ForwardOptions
    from edge_runtime.sinks.pace import PaceOptions
    from tests.simulators.broker import wait_until

    class Far:
        target = "far"
        def __init__(self):
            self.taken, self.may = 0, threading.Event()
        def send(self, letters):
            self.may.wait()
            self.taken += len(letters)
        def close(self):
            pass

    far, spool = Far(), Path(sys.argv[1]) / "s.sqlite"
    options = ForwardOptions(pace=PaceOptions(batch=5, first_s=0.01, longest_s=0.01))
    sink = Forwarder(far, spool, name="far", options=options)
    sink.write([event(n) for n in range(20)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    far.may.set()
    wait_until(lambda: far.taken == 20)
    wait_until(lambda: "cannot keep" in sink.status().trouble)
    assert (sink.status().written, sink.status().waiting) == (20, 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_until(lambda: sink.status().trouble == "")
    sink.close()
    print(far.taken, sink.status().written)
    """
    done = subprocess.run(
        [sys.executable, "-c", EVENTS + textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["20", "20"], done.stderr
