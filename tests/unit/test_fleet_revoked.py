"""What the manager makes of a revoked device that is at the broker all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet.bus import Heard
from cloud_fallback.fleet.database import audit, devices, events
from cloud_fallback.fleet.database.connection import Database
from edge_runtime.contract.fleet import Have
from tests.simulators.fleet_desk import TENANT, Desk
from tests.simulators.manager_databases import KINDS, opened
from tests.simulators.operator_desk import FAST, NAMES, close_all, desk, reported

NAME = NAMES[0]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


def revoke(made: Desk) -> None:
    with made.database.begin() as tx:
        assert devices.revoke(tx, NAME, made.now_s)
    made.operator.nudge()


def ignored(database: Database) -> list[str]:
    with database.read() as tx:
        return [each.subject for each in audit.listing(tx) if each.action == "device.ignored"]


def test_what_it_says_is_ignored_and_its_session_is_ended(database: Database) -> None:
    made = desk(database, NAMES[:3])
    with database.read() as tx:
        before = devices.must_find(tx, NAME)
    revoke(made)
    made.mail.append(reported(made, NAME, Have(name="detector", version="7")))
    made.step()
    assert ignored(database) == [NAME]
    assert made.bus.expelled == [(NAME, f"{TENANT}/{NAME}")]
    with database.read() as tx:
        after = devices.must_find(tx, NAME)
        told = [(each.code, each.device) for each in events.listing(tx) if each.code.startswith("re")]
    assert (after.have, after.last_seen, after.online) == (before.have, before.last_seen, False)
    assert told == [("revoked-device", NAME)]
    with database.read() as tx:
        assert audit.verify(tx) is None


def test_it_is_sent_nothing_and_what_was_kept_for_it_is_thrown_away(database: Database) -> None:
    made = desk(database, NAMES[:3])
    made.deploy("one", "good-1", waves=[{"share": 1.0}], pace=FAST)
    made.run(10)
    mine = f"v1/{TENANT}/d/{NAME}/desired"
    assert mine in made.bus.retained
    revoke(made)
    sent = len(made.bus.sent)
    made.operator.expel(NAME, forget=True)
    made.run(3600)
    assert mine not in made.bus.retained
    assert [each.topic for each in made.bus.sent[sent:] if f"/{NAME}/" in each.topic] == []


def test_one_that_goes_on_talking_is_one_line_an_hour(database: Database) -> None:
    made = desk(database, NAMES[:3])
    revoke(made)
    for _ in range(30):
        made.mail.append(reported(made, NAME, Have(name="detector")))
        made.step()
        made.now_s += 1
    assert ignored(database) == [NAME]
    assert len(made.bus.expelled) == 3  # not more often than every ten seconds
    made.now_s += 3600
    made.mail.append(reported(made, NAME, Have(name="detector")))
    made.step()
    assert ignored(database) == [NAME, NAME]


def test_the_last_will_of_the_session_that_was_ended_is_no_word_of_its(database: Database) -> None:
    made = desk(database, NAMES[:3])
    made.run(10)
    revoke(made)
    made.mail.append(Heard(f"v1/{TENANT}/d/{NAME}/presence", b'{"v":1,"online":false}'))
    made.step()
    assert ignored(database) == [] and made.bus.expelled == []


def test_a_device_that_was_enrolled_again_is_heard(database: Database) -> None:
    made = desk(database, NAMES[:3])
    revoke(made)
    made.enrol(NAME)
    made.connect(NAME)
    made.run(60)
    assert ignored(database) == []
    with database.read() as tx:
        assert devices.must_find(tx, NAME).online
