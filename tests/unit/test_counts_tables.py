"""Counts as tables and files: the right hours, also in the nights with a new time, and read back."""

import csv
import sys
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import DaySummary
from edge_runtime.contract.errors import ConfigError
from edge_runtime.counts.export import as_csv, write_csv, write_parquet
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.recorder import CountsRecorder
from edge_runtime.counts.tables import Every, What, table
from tests.simulators.counted_store import CLOCK, DAY, LAYOUT, OPENS_S, Store
from tests.simulators.shoppers import crossed, left, scene


@pytest.fixture
def store(tmp_path: Path):
    made = Store(tmp_path)
    yield made
    made.recorder.close()


GOLDEN = {
    date(2026, 10, 25): (
        "2026-10-25T01:00:00+02:00,2026-10-25T02:00:00+02:00,front,1,0,0.0",
        "2026-10-25T02:00:00+02:00,2026-10-25T02:00:00+01:00,front,2,0,0.0",
        "2026-10-25T02:00:00+01:00,2026-10-25T03:00:00+01:00,front,1,3,0.0",
        "2026-10-25T03:00:00+01:00,2026-10-25T04:00:00+01:00,front,0,1,0.0",
    ),
    date(2026, 3, 29): (
        "2026-03-29T00:00:00+01:00,2026-03-29T01:00:00+01:00,front,1,0,0.0",
        "2026-03-29T01:00:00+01:00,2026-03-29T03:00:00+02:00,front,2,0,0.0",
        "2026-03-29T03:00:00+02:00,2026-03-29T04:00:00+02:00,front,1,3,0.0",
        "2026-03-29T04:00:00+02:00,2026-03-29T05:00:00+02:00,front,0,1,0.0",
    ),
}
"""What the store's clock makes of the same minutes by UTC, read off a calendar by hand. Hours without anybody
are left out."""
NIGHT = [(-35, "in"), (10, "in"), (50, "in"), (65, "in"), (70, "out"), (80, "out"), (90, "out"), (125, "out")]
"""Minutes after midnight, UTC."""


@pytest.mark.parametrize("day", GOLDEN)
def test_the_hours_of_a_night_with_a_new_time(tmp_path: Path, day: date) -> None:
    clock = StoreClock(ZoneInfo("Europe/Berlin"), CLOCK.starts_at.replace(hour=0))
    utc = StoreClock(ZoneInfo("UTC"), clock.starts_at)
    midnight_s = utc.begin_s(day)
    recorder = CountsRecorder(tmp_path, clock, LAYOUT, keep_days=9, now=lambda: clock.end_s(day))
    recorder.start()
    recorder.write(
        [crossed(midnight_s + minute * 60, word, track=number) for number, (minute, word) in enumerate(NIGHT)]
    )
    recorder.close()
    reader = CountsReader(tmp_path, clock, lambda: LAYOUT, now=lambda: clock.end_s(day))
    found = table(clock, [reader.day(day)], What.ENTRANCES, Every.HOUR, now_s=reader.now_s())
    assert len(found.rows) == (25 if day.month == 10 else 23)
    lines = as_csv(found).decode().splitlines()
    assert tuple(line for line in lines[1:] if not line.endswith(",0,0,0.0")) == GOLDEN[day]
    (whole,) = table(clock, [reader.day(day)], What.ENTRANCES, Every.DAY, now_s=reader.now_s()).rows
    assert whole[3:5] == (4, 4)


def a_day(store: Store) -> DaySummary:
    store.recorder.write(
        [
            *(crossed(OPENS_S + 60 * n, "in", track=n) for n in range(4)),
            crossed(OPENS_S + 3700, "out"),
            *(left(OPENS_S + 300 + 60 * n, 30 + 10 * n, track=n) for n in range(3)),
            left(OPENS_S + 4000, 2, track=9),
        ]
    )
    for slot in range(14):  # somebody looks at the door for an hour and ten minutes
        store.recorder.show(scene("door", OPENS_S + 300 * slot, [], began_s=OPENS_S))
    store.recorder.tend()
    store.now_s = OPENS_S + 5000
    return store.day()


def test_tables_say_what_was_counted(store: Store) -> None:
    summary = a_day(store)

    def rows(what: What, every: Every = Every.DAY):
        return [row[2:] for row in table(CLOCK, [summary], what, every, now_s=store.now_s).rows]

    assert rows(What.ENTRANCES) == [("front", 4, 1, 0.18)]
    assert rows(What.ENTRANCES, Every.HOUR)[5:] == [("front", 4, 0, 1.0), ("front", 0, 1, 0.4)]
    assert rows(What.OCCUPANCY) == [(3, 4, 0, 0.18)]
    assert rows(What.OCCUPANCY, Every.HOUR)[4:] == [(0, 0, 0, 0.0), (4, 4, 0, 1.0), (3, 4, 0, 0.4)]
    ((*zone, stayed, median, p90, watched),) = rows(What.DWELL)
    assert (zone, stayed, watched) == (["till", "line"], 4, 0)
    assert (median, p90) == pytest.approx((30, 50), rel=0.02)
    ((camera, zone, waited, *times, mean, most, _),) = rows(What.QUEUE)
    assert (camera, zone, waited, most) == ("till", "line", 3, 1)
    assert times == pytest.approx([40, 50, 50], rel=0.02)
    assert mean == pytest.approx(120 / (store.now_s - CLOCK.begin_s(DAY)), abs=0.01)
    nobody = rows(What.QUEUE, Every.HOUR)[0]
    assert nobody == ("till", "line", 0, None, None, None, 0, 0, 0)


def test_a_csv_file_reads_back(store: Store, tmp_path: Path) -> None:
    found = table(CLOCK, [a_day(store)], What.DWELL, Every.HOUR, now_s=store.now_s)
    write_csv(found, tmp_path / "new" / "dwell.csv")
    with (tmp_path / "new" / "dwell.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == found.columns
    assert len(rows) == len(found.rows) == 7
    *when, stayed = rows[5][:5]
    assert when == ["2026-11-25T09:00:00+01:00", "2026-11-25T10:00:00+01:00", "till", "line"]
    assert stayed == "3"
    assert [float(each) for each in rows[5][5:7]] == pytest.approx([40, 50], rel=0.02)
    assert rows[0][4:] == ["0", "", "", "0.0"]


def test_a_parquet_file_reads_back(store: Store, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `tables`")
    for what in What:
        found = table(CLOCK, [a_day(store)], what, Every.HOUR, now_s=store.now_s)
        write_parquet(found, tmp_path / "counts.parquet", "Europe/Berlin")
        read = parquet.read_table(tmp_path / "counts.parquet")
        assert tuple(read.column_names) == found.columns
        assert [tuple(row.values()) for row in read.to_pylist()] == list(found.rows)
        assert read.schema.field("from").type.tz == "Europe/Berlin"


def test_parquet_without_its_library_says_what_to_install(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = table(CLOCK, [a_day(store)], What.DWELL, Every.HOUR, now_s=store.now_s)
    with pytest.raises(ConfigError, match=r"edge-runtime\[tables\]"):
        write_parquet(found, tmp_path / "counts.parquet", "Europe/Berlin")
    assert not (tmp_path / "counts.parquet").exists()
