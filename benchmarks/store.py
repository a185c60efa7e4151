"""What each feature of a store PC costs: processor time a frame, 8 and 16 cameras of the shipped clip.

    .venv/bin/python benchmarks/store.py                # tables
    .venv/bin/python benchmarks/store.py --json         # and, last, one line with the goals
    .venv/bin/python benchmarks/store.py --quick        # 8 cameras, one short round

The agent runs as a user runs it, `edge-runtime run`, with recordings that play at their own pace (10 pictures
a second each). What a feature costs is the processor time of the whole process for a frame that came, less
that of the same store without it; all stores of a round run in turn, and medians over rounds count.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "edge_runtime/media/pedestrians.mp4"
CLIP_FPS = 10.0
WARM_S = 6.0
VIEWERS = 4
PORT = 8099
LINES = "    lines: {middle: {from: [0.5, 0.1], to: [0.5, 1.0], a_to_b: in, b_to_a: out}}\n"
ZONES = "    zones: {path: {polygon: [[0.2, 0.2], [0.8, 0.2], [0.8, 0.9], [0.2, 0.9]], dwell_s: 5}}\n"


@dataclass(frozen=True, slots=True)
class Store:
    """One store to be measured.

    Args:
        name: In the tables.
        sinks: Of the store.
        blocks: Others at the top of its file.
        gate: Whether the motion gate is on.
        viewers: Browsers that watch the page.
    """

    name: str
    sinks: Sequence[str] = ()
    blocks: Sequence[str] = ()
    gate: bool = False
    viewers: int = 0


EVENTS = "{type: jsonl, path: events.jsonl}"
SNAPSHOTS = "{type: snapshots, folder: snapshots}"
CLIPS = "{type: clips, folder: clips}"
VIDEO = "{type: video, folder: videos, fps: 5}"
COUNTS, BLUR = "counts: {}", "privacy: {blur: persons}"
PAGE = f"page: {{port: {PORT}}}"
ALL = (EVENTS, SNAPSHOTS, CLIPS)
STORES = (
    Store("nothing but tracks and rules"),
    Store("events as JSON Lines", (EVENTS,)),
    Store("counts", (EVENTS,), (COUNTS,)),
    Store("snapshots", (EVENTS, SNAPSHOTS)),
    Store("snapshots, people blurred", (EVENTS, SNAPSHOTS), (BLUR,)),
    Store("clips", (EVENTS, CLIPS)),
    Store("clips, people blurred", (EVENTS, CLIPS), (BLUR,)),
    Store("annotated video, 5 fps", (EVENTS, VIDEO)),
    Store("page, nobody looks", (EVENTS,), (PAGE,)),
    Store(f"page, {VIEWERS} look", (EVENTS,), (PAGE,), viewers=VIEWERS),
    Store("everything", ALL, (COUNTS, BLUR, PAGE), viewers=VIEWERS),
    Store("everything, gate on", ALL, (COUNTS, BLUR, PAGE), gate=True, viewers=VIEWERS),
)
DEGRADED = Store("degraded", (EVENTS,), ("degrade: {late_s: 0.05}",))


@dataclass(slots=True)
class Measured:
    """What a store took.

    Args:
        cpu_ms: Of a frame that came.
        cores: Busy.
        rss_mb: At the end.
        looked: Share of the frames that a model saw.
        age: Age of the answers by the time of an inference, worst camera.
        shown: Pictures a second that each viewer got.
    """

    cpu_ms: list[float] = field(default_factory=list[float])
    cores: list[float] = field(default_factory=list[float])
    rss_mb: list[float] = field(default_factory=list[float])
    looked: list[float] = field(default_factory=list[float])
    age: list[float] = field(default_factory=list[float])
    shown: list[float] = field(default_factory=list[float])


def write(folder: Path, store: Store, cameras: int) -> Path:
    """Write a store's file."""
    gate = "    motion: {gate: true}\n" if store.gate else ""
    told = "".join(
        f"  c{number:02d}:\n    source: {CLIP}\n    model: people\n    realtime: true\n    loop: true\n"
        f"{gate}{LINES}{ZONES}"
        for number in range(cameras)
    )
    sinks = "".join(f"  - {sink}\n" for sink in store.sinks)
    path = folder / "store.yaml"
    path.write_text(
        "version: 1\nsite: bench\n"
        "models: {people: {bundle: efficientdet-lite0, min_score: 0.4, labels: [person]}}\n"
        + "".join(f"{block}\n" for block in store.blocks)
        + f"cameras:\n{told}"
        + (f"sinks:\n{sinks}" if sinks else ""),
        "utf-8",
    )
    return path


def measure(store: Store, cameras: int, seconds: float, into: Measured) -> None:
    """Run a store and take its figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "-m", "edge_runtime", "run", str(write(Path(folder), store, cameras)))
        agent = subprocess.Popen(
            (*command, "--json"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        stop = threading.Event()
        viewers = [Viewer(f"c{at:02d}", stop) for at in range(store.viewers)]
        try:
            time.sleep(WARM_S)
            process = psutil.Process(agent.pid)
            for viewer in viewers:
                viewer.start()
            began, cpu = time.monotonic(), sum(process.cpu_times()[:2])
            time.sleep(seconds)
            took, spent = time.monotonic() - began, sum(process.cpu_times()[:2]) - cpu
            into.rss_mb.append(process.memory_info().rss / 1e6)
        finally:
            stop.set()
            agent.send_signal(signal.SIGTERM)
            status: dict[str, Any] = json.loads(agent.communicate(timeout=60)[0])
    into.cpu_ms.append(spent * 1e3 / (cameras * CLIP_FPS * took))
    into.cores.append(spent / took)
    seen = status["cameras"]
    into.looked.append(sum(one["inferred"] for one in seen) / max(1, sum(one["decoded"] for one in seen)))
    into.age.append(max(one["latency"]["p95_ms"] / max(one["inference"]["p50_ms"], 0.1) for one in seen))
    into.shown += [viewer.count / took for viewer in viewers]


class Viewer(threading.Thread):
    """A browser that watches one camera: asks for the next picture when it has the last one."""

    def __init__(self, camera: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url = f"http://127.0.0.1:{PORT}/live/pictures/{camera}?after="
        self._halt = stop
        self.count = 0

    def run(self) -> None:
        """Look until told to stop."""
        after = "0"
        while not self._halt.is_set():
            with urllib.request.urlopen(self._url + after, timeout=15) as answer:
                after = answer.headers["x-picture"]
                self.count += len(answer.read()) > 0


def tables(found: dict[tuple[str, int], Measured], sizes: Sequence[int], screen: Console) -> None:
    """Print the figures for a person."""
    for cameras in sizes:
        table = Table(f"{cameras} cameras", box=None, pad_edge=False)
        for column in ("CPU a frame", "more", "cores", "memory", "looked at", "viewer"):
            table.add_column(column, justify="right")
        base = statistics.median(found[STORES[0].name, cameras].cpu_ms)
        for store in STORES:
            one = found[store.name, cameras]
            cpu = statistics.median(one.cpu_ms)
            shown = f"{statistics.median(one.shown):.1f} fps" if one.shown else ""
            table.add_row(
                store.name,
                f"{cpu:.2f} ms",
                f"{cpu - base:+.2f} ms",
                f"{statistics.median(one.cores):.2f}",
                f"{statistics.median(one.rss_mb):.0f} MB",
                f"{statistics.median(one.looked):.0%}",
                shown,
            )
        screen.print(table)


def goals_of(found: dict[tuple[str, int], Measured], cameras: int) -> dict[str, dict[str, Any]]:
    """Give the goals of the issue."""
    looked = statistics.median(found[f"page, {VIEWERS} look", cameras].cpu_ms)
    alone = statistics.median(found["page, nobody looks", cameras].cpu_ms)
    share = looked / alone - 1
    age = statistics.median(found[DEGRADED.name, cameras].age)
    return {
        "page with 4 viewers, more CPU": {"value": round(share, 4), "goal": 0.10, "ok": share <= 0.10},
        "degraded: p95 age / inference": {"value": round(age, 3), "goal": 2.0, "ok": age <= 2.0},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: the goals")
    parser.add_argument("--quick", action="store_true", help="8 cameras, one short round")
    asked = parser.parse_args()
    sizes, rounds, seconds = ((8,), 1, 8.0) if asked.quick else ((8, 16), 3, 20.0)
    screen = Console(stderr=True)
    found: dict[tuple[str, int], Measured] = {}
    for number in range(rounds):
        for cameras in sizes:
            for store in (*STORES, DEGRADED):
                one = found.setdefault((store.name, cameras), Measured())
                measure(store, cameras, seconds, one)
                screen.print(
                    f"round {number + 1}/{rounds}, {cameras} cameras, {store.name}: {one.cpu_ms[-1]:.2f} ms"
                )
    tables(found, sizes, Console())
    goals = goals_of(found, sizes[0])
    for name, goal in goals.items():
        screen.print(f"{'reached' if goal['ok'] else 'missed '} {name} {goal['value']} (goal {goal['goal']})")
    if asked.json:
        print(json.dumps({"goals": goals}))
    if not all(goal["ok"] for goal in goals.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
