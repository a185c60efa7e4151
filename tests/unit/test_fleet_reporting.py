"""When a device reports, what it tells beside that, and what it keeps until the manager has it."""

import errno
import math
import os
import sqlite3
from pathlib import Path

import pytest

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import DeviceEvent, Have
from edge_runtime.contract.update import Failure, State
from edge_runtime.fleet.event_box import EventBox
from edge_runtime.fleet.refusals import Refusals
from edge_runtime.fleet.reporting import NOTICE_SPREAD_S, PROGRESS_S, ReportPlan, Watch, event_of
from edge_runtime.fleet.telling import Telling
from edge_runtime.fleet.times import rfc3339
from tests.simulators.updates import World

HAVE = Have(kind="model", name="people", version="1", state=State.DOWNLOADING, deployment="dep-1")


def connected() -> ReportPlan:
    plan = ReportPlan(300.0)
    plan.connected(1000.0)
    plan.sent(1000.0, 0.5)
    plan.settled()
    return plan


def test_nothing_is_due_without_a_connection() -> None:
    plan = ReportPlan(300.0)
    plan.changed(5.0)
    plan.noticed(5.0, 0.5)
    assert plan.wake_at() == math.inf
    plan.connected(10.0)
    assert plan.wake_at() == 10.0
    plan.lost()
    assert plan.wake_at() == math.inf


@pytest.mark.parametrize(("dice", "due_s"), [(0.0, 1270.0), (0.5, 1300.0), (0.999, 1329.94)])
def test_it_reports_every_now_and_then(dice: float, due_s: float) -> None:
    plan = connected()
    plan.sent(1000.0, dice)
    plan.settled()
    assert plan.wake_at() == pytest.approx(due_s)


def test_news_is_reported_at_once_and_progress_not_so_often() -> None:
    plan = connected()
    plan.progressed(1001.0)
    assert plan.wake_at() == 1000.0 + PROGRESS_S
    plan.changed(1002.0)
    assert plan.wake_at() == 1002.0
    plan.progressed(1002.0)
    assert plan.wake_at() == 1002.0


def test_one_report_is_under_way_at_a_time() -> None:
    plan = connected()
    plan.sent(1010.0, 0.5)
    plan.changed(1011.0)
    assert plan.wake_at() == 1070.0, "a broker that never answers is not waited for without end"
    plan.settled()
    assert plan.wake_at() == 1011.0


def test_a_notice_is_answered_by_a_whole_fleet_bit_by_bit() -> None:
    due = []
    for n in range(10):
        plan = connected()
        plan.noticed(1001.0, n / 10)
        due.append(plan.wake_at())
    assert due == [pytest.approx(1001.0 + NOTICE_SPREAD_S * n / 10) for n in range(10)]


def test_a_report_that_nobody_heard_is_made_again() -> None:
    plan = connected()
    plan.sent(1010.0, 0.5)
    plan.unheard(1011.0, 0.5)
    assert plan.wake_at() == 1011.0 + 0.75 * NOTICE_SPREAD_S


def test_what_is_news() -> None:
    watch = Watch()
    first = watch.look([HAVE], 1)
    assert (first.changed, first.ended) == (True, ())
    assert watch.look([HAVE], 1).changed is False
    more = watch.look([HAVE.model_copy(update={"progress": 0.5})], 1)
    assert (more.changed, more.progressed) == (False, True)
    assert watch.look([HAVE.model_copy(update={"progress": 0.5})], 2).changed is True
    failed = HAVE.model_copy(update={"state": State.FAILED, "code": Failure.NO_DISK, "detail": "why"})
    assert watch.look([failed], 2).ended == (failed,)
    assert watch.look([failed], 2).ended == (), "an end is an end once"
    again = failed.model_copy(update={"deployment": "dep-2"})
    assert watch.look([again], 2).ended == (again,)
    assert Watch().look([again], 2).ended == (again,), "it may have ended when the process did"


@pytest.mark.parametrize(
    ("state", "code", "level", "said"),
    [
        (State.COMMITTED, None, "info", "committed"),
        (State.CANCELLED, Failure.CANCELLED, "info", "cancelled"),
        (State.REJECTED, Failure.DIGEST, "error", "digest"),
        (State.FAILED, Failure.NO_DISK, "error", "no-disk"),
        (State.ROLLED_BACK, Failure.NOT_A_NUMBER, "error", "not-a-number"),
    ],
)
def test_the_event_of_an_end(state: State, code: Failure | None, level: str, said: str) -> None:
    have = HAVE.model_copy(update={"state": state, "code": code, "detail": "d" * 1000})
    one, again = event_of(have, rfc3339(1.0)), event_of(have, rfc3339(2e9))
    assert (one.level, one.code, one.deployment) == (level, said, "dep-1")
    assert one.id == again.id
    assert one.id != event_of(have.model_copy(update={"deployment": "dep-2"}), rfc3339(1.0)).id


def test_refusals_of_one_code_are_told_now_and_then() -> None:
    refusals = Refusals()
    told = [refusals.note(Failure.MESSAGE_MALFORMED, 0.0) for _ in range(100)]
    assert told == [0] * 5 + [None] * 95
    assert refusals.note(Failure.MESSAGE_STALE, 0.0) == 0, "another code has a share of its own"
    assert refusals.note(Failure.MESSAGE_MALFORMED, 60.0) == 95
    assert refusals.note(Failure.MESSAGE_MALFORMED, 60.0) is None
    assert refusals.note(Failure.MESSAGE_MALFORMED, 1e6) == 1
    assert refusals.counts == {Failure.MESSAGE_MALFORMED: 103, Failure.MESSAGE_STALE: 1}


@pytest.mark.parametrize(
    ("now_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1767225600.25, "2026-01-01T00:00:00.250Z"),
        (4e9, "2096-10-02T07:06:40.000Z"),
    ],
)
def test_times_of_any_clock(now_s: float, text: str) -> None:
    assert rfc3339(now_s) == text
    assert DeviceEvent(id="e", time=text, level="info", code="c", text="").time == text


def event(n: int) -> DeviceEvent:
    return DeviceEvent(id=f"e{n}", time=rfc3339(n), level="info", code="c", text="")


def ids(box: EventBox, limit: int = 1000) -> list[str]:
    return [DeviceEvent.model_validate_json(body).id for _, body in box.waiting(limit)]


def test_events_wait_in_order_until_they_are_told_and_over_restarts(tmp_path: Path) -> None:
    box = EventBox(tmp_path / "events.db")
    for n in (0, 1, 1, 2):
        box.put(event(n))
    assert (len(box), ids(box)) == (3, ["e0", "e1", "e2"])
    (first, _), (second, _) = box.waiting(2)
    assert [number for number, _ in box.waiting(1, {first})] == [second]
    assert len(box.waiting(5, {first, second})) == 1
    box.done(first)
    box.close()
    again = EventBox(tmp_path / "events.db")
    again.put(event(0))
    assert ids(again) == ["e1", "e2"], "what was told is known"
    again.close()


def test_a_box_does_not_grow_without_end(tmp_path: Path) -> None:
    box = EventBox(tmp_path / "events.db")
    for n in range(520):
        box.put(event(n))
    assert (len(box), box.given_up, ids(box)[0]) == (500, 20, "e20")
    for number, _ in box.waiting(1000):
        box.done(number)
    for n in range(1000, 2100):
        box.put(event(n))
        box.done(box.waiting(1)[0][0])
    assert len(box) == 0
    box.close()
    with sqlite3.connect(tmp_path / "events.db") as connection:
        (rows,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    assert rows <= 1001


def test_numbers_grow_over_restarts(tmp_path: Path) -> None:
    numbers: list[int] = []
    for _ in range(3):
        box = EventBox(tmp_path / "events.db")
        numbers += [box.next_number() for _ in range(1500)]
        box.close()
    assert numbers[0] == 0
    assert numbers == sorted(set(numbers))


def test_a_disk_that_takes_nothing_loses_no_event_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "events.db").mkdir()
    box = EventBox(tmp_path / "events.db")
    for n in range(60):
        box.put(event(n))
    assert (len(box), box.given_up, ids(box)[-1]) == (50, 10, "e59")
    assert [box.next_number() for _ in range(3)] == [0, 1, 2]
    box.done(box.waiting(1)[0][0])
    assert len(box) == 49
    (tmp_path / "events.db").rmdir()
    assert box.next_number() == 3
    box.put(event(99))
    assert len(box) == 50
    box.close()


def test_a_damaged_file_is_put_aside_and_named(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"no database" * 100)
    box = EventBox(tmp_path / "events.db")
    assert "damaged" in box.damage
    box.put(event(1))
    assert ids(box) == ["e1"]
    box.close()


def test_a_failing_disk_is_told_with_an_id_of_its_own(tmp_path: Path) -> None:
    box = EventBox(tmp_path / "events.db")
    telling = Telling(box, World("http://127.0.0.1:1"))
    for _ in range(2):
        telling.storage(StorageError("journal", got=os.strerror(errno.ENOSPC)))
    telling.damaged("journal")
    assert len(set(ids(box))) == 3
    assert telling.refused_counts == {Failure.STORAGE: 2}
    box.close()
