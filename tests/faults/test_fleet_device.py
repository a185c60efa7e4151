"""A device of a fleet at the fleet's real broker: bad messages, lost state, dead lines, killed processes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.contract.fleet import Command
from edge_runtime.contract.update import Failure, State
from edge_runtime.fleet.parsing import encode
from edge_runtime.fleet.times import rfc3339
from edge_runtime.fleet.topics import Channel
from tests.simulators.broker import MOSQUITTO, wait_until
from tests.simulators.fleet_broker import TENANT, FleetBroker, Person
from tests.simulators.fleet_device import LiveWorld, NotedHands, device, enrolled, quick
from tests.simulators.fleet_manager import MINE, Manager
from tests.simulators.half_open import HalfOpenLine
from tests.simulators.range_server import Files, serving
from tests.simulators.updates import desired, release, sha, wanted, whole

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"),
]
OLD, NEW = release(1), release(2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FleetBroker]:
    broker = FleetBroker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def manager(broker: FleetBroker) -> Iterator[Manager]:
    manager = Manager(broker)
    yield manager
    manager.close()


@pytest.fixture
def files() -> Iterator[Files]:
    with serving(Files({"labels-1": OLD, "labels-2": NEW})) as files:
        yield files


def states(manager: Manager) -> list[State]:
    return [have.state for report in manager.reports() for have in report.have]


def test_a_version_comes_and_its_way_is_reported(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    enrolment = enrolled(tmp_path / "d1", broker)
    one = device(enrolment, LiveWorld(files.url))
    one.start()
    wait_until(lambda: len(manager.reports()) == 1)
    first = manager.reports()[0]
    assert (first.desired_seq, first.have, first.health.cameras) == (-1, (), 2)
    assert (first.device, first.profile) == ("d1", "store-pc")
    manager.desire(desired(1, wanted(1, OLD)))
    wait_until(lambda: State.COMMITTED in states(manager))
    assert manager.reports()[-1].desired_seq == 1
    assert whole(tmp_path / "d1" / "updates") == sha(OLD)
    wait_until(lambda: bool(manager.events()) and one.status()["events_waiting"] == 0)
    (event,) = manager.events()
    assert (event.level, event.code, event.deployment) == ("info", "committed", "dep-1")
    numbers = [each.seq for each in manager.reports()]
    one.close()
    wait_until(lambda: manager.presence()[-1] is False)
    assert manager.presence()[0] is True
    again = device(enrolment, LiveWorld(files.url))
    again.start()
    wait_until(lambda: len(manager.reports()) > len(numbers))
    assert manager.reports()[-1].seq > max(numbers), "numbers grow over restarts"
    assert again.status()["refused"] == {}, "what is retained and known is no news"
    again.close()
    assert len(manager.events()) == 1, "an end that was told is not told again"


@pytest.mark.parametrize("days", [-20_000, -30, 30])
def test_a_clock_that_is_days_off_is_reported_and_decides_nothing(
    days: int, broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    world = LiveWorld(files.url, off_s=days * 86_400.0)
    one = device(enrolled(tmp_path / "d1", broker), world)
    one.start()
    manager.desire(desired(1, wanted(1, OLD)))
    wait_until(lambda: State.COMMITTED in states(manager))
    assert manager.answer(Command(id="c1", name="report")).ok
    assert manager.reports()[-1].time[:4] == rfc3339(world.now_s())[:4]
    one.close()


def codes(manager: Manager) -> list[str]:
    return [each.code for each in manager.events()]


BAD = {
    "message-malformed": b'{"v": 1, "seq": ',
    "message-too-large": b" " * (1 << 16) + b"{}",
    "message-version": encode(desired(9)).replace(b'"v":1', b'"v":2'),
    "message-unknown-field": encode(desired(9)).replace(b'"seq"', b'"colour":1,"seq"'),
    "wrong-tenant": encode(desired(9)).replace(b'"acme"', b'"other"'),
}


def test_each_bad_message_has_its_code_and_harms_nothing(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    one = device(enrolled(tmp_path / "d1", broker), LiveWorld(files.url))
    one.start()
    manager.desire(desired(5, wanted(1, OLD)))
    wait_until(lambda: State.COMMITTED in states(manager))
    for payload in BAD.values():
        manager.say(MINE.of(Channel.DESIRED), payload)
    manager.desire(desired(4, wanted(2, NEW)))
    wait_until(lambda: {*BAD, "message-stale"} <= {*codes(manager)})
    assert {each.level for each in manager.events() if each.code != "committed"} == {"warning"}
    assert sorted(one.status()["refused"]) == sorted((*BAD, "message-stale"))
    assert whole(tmp_path / "d1" / "updates") == sha(OLD)
    one.close()


def test_a_retained_bad_message_is_told_once(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    manager.say(MINE.of(Channel.DESIRED), b"{", retain=True)
    enrolment = enrolled(tmp_path / "d1", broker)
    for _ in range(3):
        one = device(enrolment, LiveWorld(files.url))
        one.start()
        wait_until(lambda one=one: one.status()["refused"] == {"message-malformed": 1})
        wait_until(lambda one=one: one.status()["events_waiting"] == 0)
        one.close()
    wait_until(lambda: bool(manager.events()))
    assert len({each.id for each in manager.events()}) == 1, "sent again, it is the same event"


def test_a_flood_of_bad_messages_is_no_flood_of_events(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    one = device(enrolled(tmp_path / "d1", broker), LiveWorld(files.url))
    one.start()
    wait_until(lambda: bool(manager.reports()))
    for n in range(200):
        manager.say(MINE.of(Channel.DESIRED), b"%d" % n)
    wait_until(lambda: one.status()["refused"] == {"message-malformed": 200})
    wait_until(lambda: one.status()["events_waiting"] == 0)
    assert len(codes(manager)) == 5
    manager.desire(desired(1, wanted(1, OLD)))
    wait_until(lambda: State.COMMITTED in states(manager))
    one.close()


def test_duplicated_and_reordered_messages_change_nothing(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    one = device(enrolled(tmp_path / "d1", broker), LiveWorld(files.url))
    one.start()
    wait_until(lambda: bool(manager.reports()))
    newest = desired(3, wanted(2, NEW))
    for each in (newest, newest, desired(2, wanted(1, OLD)), newest):
        manager.desire(each, retain=False)
    wait_until(lambda: one.status()["refused"] == {"message-stale": 3})
    wait_until(lambda: State.COMMITTED in states(manager))
    assert (whole(tmp_path / "d1" / "updates"), one.status()["desired_seq"]) == (sha(NEW), 3)
    one.close()


def test_a_broker_that_lost_everything_costs_nothing(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    one = device(enrolled(tmp_path / "d1", broker), LiveWorld(files.url))
    one.start()
    manager.desire(desired(1, wanted(1, OLD)))
    wait_until(lambda: State.COMMITTED in states(manager) and codes(manager) == ["committed"])
    broker.kill()
    for file in (broker.folder / "state").iterdir():
        file.unlink()
    reports = len(manager.reports())
    wait_until(lambda: not one.status()["online"] and not manager.there())
    broker.start()
    # What the device reports first may come before the manager subscribes again.
    wait_until(lambda: one.status()["online"] and manager.there())
    assert manager.answer(Command(id="again", name="report")).ok
    wait_until(lambda: len(manager.reports()) > reports)
    assert manager.reports()[-1].desired_seq == 1
    manager.desire(desired(2, wanted(2, NEW)))
    wait_until(lambda: manager.reports()[-1].have[0].version == "2.0.0")
    wait_until(lambda: codes(manager).count("committed") == 2)
    one.close()


def test_a_half_open_line_is_noticed_and_left(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    line = HalfOpenLine(broker.port)
    enrolment = enrolled(tmp_path / "d1", broker, port=line.port)
    one = device(enrolment, LiveWorld(files.url), options=replace(quick(enrolment), keepalive_s=1))
    one.start()
    wait_until(lambda: len(manager.reports()) == 1)
    line.cut()
    manager.desire(desired(1, wanted(1, OLD)))
    wait_until(lambda: State.COMMITTED in states(manager))
    assert line.connections == 2
    one.close()
    line.close()


def test_an_event_that_nobody_took_survives_a_killed_process(
    broker: FleetBroker, files: Files, tmp_path: Path
) -> None:
    """Nobody subscribes to events when it happens: the broker says so, and the device keeps it."""
    manager = Manager(broker, events=False)
    enrolment = enrolled(tmp_path / "d1", broker)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.simulators.fleet_device", str(tmp_path / "d1"), files.url]
    )
    try:
        wait_until(lambda: bool(manager.reports()), 60)
        assert manager.answer(b"no command").code is Failure.MESSAGE_MALFORMED
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: manager.presence()[-1] is False)
    manager.subscribe(Channel.EVENT)
    again = device(enrolment, LiveWorld(files.url))
    again.start()
    wait_until(lambda: codes(manager) == ["message-malformed"])
    assert again.status()["refused"] == {}, "the process before met it"
    again.close()
    manager.close()


def test_a_disk_that_takes_nothing_pauses_updates_and_is_told(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    one = device(enrolled(tmp_path / "d1", broker), LiveWorld(files.url))
    journal = tmp_path / "d1" / "updates" / "journal"
    journal.mkdir(parents=True)
    one.start()
    manager.desire(desired(1, wanted(1, OLD)))
    wait_until(lambda: "storage" in codes(manager))
    manager.answer(Command(id="r", name="report"))
    wait_until(lambda: any("journal" in each for each in manager.reports()[-1].health.trouble))
    journal.rmdir()
    manager.ask(Command(id="s", name="report"))  # whatever comes, it is tried again
    wait_until(lambda: State.COMMITTED in states(manager))
    one.close()


def test_commands_are_done_once_and_answered_twice(
    broker: FleetBroker, manager: Manager, files: Files, tmp_path: Path
) -> None:
    hands = NotedHands(allows_snapshots=False)
    one = device(enrolled(tmp_path / "d1", broker), LiveWorld(files.url), hands)
    restart = Command(id="c1", name="restart-pipeline", arguments={"camera": "door"})
    manager.ask(restart, correlation=b"early")
    before = Person(broker, "d1", clean=False)  # the session that keeps what comes while the device is away
    before.subscribe(MINE.of(Channel.COMMAND))
    before.leave()
    manager.ask(restart, correlation=b"while away")
    one.start()
    wait_until(lambda: [each for each, _ in manager.replies] == [b"while away"])
    assert manager.answer(restart, correlation=b"again").ok
    assert hands.done == [("restart", "door")]
    slow = Command(id="c2", name="benchmark", arguments={"seconds": 1})
    manager.ask(slow, correlation=b"slow")
    wait_until(lambda: ("benchmark", 1.0) in hands.done)
    assert manager.answer(Command(id="c3", name="report"), correlation=b"quick").ok, "does not wait"
    hands.may_go_on.set()
    wait_until(lambda: manager.replies[-1][0] == b"slow")
    refused = manager.answer(Command(id="c4", name="snapshot", arguments={"camera": "door"}))
    assert (refused.ok, refused.code) == (False, Failure.COMMAND_FORBIDDEN)
    unknown = manager.answer(encode(Command(id="c5", name="report")).replace(b"report", b"reboot"))
    assert (unknown.id, unknown.code) == ("c5", Failure.COMMAND_UNKNOWN)
    late = manager.answer(Command(id="c6", name="report", expires="2020-01-01T00:00:00Z"))
    assert late.code is Failure.COMMAND_EXPIRED
    manager.say(MINE.of(Channel.COMMAND), encode(restart), ResponseTopic=f"v1/{TENANT}/d/d2/desired")
    wanted_codes = {"command-forbidden", "command-unknown", "command-expired", "message-foreign-topic"}
    wait_until(lambda: wanted_codes <= {*codes(manager)})
    one.close()
