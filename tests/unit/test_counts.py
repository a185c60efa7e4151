"""What is counted is kept, once, and read back: events, days that are over, heatmaps, the file."""

import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.status import StoreStatus
from edge_runtime.counts.packing import pack_heat, pack_summary, unpack_heat, unpack_summary
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.store import FILE, CountsStore
from tests.simulators.counted_store import CLOCK, DAY, LAYOUT, OPENS_S, Store, passed
from tests.simulators.shoppers import crossed, entered, left, scene


@pytest.fixture
def store(tmp_path: Path):
    made = Store(tmp_path)
    yield made
    made.recorder.close()


# --- events -------------------------------------------------------------------------------------------------


def test_what_comes_again_counts_once(store: Store) -> None:
    events = [crossed(OPENS_S + at, "in", track=at) for at in range(5)]
    store.recorder.write(events)
    store.recorder.write(events)
    store.again()
    store.recorder.write([*events[3:], crossed(OPENS_S + 9, "out", track=1)])
    assert passed(store.day()) == (5, 1)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_nor_batches_change_a_day(tmp_path_factory, dice) -> None:
    events = [
        *(crossed(OPENS_S + dice.uniform(0, 9000), dice.choice(["in", "out"]), track=n) for n in range(30)),
        *(left(OPENS_S + dice.uniform(0, 9000), dice.uniform(0, 90), track=n) for n in range(30)),
    ]
    found = []
    for tangled in (False, True):
        store = Store(tmp_path_factory.mktemp("store"), now_s=OPENS_S + 9000)
        told = [*events, *dice.sample(events, 20)] if tangled else events
        if tangled:
            dice.shuffle(told)
        while told:
            count = dice.randint(1, len(told)) if tangled else len(told)
            store.recorder.write(told[:count])
            told = told[count:]
        found.append(store.day())
        status = store.recorder.store_status()
        assert status is not None
        assert (status.inside, status.missed) == (
            found[-1].levels[-1].inside,
            sum(level.missed for level in found[-1].levels),
        )
        store.recorder.close()
    assert found[0] == found[1]


def test_who_leaves_an_empty_store_was_missed_coming_in(store: Store) -> None:
    store.recorder.write([crossed(OPENS_S, "in"), crossed(OPENS_S + 60, "out")])
    store.recorder.write([crossed(OPENS_S + 400, "out"), crossed(OPENS_S + 401, "in")])
    store.now_s += 3600
    levels = [level for level in store.day().levels if level.most or level.missed]
    assert [(level.inside, level.most, level.missed) for level in levels[:2]] == [(0, 1, 0), (1, 1, 1)]
    assert store.recorder.store_status() == StoreStatus("2026-11-25", 1, 2, 2, 1)


def test_the_status_follows_what_is_written(store: Store) -> None:
    assert store.recorder.store_status() == StoreStatus("2026-11-25")
    store.recorder.write([crossed(OPENS_S, "in"), crossed(OPENS_S + 1, "in", track=2)])
    store.recorder.write([crossed(OPENS_S + 2, "in", camera="aisle")])  # no entrance
    assert store.recorder.store_status() == StoreStatus("2026-11-25", 2, 2)
    store.recorder.write([crossed(OPENS_S - 9, "in", track=3)])  # late: counted anew, not at once
    store.now_s += 10
    assert store.recorder.store_status() == StoreStatus("2026-11-25", 3, 3)
    store.now_s = CLOCK.end_s(DAY) + 60
    assert store.recorder.store_status() == StoreStatus("2026-11-26")
    store.recorder.close()
    assert store.recorder.store_status() == StoreStatus("2026-11-26")


def test_a_waiting_line_is_seen_while_people_stand_in_it(store: Store) -> None:
    store.recorder.write([entered(OPENS_S), entered(OPENS_S + 100, track=2), entered(OPENS_S + 118, track=3)])
    store.now_s = OPENS_S + 120
    assert store.reader.waiting() == {("till", "line"): [120, 20]}  # the third may only pass through
    assert store.day().queues["till", "line"].lengths[-1].most == 2
    store.recorder.write([left(OPENS_S + 130, 130)])
    store.now_s = OPENS_S + 140
    assert store.reader.waiting() == {("till", "line"): [40, 22]}
    line = store.day().queues["till", "line"]
    assert line.waits[5].quantile(0.5) == pytest.approx(130, rel=0.02)
    store.recorder.watch(LAYOUT, away=["till"])
    assert store.reader.waiting() == {("till", "line"): []}


def test_nobody_waits_on_in_a_store_that_starts_again(store: Store) -> None:
    store.recorder.write([entered(OPENS_S)])
    store.again()
    store.now_s += 60
    assert store.reader.waiting() == {("till", "line"): []}


# --- days ---------------------------------------------------------------------------------------------------


def test_a_day_that_is_over_is_summed_up_and_reads_as_before(store: Store) -> None:
    store.recorder.write(
        [crossed(OPENS_S, "in"), crossed(OPENS_S + 60, "out"), left(OPENS_S + 70, 40), left(OPENS_S + 71, 3)]
    )
    store.now_s += 86400
    before = store.day()
    store.recorder.tend()
    assert moments(store) == 4  # an event may still come again
    store.now_s += 2 * 86400
    store.recorder.tend()
    assert moments(store) == 0
    assert store.day() == before
    assert store.reader.days() == [DAY]


def test_an_event_of_a_day_that_is_summed_up_does_not_count(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.recorder.write([crossed(OPENS_S, "in")])
    store.now_s += 3 * 86400
    store.recorder.tend()
    store.recorder.write([crossed(OPENS_S, "in"), crossed(OPENS_S + 5, "in", track=2)])
    assert passed(store.day()) == (1, 0)
    assert "2 events are of days that are summed up already" in caplog.text


def test_days_that_are_too_old_go(tmp_path: Path) -> None:
    store = Store(tmp_path, keep_days=5)
    for number in range(12):
        store.now_s = OPENS_S + number * 86400
        store.recorder.write([crossed(store.now_s, "in", track=number)])
        store.recorder.show(scene("door", store.now_s, [(0.5, 0.5)], began_s=OPENS_S))
        store.recorder.show(scene("door", store.now_s + 1, [(0.5, 0.5)], began_s=OPENS_S))
        store.recorder.tend()
    today = DAY + timedelta(days=11)
    assert store.reader.days() == [today - timedelta(days=number) for number in range(4, -1, -1)]
    assert not store.reader.heat(today - timedelta(days=5))
    assert store.reader.heat(today - timedelta(days=4))
    store.recorder.close()


def leap(store: Store, seconds: float) -> None:
    store.now_s += seconds
    store.leapt_s += seconds
    store.recorder.tend()


def test_a_clock_that_leaps_costs_no_history(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path, keep_days=30)
    store.recorder.write([crossed(OPENS_S, "in")])
    leap(store, 3650 * 86400)
    assert "leapt forward by 87600.0 h" in caplog.text
    store.now_s += 3600
    store.recorder.tend()
    assert moments(store) == 1
    leap(store, -3650 * 86400)
    store.now_s += 3 * 86400  # time itself goes by, and the day is summed up
    store.recorder.tend()
    assert moments(store) == 0
    assert passed(store.day()) == (1, 0)
    leap(store, 3650 * 86400)
    store.now_s += 86401  # nobody has put it back: it was right
    store.recorder.tend()
    assert store.reader.days() == []
    store.recorder.close()


def test_nothing_is_kept_for_longer_than_wanted(tmp_path: Path) -> None:
    store = Store(tmp_path, keep_days=1)
    store.recorder.write([crossed(OPENS_S, "in"), left(OPENS_S, 9)])
    store.now_s += 86400
    store.recorder.write([crossed(OPENS_S + 1, "in"), crossed(store.now_s, "in")])
    store.recorder.tend()
    assert store.reader.days() == [DAY + timedelta(days=1)]
    assert (passed(store.day()), passed(store.day(DAY + timedelta(days=1)))) == ((0, 0), (1, 0))
    store.recorder.close()


# --- heatmaps -----------------------------------------------------------------------------------------------


def test_heat_is_kept_by_day_and_goes_on_after_a_restart(store: Store) -> None:
    def stand(from_s: float, seconds: int) -> None:
        for second in range(seconds + 1):
            store.recorder.show(scene("door", from_s + second, [(0.5, 0.5)], began_s=from_s))

    stand(OPENS_S, 10)
    store.recorder.tend()
    assert store.reader.heat(DAY)["door"].sum() == 10
    stand(OPENS_S + 100, 5)  # the camera has started anew
    store.again()
    store.recorder.watch(LAYOUT, away=["door"])
    stand(OPENS_S + 200, 7)
    night_s = CLOCK.end_s(DAY)
    stand(night_s - 2, 4)  # over the end of the day
    store.recorder.tend()
    grids = store.reader.heat(DAY)
    assert store.reader.heat(DAY + timedelta(days=1))["door"].sum() == 3
    assert grids["door"].sum() == pytest.approx(10 + 5 + 7 + 1, abs=4.1)  # a jump counts two seconds at most
    assert np.unravel_index(grids["door"].argmax(), grids["door"].shape) == (22, 40)


def test_a_heatmap_survives_its_packing() -> None:
    dice = np.random.default_rng(7)
    grid = (dice.random((45, 80)) * 86400 * (dice.random((45, 80)) < 0.2)).astype(np.float32)
    assert np.abs(unpack_heat(pack_heat(grid)) - grid).max() <= 0.06
    with pytest.raises(StorageError, match="one that is whole"):
        unpack_heat(pack_heat(grid)[:-9])
    with pytest.raises(StorageError, match="one that is whole"):
        unpack_summary(b"no")


# --- the file -----------------------------------------------------------------------------------------------


def test_reading_goes_on_beside_writing(store: Store) -> None:
    stop, seen, failures = threading.Event(), list[int](), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                seen.append(passed(store.day())[0])
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(200):
        store.recorder.write([crossed(OPENS_S + number / 10, "in", track=number)])
    stop.set()
    thread.join()
    assert not failures
    assert seen == sorted(seen)
    assert passed(store.day()) == (200, 0)


def test_a_store_without_a_file_says_so(tmp_path: Path) -> None:
    reader = CountsReader(tmp_path, CLOCK, lambda: LAYOUT, now=lambda: OPENS_S)
    assert reader.days() == []
    assert reader.heat(DAY) == {}
    with pytest.raises(StorageError, match="there is no such file"):
        reader.day(DAY)


def test_a_damaged_file_is_set_aside_and_counting_goes_on(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database, and it is longer than a header " * 40)
    store = Store(tmp_path)
    store.recorder.write([crossed(OPENS_S, "in")])
    assert passed(store.day()) == (1, 0)
    assert "was damaged" in store.recorder.status().trouble
    store.recorder.close()
    (tmp_path / FILE).write_bytes(b"no database either " * 99)
    with pytest.raises(StorageError, match="cannot be read"):
        store.day()


def test_a_day_is_not_summed_up_twice(tmp_path: Path) -> None:
    kept = CountsStore(tmp_path)
    first = pack_summary(Store(tmp_path / "other").day()) if (tmp_path / "other" / FILE).exists() else b"1"
    kept.close_day(DAY, first, 0, 1)
    kept.close_day(DAY, b"another", 0, 1)
    kept.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("SELECT summary FROM days").fetchall() == [(first,)]
    connection.close()


def moments(store: Store) -> int:
    connection = sqlite3.connect(store.folder / FILE)
    try:
        return int(connection.execute("SELECT COUNT(*) FROM moments").fetchone()[0])
    finally:
        connection.close()
