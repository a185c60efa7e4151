"""The folder of recordings: names, bounds, what a killed writer left, and finding the one of an event."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_runtime.contract.errors import StorageError
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DEAD = 2**22 + 1
"""No process has this number: Linux counts to 2**22."""


def moment(after_s: float) -> str:
    when = NOON + timedelta(seconds=after_s)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(number: int) -> str:
    return f"{number:032x}"


def shelf(folder: Path, *, max_bytes: int = 10**9, max_age_s: float | None = None, reserve: int = 0) -> Shelf:
    return Shelf(folder, ".mp4", Limits(max_bytes, max_age_s), reserve_bytes=reserve, clock=NOON.timestamp)


def put(on: Shelf, number: int, after_s: float, size: int = 100, more: Sequence[int] = ()) -> Path:
    part = on.part("door", event(number), moment(after_s))
    part.write_bytes(bytes(size))
    return on.keep(part, [event(number), *map(event, more)])


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_recording_is_found_by_its_event(tmp_path: Path) -> None:
    kept = shelf(tmp_path)
    path = put(kept, 1, 0.25)
    assert names(tmp_path) == [f"2026-01-31/12-00-00.250_door_{event(1)}.mp4"]
    assert kept.find(event(1), "door", moment(0.25), 60) == path
    assert kept.find(event(2), "door", moment(0.25), 60) is None
    assert kept.find(event(1), "yard", moment(0.25), 60) is None
    assert shelf(tmp_path / "none").find(event(1), "door", moment(0), 60) is None


def test_every_event_of_a_longer_recording_finds_it_over_midnight_too(tmp_path: Path) -> None:
    kept = shelf(tmp_path)
    before_midnight = 12 * 3600 - 5
    path = put(kept, 1, before_midnight, more=(2, 3))
    for number, after_s in ((1, 0), (2, 3), (3, 20)):
        assert kept.find(event(number), "door", moment(before_midnight + after_s), 60) == path
    assert kept.find(event(3), "door", moment(before_midnight + 90), 60) is None, "only so far back"


def test_what_is_being_written_is_no_recording(tmp_path: Path) -> None:
    kept = shelf(tmp_path)
    part = kept.part("door", event(1), moment(0))
    part.write_bytes(bytes(100))
    assert part.name.startswith(".")
    assert kept.find(event(1), "door", moment(0), 60) is None


def test_what_a_killed_writer_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    kept = shelf(tmp_path)
    whole = put(kept, 1, 0)
    day = whole.parent
    for number, pid in ((2, DEAD), (3, os.getpid()), (4, os.getppid())):
        (day / f".12-00-00.000_door_{event(number)}.mp4.{pid}.part").write_bytes(b"half")
    (day / f"12-00-09.000_door_{event(5)}.ids").write_text("a clip that never came")
    (tmp_path / "2026-01-30").mkdir()
    shelf(tmp_path).open()
    left = [name for name in names(tmp_path) if not name.endswith(whole.name)]
    assert left == [f"2026-01-31/.12-00-00.000_door_{event(4)}.mp4.{os.getppid()}.part"]
    assert not (tmp_path / "2026-01-30").exists(), "an empty day goes"


def test_the_oldest_go_with_what_belongs_to_them(tmp_path: Path) -> None:
    kept = shelf(tmp_path, max_bytes=400)
    kept.open()
    day_s = 86_400.0
    put(kept, 1, -2 * day_s, more=(9,))
    put(kept, 2, -day_s)
    third, fourth = put(kept, 3, -5), put(kept, 4, 0)
    assert {path.name for path in (third, fourth)} <= {Path(name).name for name in names(tmp_path)}
    assert not (tmp_path / "2026-01-29").exists()
    assert (tmp_path / "2026-01-30").exists(), "four times a hundred bytes fit"
    put(kept, 5, 1, size=300)
    assert [Path(name).name[:12] for name in names(tmp_path)] == ["12-00-00.000", "12-00-01.000"]


def test_old_recordings_go_at_the_start_and_files_of_others_stay(tmp_path: Path) -> None:
    kept = shelf(tmp_path)
    put(kept, 1, -7200)
    newer = put(kept, 2, -60)
    (newer.parent / "notes.mp4").write_bytes(b"mine")
    (tmp_path / "README").write_text("mine")
    again = shelf(tmp_path, max_age_s=3600)
    again.open()
    assert [Path(name).name for name in names(tmp_path)] == [newer.name, "notes.mp4", "README"]


def test_two_shelves_of_one_disk_keep_what_is_theirs(tmp_path: Path) -> None:
    clips, pictures = shelf(tmp_path / "a", max_bytes=250), shelf(tmp_path / "b", max_bytes=150)
    for number in range(5):
        put(clips, number, number)
        put(pictures, number, number)
    assert len(names(tmp_path / "a")) == 2
    assert len(names(tmp_path / "b")) == 1


def test_nothing_is_written_where_the_disk_is_almost_full(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"expected .* MB free on its disk, got \d+ MB"):
        put(shelf(tmp_path, reserve=2**60), 1, 0)
    assert names(tmp_path) == []
