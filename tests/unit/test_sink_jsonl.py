"""JSON Lines: whole lines, in order, and mended after a crash."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import EVENTS, CameraStateChanged
from edge_runtime.sinks.jsonl import JsonlSink


def event(number: int) -> CameraStateChanged:
    return CameraStateChanged(
        id=f"{number:032x}",
        site="s",
        camera="door",
        time="2026-01-01T00:00:00.000Z",
        pts_ns=number,
        state="online",
        reason="ein Grund: „größer\n“",
    )


def test_events_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "events.jsonl"
    sink = JsonlSink(path)
    sink.write([event(0), event(1)])
    sink.write([event(2)])
    sink.sync()
    assert sink.status().written == 3
    sink.close()
    assert [EVENTS.validate_json(line) for line in path.read_bytes().splitlines()] == [
        event(n) for n in range(3)
    ]


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for number in range(2):
        sink = JsonlSink(path)
        sink.write([event(number)])
        sink.close()
    assert [json.loads(line)["pts_ns"] for line in path.read_text().splitlines()] == [0, 1]


@given(cut=st.integers(min_value=0, max_value=10_000), lines=st.integers(min_value=1, max_value=5))
def test_a_torn_tail_costs_no_whole_line(
    cut: int, lines: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("torn") / "events.jsonl"
    whole = b"".join(event(n).model_dump_json().encode() + b"\n" for n in range(lines))
    torn = whole[: cut % (len(whole) + 1)]
    path.write_bytes(torn)
    sink = JsonlSink(path)
    sink.write([event(99)])
    sink.close()
    read = [EVENTS.validate_json(line).pts_ns for line in path.read_bytes().splitlines()]
    ended = torn.count(b"\n")
    assert read[:ended] == list(range(ended))
    assert read[-1] == 99
    # A line that only lacks its newline is whole, and kept.
    assert len(read) in {ended + 1, ended + 2}


def test_zeros_that_a_power_cut_left_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(event(0).model_dump_json().encode() + b"\n" + b"\0" * 200_000)
    sink = JsonlSink(path)
    sink.write([event(1)])
    sink.close()
    assert [json.loads(line)["pts_ns"] for line in path.read_text().splitlines()] == [0, 1]


def test_a_file_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path, moved = tmp_path / "events.jsonl", tmp_path / "events.1"
    sink = JsonlSink(path)
    sink.write([event(0)])
    path.rename(moved)
    sink.write([event(1)])
    path.unlink()
    sink.write([event(2)])
    sink.close()
    assert json.loads(moved.read_text())["pts_ns"] == 0
    assert json.loads(path.read_text())["pts_ns"] == 2


def test_a_file_where_a_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    sink = JsonlSink(tmp_path / "taken" / "events.jsonl")
    with pytest.raises(StorageError, match=r"taken/events\.jsonl: cannot write events"):
        sink.write([event(0)])
    assert sink.status().written == 0
