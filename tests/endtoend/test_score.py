"""`edge-runtime score` on pictures, the shipped clip and tables; ended, changed, called again."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import av
import cv2
import pytest
from typer.testing import CliRunner

from edge_runtime.cli.app import app
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.local_model import find_bundle, open_model, this_device
from edge_runtime.scoring.files import Format
from edge_runtime.scoring.job import Job, Report, run
from edge_runtime.scoring.model import Asked
from edge_runtime.scoring.plan import Limits
from edge_runtime.tasks.picture_file import read_picture
from tests.simulators.sentiment import LARGE, sentiment_bundle

parquet = pytest.importorskip("pyarrow.parquet")

DETECTOR = "efficientdet-lite0"
Call = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def call() -> Call:
    """Run `score`; gives the exit code, its document, and what it said to people."""

    def started(*arguments: object) -> tuple[int, Any, str]:
        command = ["score", *map(str, arguments), "--json"]
        done = CliRunner().invoke(app, command)
        return done.exit_code, json.loads(done.stdout), done.stderr

    return started


@pytest.fixture(scope="module")
def frames(shipped_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of the clip, half of them in a folder of their own, and the clip's beginning."""
    folder = tmp_path_factory.mktemp("frames") / "store"
    (folder / "till").mkdir(parents=True)
    with av.open(str(shipped_clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == 6:
                break
            place = folder / "till" if number % 2 else folder
            cv2.imwrite(str(place / f"{number}.png"), frame.to_ndarray(format="bgr24"))
    with av.open(str(shipped_clip)) as source, av.open(str(folder / "clip.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None or packet.dts * packet.time_base > 2:
                break
            packet.stream = stream
            target.mux(packet)
    return folder


@pytest.fixture
def store(frames: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(frames, tmp_path / "store"))


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    """A table of texts, the third of which is broken."""
    sentiment_bundle(tmp_path / "model")
    table = tmp_path / "comments.csv"
    table.write_bytes(b'id,text\n1,good staff\n2,"bad, queue"\n3\n4,good \xff\n5,kind\n')
    return table


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Give every row in the order of the parts, without how long it took."""
    parts = [parquet.read_table(path, partitioning=None) for path in sorted(folder.glob("part-*.parquet"))]
    return [
        {name: cell for name, cell in row.items() if name != "ms"}
        for part in parts
        for row in part.to_pylist()
    ]


def do(job: Job, *, batches: int | None = None) -> Report:
    """Do a job, or its first batches."""
    asked = count(1)
    return run(job, stop=lambda: batches is not None and next(asked) >= batches, told=lambda _: None)


def detector_job(path: Path, out: Path, **more: Any) -> Job:
    return Job(path, Asked(DETECTOR, workers=1, track=more.pop("track", False)), out, **more)


def test_a_folder_of_pictures_and_recordings(store: Path, call: Call) -> None:
    (store / "bad.png").write_bytes(b"no picture")
    (store / "notes.txt").write_text("no input")
    code, report, said = call(store, "--model", DETECTOR)
    assert code == 4  # a row has an error
    assert (report["finished"], report["errors"], report["other_files"]) == (True, 1, 1)
    assert "1 of them have an error" in said
    out = Path(report["out"])
    assert out == store.with_name("store.scores")
    found = rows_of(out)
    names = [row["source"] for row in found]
    with av.open(str(store / "clip.mp4")) as container:
        clip = sum(1 for _ in container.decode(video=0))
    pictures = [f"{number}.png" for number in (0, 2, 4)]
    below = [f"till/{number}.png" for number in (1, 3, 5)]
    assert names == [*pictures, "bad.png", *["clip.mp4"] * clip, *below]
    assert clip > 10
    assert [row["row"] for row in found if row["source"] == "clip.mp4"] == list(range(clip))
    broken = next(row for row in found if row["source"] == "bad.png")
    assert "a file of another kind" in broken["error"]
    assert broken["detections"] is None
    model = open_model(find_bundle(DETECTOR), this_device("auto"))
    for row in found:
        if row["source"].endswith(".png") and row["error"] is None:
            answer = model.predictor.predict(Picture.from_bgr(read_picture(store / row["source"])))
            assert isinstance(answer, Detections)
            assert [one["score"] for one in row["detections"]] == answer.scores.tolist()
            assert [one["label"] for one in row["detections"]] == [
                answer.labels[index] for index in answer.classes
            ]
            assert [one["x1"] for one in row["detections"]] == answer.boxes[:, 0].tolist()
            assert (row["height"], row["width"], row["pts_ns"]) == (576, 768, None)
    model.predictor.close()
    assert {row["model"] for row in found} == {DETECTOR}
    assert call(store, "--model", DETECTOR)[1]["new_rows"] == 0
    assert rows_of(out) == found


def test_a_recording_at_a_rate(store: Path, tmp_path: Path, call: Call) -> None:
    code, report, _ = call(store / "clip.mp4", "--model", DETECTOR, "--fps", 2, "--out", tmp_path / "out")
    assert code == 0
    found = rows_of(tmp_path / "out")
    assert [row["row"] for row in found] == [0, 5, 10, 15, 20][: report["rows"]]
    assert [row["pts_ns"] for row in found[:3]] == [0, 500_000_000, 1_000_000_000]


def test_identities_go_on_where_a_run_ended(store: Path, tmp_path: Path) -> None:
    small = Limits(rows=4)
    whole = detector_job(store / "clip.mp4", tmp_path / "whole", track=True, limits=small)
    do(whole)
    wanted = rows_of(tmp_path / "whole")
    assert any(row["tracks"] for row in wanted)
    cut = replace(whole, out=tmp_path / "cut")
    first = do(cut, batches=7)
    assert (first.finished, first.new_rows) == (False, 7)
    assert do(cut).finished
    assert rows_of(tmp_path / "cut") == wanted
    # A part that somebody deleted is made again, from what the others hold.
    (tmp_path / "cut" / "part-000001.parquet").unlink()
    assert do(cut).new_rows == 4
    healed = sorted(rows_of(tmp_path / "cut"), key=lambda row: row["row"])
    assert healed == wanted


def test_rows_of_two_jobs_are_not_mixed(store: Path, tmp_path: Path) -> None:
    job = detector_job(store / "till", tmp_path / "out")
    do(job)
    with pytest.raises(ConfigError, match=r"min-score was not given, is 0\.5") as refused:
        do(replace(job, asked=replace(job.asked, min_score=0.5)))
    assert "--restart" in str(refused.value)
    for other, what in (
        (replace(job, fps=2.0), r"fps was not given, is 2\.0"),
        (replace(job, format=Format.JSONL), "format was parquet, is jsonl"),
        (replace(job, path=store), "input was "),
        (replace(job, asked=replace(job.asked, track=True)), "track was not given"),
    ):
        with pytest.raises(ConfigError, match=what):
            do(other)
    (tmp_path / "out" / "part-mine.parquet").write_text("not a part")
    assert do(job).rows == 3
    again = do(replace(job, asked=replace(job.asked, min_score=0.9), restart=True))
    assert (again.new_rows, again.rows, again.parts) == (3, 3, 1)
    assert (tmp_path / "out" / "part-mine.parquet").read_text() == "not a part"


def test_another_model_is_another_job(comments: Path, tmp_path: Path) -> None:
    job = Job(comments, Asked(str(tmp_path / "model")), tmp_path / "out")
    do(job)
    sentiment_bundle(tmp_path / "newer", LARGE, version="2.0.0")
    with pytest.raises(ConfigError, match=r"the model's file was .*; version was 1\.0\.0, is 2\.0\.0"):
        do(replace(job, asked=Asked(str(tmp_path / "newer"))))


def test_nothing_is_written_among_the_files_of_somebody_else(store: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(ConfigError, match=r"other files, as thesis\.txt"):
            do(detector_job(store, tmp_path / "out", restart=restart))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_results_inside_the_input_are_no_input(store: Path) -> None:
    job = detector_job(store, store / "scores")
    rows = do(job).rows
    assert do(replace(job, restart=True)).rows == rows


def test_inputs_that_come_and_change(store: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    assert call(store / "till", "--model", DETECTOR, "--out", out)[1]["rows"] == 3
    shutil.copy(store / "0.png", store / "till" / "0.png")
    shutil.copy(store / "2.png", store / "till" / "1.png")
    (store / "till" / "5.png").unlink()
    code, report, said = call(store / "till", "--model", DETECTOR, "--out", out)
    assert (code, report["new_rows"], report["rows"]) == (0, 1, 4)
    assert (report["changed"], report["changed_count"]) == (["1.png"], 1)
    assert "Changed since their rows were made: 1.png." in said


def test_a_table_that_changes_in_the_middle_is_not_continued(tmp_path: Path) -> None:
    sentiment_bundle(tmp_path / "model")
    table = tmp_path / "t.jsonl"
    table.write_text('{"text": "good"}\n' * 100)
    job = Job(table, Asked(str(tmp_path / "model"), workers=1), tmp_path / "out")
    assert do(job, batches=2).new_rows == 32
    table.write_text('{"text": "bad"}\n' * 100)
    report = do(job)
    assert (report.changed, report.errors, report.rows) == (("t.jsonl",), 1, 33)
    assert rows_of(tmp_path / "out")[-1]["error"].startswith("it changed when 32 of its rows were done")


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_table_of_texts(comments: Path, tmp_path: Path, call: Call, form: str) -> None:
    out = tmp_path / "out"
    code, report, _ = call(comments, "--model", tmp_path / "model", "--out", out, "--format", form)
    assert (code, report["rows"], report["errors"]) == (4, 5, 2)
    (part,) = out.glob(f"part-*.{form}")
    if form == "parquet":
        found = parquet.read_table(part).to_pylist()
    elif form == "jsonl":
        found = [json.loads(line) for line in part.read_text().splitlines()]
    else:
        with part.open(newline="") as lines:
            found = list(csv.DictReader(lines))
        assert json.loads(found[0]["classes"])[0]["label"] == "positive"
    assert [row["label"] or None for row in found] == ["positive", "negative", None, None, "positive"]
    assert found[2]["error"] == "row 2: expected 2 columns, got 1"
    assert found[3]["error"] == "row 3: expected UTF-8"
    assert [int(row["row"]) for row in found] == list(range(5))


def test_a_parquet_table_and_its_damaged_row_group(tmp_path: Path) -> None:
    import pyarrow as pa

    sentiment_bundle(tmp_path / "model")
    texts = [("good", "bad", None)[row % 3] for row in range(90)]
    table = tmp_path / "t.parquet"
    columns: Any = pa.table({"n": list(range(90)), "review": texts})
    parquet.write_table(columns, table, row_group_size=30, use_dictionary=False, compression="snappy")
    job = Job(table, Asked(str(tmp_path / "model")), tmp_path / "out", column="review")
    do(job)
    found = rows_of(tmp_path / "out")
    assert [row["label"] for row in found] == ["positive", "negative", None] * 30
    assert found[2]["error"] == "row 2: expected a text, got NoneType"
    place = parquet.ParquetFile(table).metadata.row_group(1).column(1)
    content = bytearray(table.read_bytes())
    begin, size = place.data_page_offset, place.total_compressed_size
    content[begin : begin + size] = b"\xff" * size
    table.write_bytes(content)
    do(replace(job, restart=True))
    hurt = rows_of(tmp_path / "out")
    assert [row["label"] for row in hurt[:30] + hurt[60:]] == ["positive", "negative", None] * 20
    assert all("rows 30 to 59 cannot be read" in row["error"] for row in hurt[30:60])


def test_what_does_not_fit_is_said_before_anything_is_written(
    store: Path, comments: Path, call: Call
) -> None:
    model = comments.parent / "model"
    for arguments, code, message in (
        ((store, "--model", model), 4, "expected tables, got 7 other files"),
        ((store / "0.png", "--model", model), 4, "for the model reads texts"),
        ((comments, "--model", DETECTOR), 4, "for the model looks at pictures"),
        ((comments, "--model", model, "--column", "words"), 3, "expected one of id, text"),
        ((comments, "--model", model, "--fps", 1), 3, "--fps"),
        ((comments, "--model", model, "--track"), 3, "expected a detector"),
        ((comments, "--model", model, "--min-score", 0.1), 3, "expected a model of pictures"),
        ((comments, "--model", model, "--max-tokens", 3), 3, "expected a model that generates"),
        ((store, "--model", DETECTOR, "--track", "--format", "csv"), 3, "parquet or jsonl"),
        ((store, "--model", DETECTOR, "--column", "text"), 3, "--column"),
        ((store, "--model", DETECTOR, "--on", "moon"), 3, "expected one of local"),
        ((store, "--model", DETECTOR, "--engine", "ray", "--on", "local"), 3, "--engine ray"),
        ((store / "none", "--model", DETECTOR), 4, "got nothing"),
    ):
        got, report, said = call(*arguments)
        assert got == code, (arguments, said)
        assert message in report["error"]["message"], report
    (store.parent / "empty").mkdir()
    assert "an empty folder" in call(store.parent / "empty", "--model", DETECTOR)[1]["error"]["message"]
    assert not list(store.parent.glob("*.scores"))


def test_one_process_at_a_time(store: Path, tmp_path: Path) -> None:
    job = detector_job(store / "till", tmp_path / "out")
    refused = list[StorageError]()

    def meanwhile(_: object) -> None:
        with pytest.raises(StorageError, match="Another process") as caught:
            do(job)
        refused.append(caught.value)

    run(job, stop=lambda: bool(refused), told=meanwhile)
    assert len(refused) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_puts_in_place_what_is_done(tmp_path: Path, number: signal.Signals) -> None:
    sentiment_bundle(tmp_path / "model")
    table = tmp_path / "t.jsonl"
    table.write_text('{"text": "good queue"}\n' * 200_000)
    command = [sys.executable, "-m", "edge_runtime", "score", str(table), "--model", str(tmp_path / "model")]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command, "--out", str(out), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if list(out.glob(".part-*")):
            break
        time.sleep(0.05)
    os.kill(process.pid, number)
    said, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    report = json.loads(said)
    assert not report["finished"]
    assert 0 < report["rows"] < 200_000
    assert "call it again" in told
    assert len(rows_of(out)) == report["rows"]


def test_a_folder_of_tables_with_a_broken_one_among_them(comments: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    (folder / "older").mkdir(parents=True)
    comments.rename(folder / "a.csv")
    (folder / "b.csv").write_text("id,words\n1,good\n")
    (folder / "c.parquet").write_bytes(b"no Parquet")
    (folder / "older" / "d.jsonl").write_text('{"text": "bad"}\n')
    report = do(Job(folder, Asked(str(tmp_path / "model")), tmp_path / "out"))
    found = rows_of(tmp_path / "out")
    assert [row["source"] for row in found] == [*["a.csv"] * 5, "b.csv", "c.parquet", "older/d.jsonl"]
    assert (report.rows, report.errors) == (8, 4)
    assert found[5]["error"].startswith("--column: expected one of id, words, got text")
    assert "expected Parquet" in found[6]["error"]
    assert do(Job(folder, Asked(str(tmp_path / "model")), tmp_path / "out")).new_rows == 0
