"""SIGHUP on a running store: cameras come, go, change; the others notice nothing, nor does a wrong file."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.broker import wait_until

CLIP = Path(__file__).parent.parent.parent / "edge_runtime" / "media" / "pedestrians.mp4"
HEAD = """\
version: 1
site: test
models:
  people: {bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}
sinks:
  - {type: jsonl, path: events.jsonl}
  - {type: video, folder: annotated, height: 96, fps: 1}
cameras:
"""
CAMERA = """\
  %s:
    source: %s
    model: people
    loop: true
    zones:
      left: {polygon: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], settle_s: %s}
      right: {polygon: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]], settle_s: 0}
"""


def camera(name: str, settle_s: float = 0) -> str:
    return CAMERA % (name, CLIP, settle_s)


class Store:
    """A store run by the command line; `log` is what it says."""

    def __init__(self, folder: Path, *cameras: str) -> None:
        self.yaml, self._events, self._log = folder / "store.yaml", folder / "events.jsonl", folder / "log"
        self.folder = folder
        self.write(*cameras)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_runtime", "run", str(self.yaml), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def write(self, *cameras: str, head: str = HEAD) -> None:
        self.yaml.write_text(head + "".join(cameras))

    def hang_up(self, *cameras: str, head: str = HEAD) -> None:
        self.write(*cameras, head=head)
        self.process.send_signal(signal.SIGHUP)

    def events(self, name: str) -> list[dict[str, Any]]:
        whole = self._events.read_text().rpartition("\n")[0] if self._events.exists() else ""
        events = [json.loads(line) for line in whole.splitlines()]
        return [event for event in events if event["camera"] == name]

    def states(self, name: str) -> list[str]:
        return [event["state"] for event in self.events(name) if event["type"] == "camera_state"]

    def log(self) -> str:
        return " ".join(self._log.read_text().split())

    def wait(self, until: Callable[[], bool]) -> None:
        wait_until(lambda: self.process.poll() is not None or until(), 60)
        assert self.process.poll() is None, self.log()

    def stop(self) -> dict[str, Any]:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, self.log()
        return json.loads(out)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, camera("stays"), camera("goes"), camera("changes"))
    store.wait(lambda: all(len(store.events(name)) >= 4 for name in ("stays", "goes", "changes")))
    yield store
    if store.process.poll() is None:
        store.process.kill()
        store.process.communicate()


def test_cameras_come_go_and_change_while_the_others_run(store: Store) -> None:
    before = store.events("stays")
    store.hang_up(camera("stays"), camera("changes", 0.5), camera("comes"))
    store.wait(
        lambda: "settings read again: added comes; removed goes; started again changes;" in store.log()
    )
    gone = len(store.events("goes"))
    store.wait(
        lambda: (
            len(store.events("comes")) >= 4
            and len(store.states("changes")) == 2
            and len(store.events("stays")) >= len(before) + 6
        )
    )
    last = store.stop()
    statuses = {status["name"]: status for status in last["cameras"]}
    assert set(statuses) == {"stays", "changes", "comes"}
    for status in statuses.values():
        assert status["decoded"] == status["inferred"] + sum(status["dropped"].values())
    assert set(statuses["stays"]["dropped"]) <= {"stopped"}, "not one frame was lost to the change"
    assert store.states("stays") == ["online"]
    assert store.states("comes") == ["online"]
    assert len(store.events("goes")) == gone
    after = store.events("stays")
    assert after[: len(before)] == before
    tracks = [event["subject"]["track"] for event in after if event["type"] == "zone_entered"]
    assert len(set(tracks)) > 3, "ids go on; they did not begin anew"
    times = [event["pts_ns"] for event in after]
    assert times == sorted(times)
    stays = [event for event in store.events("goes") if event["type"] in {"zone_entered", "zone_left"}]
    assert len(stays) % 2 == 0, "the stays at a camera that goes are closed"
    videos = sorted(path.name for path in (store.folder / "annotated").iterdir())
    assert videos == ["changes+2.mp4", "changes.mp4", "comes.mp4", "goes.mp4", "stays.mp4"]


def test_wrong_settings_change_nothing_and_say_why(store: Store) -> None:
    store.hang_up(camera("stays"), camera("comes").replace("loop", "lop"))
    store.wait(lambda: "is wrong, and nothing changes" in store.log())
    assert "cameras.comes.lop: unknown key. Did you mean 'loop'?" in store.log()
    unknown_label = camera("comes").replace("settle_s: 0}\n      right", "labels: [cat]}\n      right")
    store.hang_up(camera("stays"), unknown_label)
    store.wait(lambda: "the new settings are wrong, and nothing changes" in store.log())
    assert "cameras.comes.zones.left.labels: model 'people' gives no 'cat'" in store.log()
    assert {status["name"] for status in store.stop()["cameras"]} == {"stays", "goes", "changes"}
    assert store.events("comes") == []


def test_what_needs_a_restart_is_said(store: Store) -> None:
    head = HEAD.replace("0.35", "0.5").replace(
        "sinks:", "  other: {bundle: efficientdet-lite0}\nsinks:\n  - {type: report, path: report.html}"
    )
    other = camera("comes").replace("model: people", "model: other")
    store.hang_up(camera("stays"), camera("goes"), camera("changes"), other, head=head)
    store.wait(lambda: "need a restart: sinks, models.people, models.other, cameras.comes" in store.log())
    assert {status["name"] for status in store.stop()["cameras"]} == {"stays", "goes", "changes"}
    assert [store.states(name) for name in ("stays", "goes", "changes")] == [["online"]] * 3


def test_a_terminal_that_is_closed_stops_the_store(tmp_path: Path) -> None:
    (tmp_path / "store.yaml").write_text(HEAD + camera("stays"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", "run", str(tmp_path / "store.yaml"), "--quiet"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    events = tmp_path / "events.jsonl"
    try:
        wait_until(lambda: events.exists() and events.stat().st_size > 0, 60)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # the kernel sends it to who has the terminal for its own
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_sigterm_while_the_program_still_loads_is_a_clean_end(tmp_path: Path) -> None:
    (tmp_path / "store.yaml").write_text(HEAD + camera("stays"))
    code = """
import os, signal, sys
from edge_runtime.cli import main
from importlib.abc import MetaPathFinder

class Kill(MetaPathFinder):  # SIGTERM comes when the command line begins to load
    def find_spec(self, name, path=None, target=None):
        if name == "edge_runtime.cli.run":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Kill())
sys.argv = ["edge-runtime", "run", "store.yaml"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
