"""The operator beside rollouts: bad messages, lost brokers, leaders, moves, commands, watchers."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet.bus import Heard, Post
from cloud_fallback.fleet.database import deployments, devices, events, rollouts, tables
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.leader import Leader, LostError
from cloud_fallback.fleet.operator import subscriptions
from cloud_fallback.fleet.retirement import retired
from cloud_fallback.fleet.watch import Change
from edge_runtime.contract.errors import DeadlineError, RemoteError
from edge_runtime.contract.fleet import Command, Desired, Have, Reply
from edge_runtime.fleet.parsing import encode
from tests.simulators.fleet_desk import TENANT
from tests.simulators.manager_databases import KINDS, opened
from tests.simulators.operator_desk import FAST, NAMES, close_all, deploy, desk, reported


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with opened("sqlite", tmp_path) as found:
        yield found


def test_bad_messages_are_counted_and_told_by_their_code(database: Database) -> None:
    made = desk(database, NAMES[:2])
    bad = {
        "message-malformed": (f"v1/{TENANT}/d/d00/reported", b"{"),
        "message-too-large": (f"v1/{TENANT}/d/d00/reported", b"x" * 70_000),
        "message-version": (
            f"v1/{TENANT}/d/d00/event",
            b'{"v":9,"id":"a","time":"2026-01-01T00:00:00Z","level":"info","code":"c","text":"t"}',
        ),
        "message-unknown-field": (f"v1/{TENANT}/d/d00/presence", b'{"v":1,"online":true,"x":1}'),
        "message-foreign-topic": ("v1/other/things", b""),
        "wrong-tenant": ("v1/other/d/d00/reported", b"{}"),
        "unknown-device": (f"v1/{TENANT}/d/nobody/presence", b'{"v":1,"online":true}'),
    }
    made.mail += [Heard(topic, payload) for topic, payload in bad.values()] * 3
    made.mail.append(reported(made, "d00", Have(name="detector")))
    made.mail.append(Heard(f"v1/{TENANT}/d/d01/reported", made.mail[-1].payload))  # d00's on d01's topic
    made.step()
    counts = made.operator.figures().bad
    assert {code: counts[code] for code in bad} == {
        **dict.fromkeys(bad, 3), "message-foreign-topic": 4, "unknown-device": 1,
    }  # fmt: skip
    with database.read() as tx:
        told = Counter(each.code for each in events.listing(tx))
        assert devices.must_find(tx, "d00").agent == "1"  # what was good was taken all the same
    assert told == {**dict.fromkeys(bad, 1), "message-foreign-topic": 2}


def test_a_broker_that_lost_its_state_costs_nothing(sqlite: Database) -> None:
    made = desk(sqlite)
    made.bus.connected = False
    made.deploy("one", "good-1", pace=FAST)
    made.step()
    assert not any(b"good-1" in each for each in made.bus.retained.values())
    made.bus.connected = True
    made.operator._join()
    made.run(6 * 3600, until=lambda: made.view("one").phase == "completed")
    made.bus.retained.clear()
    made.devices["d01"].desired_seq = -1  # as one that lost its journal
    made.run(600)
    assert made.devices["d01"].desired_seq > 0


def test_a_restored_database_counts_on_above_its_devices(sqlite: Database) -> None:
    made = desk(sqlite, NAMES[:3])
    made.mail.append(reported(made, "d00", Have(name="detector"), desired_seq=70))
    made.step()
    told = Desired.model_validate_json(made.bus.retained[f"v1/{TENANT}/d/d00/desired"])
    assert told.seq == 71


def test_silent_devices_are_offline_whatever_the_broker_says(sqlite: Database) -> None:
    made = desk(sqlite, NAMES[:3])
    made.online.clear()  # no last will: the broker was killed
    made.run(2000)
    made.step()
    with sqlite.read() as tx:
        assert [each.online for each in devices.listing(tx)] == [False] * 3


def test_only_the_leader_decides_and_all_take_in(database: Database) -> None:
    made = desk(database, NAMES[:10])
    other = made.new_operator("b")
    other.step([])
    assert (made.operator.figures().leads, other.figures().leads) == (True, False)
    made.deploy("one", "good-1", pace=FAST)
    made.step()
    assert made.view("one").reached == 1
    made.now_s += 100
    for name in made.online:
        made._say(name, made.devices[name].poll(made.now_s))
    mail, made.mail = made.mail, []
    other.step(mail)  # the broker gave it to the other replica
    assert made.view("one").waves[0].standings == {"offered": 1}
    made.step()
    made.now_s += 100
    made.step()
    for name in made.online:
        made._say(name, made.devices[name].poll(made.now_s))
    mail, made.mail = made.mail, []
    other.step(mail)
    made.now_s += 1
    made.step()
    assert made.view("one").waves[0].standings == {"succeeded": 1}
    made.operator._leader.release()
    other.step([])
    assert other.figures().leads


def test_a_leader_that_lost_its_lock_writes_nothing(database: Database) -> None:
    old, new = Leader(database), Leader(database)
    assert old.holds() and not new.holds()
    number = old.number
    old.release()
    assert new.holds()
    old.number = number  # it has not noticed yet
    with pytest.raises(LostError), database.begin() as tx:
        old.fence(tx)
    assert old.number == 0
    with database.begin() as tx:
        new.fence(tx)
    new.release()


def test_moves_that_cannot_be_are_refused_and_told(sqlite: Database) -> None:
    made = desk(sqlite)
    deploy(made, "one", "good-1", "completed")
    first, second = made.ask("one", "cancel"), made.ask("one", "pause")
    made.step()
    with sqlite.read() as tx:
        assert deployments.became(tx, first) == deployments.MoveDone(True)
        refused = deployments.became(tx, second).refused
        assert refused is not None and "got cancelled" in refused
        codes = [each.code for each in events.newest(tx, deployment="one", limit=2)]
    assert sorted(codes) == ["move-cancel", "move-refused"]


def test_finished_rollouts_leave_memory_and_come_back_for_a_move(sqlite: Database) -> None:
    made = desk(sqlite, NAMES[:5])
    for n in range(4, 10):
        made.release(f"good-{n}", n)
        deploy(made, f"n{n}", f"good-{n}", "completed")
    assert [each.id for each in made.operator._conductor.rollouts] == ["n7", "n8", "n9"]
    assert made.view("n4").archived
    assert retired(made.operator._conductor.rollouts) == []
    made.ask("n6", "revert")
    made.run(3600)
    assert made.view("n6").phase in {"reverting", "reverted"}


def test_nobody_is_meant_by_what_does_not_fit(sqlite: Database) -> None:
    made = desk(sqlite)
    made.deploy("one", "good-1", pace={"bytes_per_hour": 10})
    made.step()
    view = made.view("one")
    assert view.phase == "cancelled" and view.reason is not None and "bytes_per_hour" in view.reason


def test_commands_are_answered(sqlite: Database) -> None:
    made = desk(sqlite, NAMES[:1])
    deliver = made.bus.deliver

    def answer(post: Post) -> None:
        assert (post.response_topic, post.expiry_s) == (f"v1/{TENANT}/m/a/reply", 5)
        reply = Reply(id="c1", ok=True, result={"fps": 20})
        made.operator.hear(Heard(f"v1/{TENANT}/m/a/reply", b"{", False, post.correlation))
        made.operator.hear(Heard(f"v1/{TENANT}/m/a/reply", encode(reply), False, post.correlation))

    made.bus.deliver = answer
    command = Command(id="c1", name="report")
    assert made.operator.command("d00", command, 5.0).result == {"fps": 20}
    made.bus.deliver = None
    with pytest.raises(DeadlineError, match=r"report to d00.*See whether the device is online"):
        made.operator.command("d00", command, 0.01)
    made.bus.connected = False
    with pytest.raises(RemoteError, match="no broker"):
        made.operator.command("d00", command, 5.0)
    made.bus.deliver = deliver


def test_watchers_hear_of_changes(database: Database) -> None:
    made = desk(database, NAMES[:2])
    with made.operator.watch() as watch:
        made.deploy("one", "good-1", pace=FAST)
        made.run(1)
        found: set[Change] = set()
        while (change := watch.get(0.0)) is not None:
            found.add(change)
        assert Change("deployment", "one") in found
        assert {each.kind for each in found} >= {"device", "deployment", "event"}
        for n in range(2000):
            watch.put(Change("device", f"{n}"))
        kinds: list[str] = []
        while (change := watch.get(0.0)) is not None:
            kinds.append(change.kind)
        assert "everything" in kinds and len(kinds) <= 1000
    made.run(1)
    assert watch.get(0.0) is None


def test_its_thread_begins_goes_on_after_failures_and_ends(sqlite: Database) -> None:
    made = desk(sqlite, NAMES[:1])
    taken = threading.Event()
    made.bus.settle = lambda heard: taken.set()  # type: ignore[method-assign]
    made.operator.start()
    made.operator.hear(reported(made, "d00", Have(name="detector")))
    made.operator.nudge()
    assert taken.wait(10)
    made.operator.close()
    with sqlite.read() as tx:
        assert devices.must_find(tx, "d00").have == (Have(name="detector"),)


def test_a_new_leader_and_a_new_connection_ask_everybody_to_report(sqlite: Database) -> None:
    made = desk(sqlite, NAMES[:2])
    notice = f"v1/{TENANT}/all/notice"

    def asked() -> int:
        return sum(each.topic == notice for each in made.bus.sent)

    made.run(10)
    assert asked() == 1
    made.replace_manager()
    made.run(10)
    assert asked() == 2
    made.operator._join()  # the broker is there again
    made.run(10)
    assert asked() == 3


def test_what_is_subscribed_to() -> None:
    assert subscriptions("shop", "a") == (
        "$share/manager/v1/shop/d/+/reported", "$share/manager/v1/shop/d/+/event",
        "v1/shop/d/+/presence", "v1/shop/m/a/reply",
    )  # fmt: skip


def test_members_come_back_as_they_were(database: Database) -> None:
    made = desk(database, NAMES[:20])
    made.deploy("one", "good-1", pace=FAST)
    made.run(1000)
    memory = made.operator._conductor.rollouts[0]
    with database.read() as tx:
        kept = rollouts.load(tx)[0]
        assert tx.execute(tables.dirty.select()).all() == []
    assert sorted(kept.state().members, key=lambda each: each.device) == sorted(
        memory.state().members, key=lambda each: each.device
    )
    assert kept.head == memory.head
