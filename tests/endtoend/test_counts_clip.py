"""From the shipped clip to a table: what is counted is what a person saw, while it runs and after."""

import csv
import json
import threading
from collections import Counter
from pathlib import Path

import av
import pytest
from typer.testing import CliRunner

from edge_runtime.agent import Agent
from edge_runtime.cli.app import app
from edge_runtime.contract.event import EVENTS, LineCrossed, ZoneLeft
from edge_runtime.contract.status import AgentStatus
from edge_runtime.settings import load_settings

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "pedestrians.json").read_text("utf-8"))
CLIP = Path(__file__).parent.parent.parent / "edge_runtime" / "media" / "pedestrians.mp4"
SECONDS = 20
WORDS = {"left": "in", "right": "out"}
"""Who walks to the left on the clip comes in."""
STORE = """
version: 1
site: test
models:
  people: {bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}
cameras:
  path:
    source: clip.mp4
    model: people
    lines: {path: {from: [0.7, 0.2], to: [0.7, 0.8], a_to_b: in, b_to_a: out}}
    zones: {picture: {polygon: [[0, 0], [1, 0], [1, 1], [0, 1]], settle_s: 0, queue: true}}
sinks:
  - {type: jsonl, path: events.jsonl}
counts: {timezone: Europe/Berlin}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    with av.open(str(CLIP)) as source, av.open(str(folder / "clip.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is None or packet.pts * packet.time_base >= SECONDS:
                break
            packet.stream = stream
            target.mux(packet)
    (folder / "store.yaml").write_text(STORE)
    return folder


@pytest.fixture(scope="module")
def meanwhile(folder: Path) -> list[str]:
    """What the command says while the agent runs."""
    return []


@pytest.fixture(scope="module")
def status(folder: Path, meanwhile: list[str]) -> AgentStatus:
    agent = Agent(load_settings(folder / "store.yaml"))
    meanwhile.append(command(folder, "--every", "day", "--json"))
    return agent.run(threading.Event())


def command(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["counts", str(folder / "store.yaml"), *options])
    assert done.exit_code == 0, done.output
    return done.output


def rows(folder: Path, what: str) -> list[dict[str, object]]:
    found = json.loads(command(folder, "--what", what, "--every", "day", "--json"))
    return found["rows"]


def test_people_in_and_out_are_those_a_person_saw(folder: Path, status: AgentStatus) -> None:
    seen = Counter(WORDS[truth["direction"]] for truth in GOLDEN["crossings"])
    hidden = Counter(WORDS[truth["direction"]] for truth in GOLDEN["crossings"] if truth.get("hidden"))
    (row,) = rows(folder, "entrances")
    assert row["entrance"] == "path-path"
    for word in ("in", "out"):
        assert seen[word] - hidden[word] <= row[word] <= seen[word]
    events = [EVENTS.validate_json(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    reported = Counter(event.name for event in events if isinstance(event, LineCrossed))
    assert {word: row[word] for word in reported} == dict(reported)
    assert status.store is not None
    assert (status.store.entered, status.store.left) == (reported["in"], reported["out"])
    assert status.store.inside == reported["in"] - reported["out"] + status.store.missed
    stays = [event for event in events if isinstance(event, ZoneLeft)]
    (dwell,) = rows(folder, "dwell")
    assert dwell["stays"] == len(stays)
    (queue,) = rows(folder, "queue")
    assert queue["waited"] == sum(event.dwell_s >= 5 for event in stays)
    (occupancy,) = rows(folder, "occupancy")
    assert (occupancy["inside"], occupancy["missed_entries"]) == (status.store.inside, status.store.missed)


def test_the_command_works_while_the_agent_runs(status: AgentStatus, meanwhile: list[str]) -> None:
    (said,) = meanwhile
    assert json.loads(said)["timezone"] == "Europe/Berlin"


def test_a_recording_that_is_read_again_counts_once(folder: Path, status: AgentStatus) -> None:
    before = rows(folder, "entrances"), rows(folder, "dwell")
    again = Agent(load_settings(folder / "store.yaml")).run(threading.Event())
    assert (rows(folder, "entrances"), rows(folder, "dwell")) == before
    assert again.store == status.store


def test_the_table_is_a_file_too(folder: Path, status: AgentStatus, tmp_path: Path) -> None:
    said = command(folder, "--csv", str(tmp_path / "counts.csv"))
    with (tmp_path / "counts.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert f"{len(read)} rows in" in said
    assert status.store is not None
    assert sum(int(row["in"]) for row in read) == status.store.entered
    shown = command(folder)
    assert "path-path" in shown
    assert "Europe/Berlin" in shown


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--from", "yesterday"], 3, "expected a date as 2026-11-25"),
        (["--from", "2026-11-25", "--to", "2026-11-24"], 3, "expected 2026-11-25 or later"),
        (["--from", "2999-01-01"], 3, "which is today in the store, or earlier"),
        (["--from", "2001-01-01", "--to", "2026-11-24"], 3, "at most 4000 days"),
        (["--what", "cats"], 2, "cats"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    folder: Path, status: AgentStatus, options: list[str], code: int, said: str
) -> None:
    done = CliRunner().invoke(app, ["counts", str(folder / "store.yaml"), *options])
    assert done.exit_code == code
    assert said in " ".join((done.output + (done.stderr or "")).split())
