"""The outbox: ordered, bounded, durable; nothing twice; and the schedule by which it is sent."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import InputError, StorageError
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.parcel import WITHHELD, Kind, Parcel
from edge_runtime.routing.sending import Sending, SendingOptions

DAY_S = 86400.0


def parcel(key: str, *, stream: str = "a", kind: Kind = Kind.ESCALATION, size: int = 100) -> Parcel:
    return Parcel(key, stream, kind, "/p", "text/plain", bytes(size), note="{}")


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "deep" / "outbox.sqlite", max_bytes=1000, max_age_s=DAY_S)


def keys(box: Outbox) -> list[str]:
    return [one.parcel.key for one in box.heads()]


def test_each_stream_gives_its_oldest(box: Outbox) -> None:
    for key, stream in (("1", "a"), ("2", "b"), ("3", "a")):
        assert box.put(parcel(key, stream=stream), 0)
    first, second = box.heads()
    assert (first.parcel.key, second.parcel.key) == ("1", "2")
    box.settle(first, "t", b"yes", 1)
    assert keys(box) == ["2", "3"]
    late = box.answer("1")
    assert late is not None
    assert (late.body, late.kind, late.at_s) == (b"yes", Kind.ESCALATION, 1)


def test_a_key_is_kept_once_even_after_its_answer(box: Outbox) -> None:
    assert box.put(parcel("1"), 0)
    assert box.put(parcel("1"), 0)
    assert len(box) == 1
    assert box.waits("1")
    box.settle(box.heads()[0], "t", b"yes", 0)
    assert box.put(parcel("1"), 0)
    assert len(box) == 0
    assert not box.waits("1")


def test_a_key_is_of_one_request_only(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    box = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    first, other = parcel("1"), parcel("1", size=1)
    assert box.put(first, 0)
    with pytest.raises(InputError, match="request '1'"):
        box.put(other, 0)
    box.settle(box.heads()[0], "t", b"yes", 0)
    box.close()
    again = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    assert again.put(first, 0)
    with pytest.raises(InputError, match="request '1'"):
        again.put(other, 0)
    assert again.put(parcel("1", kind=Kind.AUDIT, size=1), 0), "nobody asks for an audit by id"
    assert len(again) == 0
    again.close()


def test_an_outbox_of_a_version_without_digests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    box = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    box.put(parcel("1"), 0)
    box.settle(box.heads()[0], "t", b"yes", 0)
    box.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE answers DROP COLUMN digest")
        database.commit()
    assert box.put(parcel("1", size=1), 0)
    assert box.put(parcel("2"), 0)
    box.settle(box.heads()[0], "t", b"yes", 0)
    with pytest.raises(InputError, match="request '2'"):
        box.put(parcel("2", size=1), 0)
    box.close()


def test_what_it_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "outbox.sqlite"
    box = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    box.put(parcel("1"), 0)
    modes = {one.name: oct(one.stat().st_mode & 0o777) for one in (path.parent, *path.parent.iterdir())}
    assert modes == {
        **dict.fromkeys((one.name for one in path.parent.iterdir()), "0o600"),
        "state": "0o700",
    }
    assert path.name in modes
    box.close()


def test_what_may_no_longer_leave_is_kept_and_counted_by_itself(box: Outbox) -> None:
    box.put(parcel("1"), 0)
    box.poison(box.heads()[0], f"{WITHHELD}text may not leave", 7)
    (kept,) = box.poisoned("1")
    assert (kept.withheld, kept.attempts) == (True, 0)
    assert box.poisoned("2") == ()
    assert (box.status().withheld, box.status().refused, len(box)) == (1, 0, 0)


def test_settling_twice_does_no_harm(box: Outbox) -> None:
    box.put(parcel("1"), 0)
    (owed,) = box.heads()
    box.settle(owed, "t", b"first", 0)
    box.settle(owed, "t", b"second", 0)
    late = box.answer("1")
    assert late is not None
    assert late.body == b"first"
    assert box.status().sent == 1


def test_the_answer_to_an_event_is_not_kept(box: Outbox) -> None:
    box.put(parcel("1", kind=Kind.EVENT), 0)
    box.settle(box.heads()[0], "t", b"ok", 0)
    assert box.answer("1") is None


def test_when_it_is_full_audits_go_first_then_events_the_oldest_first(box: Outbox) -> None:
    kinds = (Kind.ESCALATION, Kind.AUDIT, Kind.EVENT, Kind.AUDIT)
    for number, kind in enumerate(kinds):
        assert box.put(parcel(str(number), stream=str(number), kind=kind, size=230), 0)
    for number in (4, 5, 6):
        assert box.put(parcel(str(number), stream=str(number), size=230), 0)
        assert len(box) == 4
    assert keys(box) == ["0", "4", "5", "6"]
    assert not box.put(parcel("7", stream="7", kind=Kind.AUDIT, size=230), 0)
    assert keys(box) == ["0", "4", "5", "6"]
    assert box.status().dropped == 4


def test_what_is_larger_than_the_box_makes_no_room(box: Outbox) -> None:
    box.put(parcel("1"), 0)
    assert not box.put(parcel("2", size=2000), 0)
    assert keys(box) == ["1"]


def test_age_ends_parcels_and_answers_but_a_clock_set_back_does_not(box: Outbox) -> None:
    box.put(parcel("1", stream="a"), 0)
    box.put(parcel("2", stream="b"), DAY_S)
    box.settle(box.heads()[0], "t", b"", 0)
    assert box.expire(-5 * DAY_S) == 0
    assert box.expire(2 * DAY_S + 1) == 1
    assert box.answer("1") is None
    assert (len(box), box.status().expired) == (0, 1)


def test_poison_is_kept_and_counted_and_the_next_comes_up(box: Outbox) -> None:
    box.put(parcel("1"), 0)
    box.put(parcel("2"), 0)
    (owed,) = box.heads()
    box.postpone(owed)
    (owed,) = box.heads()
    assert owed.attempts == 1
    box.poison(owed, "wrong shape", 7)
    (bad,) = box.poisoned()
    assert (bad.key, bad.error, bad.attempts, bad.at_s) == ("1", "wrong shape", 2, 7)
    assert keys(box) == ["2"]
    assert box.status().refused == 1


def test_answers_are_told_once_and_stay_for_whoever_asks(box: Outbox) -> None:
    for key in "12":
        box.put(parcel(key, stream=key), 0)
    for owed in box.heads():
        box.settle(owed, "t", owed.parcel.key.encode(), 0)
    assert [late.key for late in box.untold(1)] == ["1"]
    box.told(["1"])
    assert [late.key for late in box.untold(9)] == ["2"]
    assert box.answer("1") is not None


def test_answers_are_bounded_too(box: Outbox) -> None:
    for key in "123":
        box.put(parcel(key), 0)
        box.settle(box.heads()[0], "t", bytes(100), 0)
    assert [box.answer(key) is not None for key in "123"] == [False, True, True]


def test_everything_survives_a_new_process(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    box = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    for key in "123":
        box.put(parcel(key), 5)
    box.settle(box.heads()[0], "t", b"yes", 0)
    box.poison(box.heads()[0], "no", 0)
    before = box.status()
    box.close()
    again = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    again.open()
    assert again.status() == before
    (owed,) = again.heads()
    assert (owed.parcel, owed.since_s) == (parcel("3"), 5)
    again.close()


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    box = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    box.put(parcel("1"), 0)
    with pytest.raises(StorageError, match="second agent"):
        Outbox(path, max_bytes=1000, max_age_s=DAY_S).open()
    box.close()


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(b"no database" * 1000)
    box = Outbox(path, max_bytes=1000, max_age_s=DAY_S)
    assert box.put(parcel("1"), 0)
    assert "was damaged" in box.status().damage
    assert path.with_name("outbox.sqlite.damaged").exists()
    box.close()


OPTIONS = SendingOptions(first_s=1.0, longest_s=8.0)


def test_a_stream_that_failed_waits_twice_as_long_each_time_and_others_do_not() -> None:
    sending = Sending(OPTIONS)
    waits = [sending.failed("a", 0, 1.0, away=False) for _ in range(5)]
    assert waits == [1, 2, 4, 8, 8]
    assert not sending.ready("a", 7.9)
    assert sending.ready("a", 8)
    assert sending.ready("b", 0)
    assert sending.wake_at(("a",)) == 8
    assert sending.wake_at(()) is None
    sending.sent("a")
    assert sending.ready("a", 0)


def test_where_the_cloud_is_away_all_wait_until_it_is_back() -> None:
    sending = Sending(OPTIONS)
    sending.failed("a", 0, 0.0, away=True)
    assert not sending.ready("b", 0.4)
    assert sending.ready("b", 0.5)
    sending.failed("b", 1, 0.0, away=True)
    sending.back()
    assert sending.ready("b", 1)


def test_a_server_that_asks_for_time_gets_it() -> None:
    assert Sending(OPTIONS).failed("a", 0, 0.0, away=False, asked_s=60) == 60


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(0, 0.999)), max_size=30))
def test_a_pause_is_always_within_its_bounds(failures: list[tuple[str, bool, float]]) -> None:
    sending = Sending(OPTIONS)
    for stream, away, dice in failures:
        assert 0.5 <= sending.failed(stream, 100.0, dice, away=away) <= 8.0
        wake_s = sending.wake_at((stream,))
        assert wake_s is not None
        assert sending.ready(stream, wake_s)
        assert not sending.ready(stream, wake_s - 1e-6)
