"""A store that is left alone: cameras that vanish and come back, a broker that restarts, for half an hour.

    .venv/bin/python benchmarks/soak.py                       # 30 minutes
    .venv/bin/python benchmarks/soak.py --minutes 10 --json   # last, one line with the goals

Four cameras look at the shipped clip over and over, two of them over RTSP; one reads in a process of its own.
Every sink that needs no other service is on. Every few minutes one RTSP server is killed, or stopped so that
it stalls, and the broker restarts. The goals: memory stays flat after the warm-up, no event that was written
is missing at the broker, no camera stays away.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from broker import Broker, Ear
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.simulators.rtsp import RtspServer, available  # noqa: E402

CLIP = ROOT / "edge_runtime" / "media" / "pedestrians.mp4"

STORE = """
version: 1
site: soak
state_dir: {folder}/state
models:
  people: {{bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}}
cameras:
  rtsp-1: &camera
    source: {rtsp[0]}
    model: people
    fps: 2
    zones:
      left: {{polygon: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], dwell_s: 2}}
      right: {{polygon: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}}
    lines:
      middle: {{from: [0.5, 0], to: [0.5, 1], a_to_b: in, b_to_a: out}}
  rtsp-2: {{<<: *camera, source: '{rtsp[1]}', isolate: true}}
  file-1: {{<<: *camera, source: {clip}, realtime: true, loop: true}}
  file-2: {{<<: *camera, source: {clip}, realtime: true, loop: true, motion: {{gate: true}}}}
sinks:
  - {{type: jsonl, path: {folder}/events.jsonl}}
  - {{type: mqtt, host: 127.0.0.1, port: {port}}}
  - {{type: video, folder: {folder}/video, fps: 2, height: 240}}
  - {{type: report, path: {folder}/report.html}}
  - {{type: clips, folder: {folder}/clips, keep_bytes: 67108864}}
  - {{type: snapshots, folder: {folder}/snapshots, keep_bytes: 16777216}}
"""

LONG_S = 3600
"""An RTSP server's clip: long enough that only this program ends its streams."""

AWAY_S = 90.0
"""A camera that shows nothing for this long, twice the longest outage and pause, is stuck."""

SAMPLE_S = 5.0

MAX_SLOPE_MB_HOUR = 1.0


@dataclass
class States:
    """When each camera last inferred, as the broker's retained states tell."""

    port: int
    last_s: dict[str, float] = field(default_factory=dict)
    longest_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="states")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("+/soak/+/state")
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()

    def _hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        state = json.loads(message.payload)
        if state["fps"] > 0:
            self.saw(state["camera"])

    def saw(self, camera: str) -> None:
        now_s = time.monotonic()
        away_s = now_s - self.last_s.get(camera, now_s)
        self.longest_s[camera] = max(away_s, self.longest_s.get(camera, 0.0))
        self.last_s[camera] = now_s

    def stuck(self) -> list[str]:
        """Name cameras that were, or are, away for too long."""
        now_s = time.monotonic()
        ages = {name: max(now_s - last_s, self.longest_s[name]) for name, last_s in self.last_s.items()}
        never = {"rtsp-1", "rtsp-2", "file-1", "file-2"} - set(ages)
        return sorted(never | {name for name, age_s in ages.items() if age_s > AWAY_S})

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="last, one line with the goals")
    asked = parser.parse_args()
    missing = available()
    if missing is not None:
        raise SystemExit(f"no RTSP server: {missing}")
    with tempfile.TemporaryDirectory(prefix="edge-soak-") as name:
        goals = soak(Path(name), asked.minutes * 60)
    for title, goal in goals.items():
        print(f"{title:32} {goal['value']:>10}   goal {goal['goal']}   {'ok' if goal['ok'] else 'MISSED'}")
    if asked.json:
        print(json.dumps({"goals": goals}))
    sys.exit(not all(goal["ok"] for goal in goals.values()))


def soak(folder: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Run the store in a folder and give the goals."""
    clip = long_clip(folder / "long.mp4")
    with ExitStack() as stack:
        servers = [stack.enter_context(RtspServer(clip)) for _ in range(2)]
        broker = stack.enter_context(Broker())
        ear = stack.enter_context(Ear(broker.port))
        states = States(broker.port)
        stack.callback(states.close)
        store = folder / "store.yaml"
        urls = [server.url for server in servers]
        store.write_text(STORE.format(folder=folder, clip=CLIP, rtsp=urls, port=broker.port))
        process = stack.enter_context(running(store))
        samples = watch(process, seconds, [*faults(servers, broker, seconds)])
        stuck = states.stuck()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        written = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        ids = {event["id"] for event in written}
        ear.wait_for(ids, timeout_s=30)
        lost = len(ids - ear.heard)
    rates = slopes(samples, warm_up_s=min(600.0, max(300.0, seconds / 3)))
    kinds = {event["type"] for event in written}
    print(f"{len(ids)} events of {len(kinds)} kinds; exit {code}; longest away: {states.longest_s}")
    minutes = {int(sample[0] // 60): round(sample[1] / 1e6) for sample in samples}
    print(f"memory of the agent at the end of each minute, MB: {' '.join(map(str, minutes.values()))}")
    last = samples[-1]
    print(f"memory of the agent {last[1] / 1e6:.0f} MB, with its processes {last[2] / 1e6:.0f} MB")
    return {
        "rss slope, MB an hour": goal(round(rates[0], 2), MAX_SLOPE_MB_HOUR),
        "with its processes": goal(round(rates[1], 2), MAX_SLOPE_MB_HOUR),
        "lost acknowledged events": goal(lost, 0),
        "stuck cameras": goal(len(stuck), 0),
        "events written twice": goal(len(written) - len(ids), 0),
        "exit code": goal(code, 0),
    }


def goal(value: float, limit: float) -> dict[str, Any]:
    """Make one goal."""
    return {"value": value, "goal": limit, "ok": value <= limit}


def long_clip(path: Path) -> Path:
    """Write the shipped clip over and over into one file, without encoding anything."""
    with av.open(str(CLIP)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        ends = [packet.pts + packet.duration for packet in packets]
        length = max(ends) - min(packet.pts for packet in packets)
        times = [(packet.pts, packet.dts) for packet in packets]
        rounds = round(LONG_S / float(length * stream.time_base))
        for number in range(rounds):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                packet.pts, packet.dts, packet.stream = pts + number * length, dts + number * length, copy
                packet.time_base = stream.time_base
                target.mux(packet)
    return path


@contextmanager
def running(store: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent."""
    command = [sys.executable, "-m", "edge_runtime", "run", str(store), "--quiet"]
    with (store.parent / "log").open("wb") as log, subprocess.Popen(command, cwd=ROOT, stderr=log) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            sys.stdout.write((store.parent / "log").read_text()[-4000:])


def faults(
    servers: list[RtspServer], broker: Broker, seconds: float
) -> Iterator[tuple[float, Callable[[], object]]]:
    """Say what goes wrong when; each is over well before the next."""
    every_s = max(60.0, min(240.0, seconds / 6))

    def stop(server: RtspServer) -> None:
        os.kill(server.pid, signal.SIGSTOP)

    def go_on(server: RtspServer) -> None:
        os.kill(server.pid, signal.SIGCONT)

    rounds = itertools.count()
    at_s = every_s / 2
    while at_s + 70 < seconds:
        server = servers[next(rounds) % 2]
        yield at_s, server.kill
        yield at_s + 10, server.start
        other = servers[(servers.index(server) + 1) % 2]
        yield at_s + 15, lambda other=other: stop(other)
        yield at_s + 40, lambda other=other: go_on(other)
        yield at_s + 20, broker.stop
        yield at_s + 28, broker.start
        at_s += every_s


def watch(
    process: subprocess.Popen[bytes], seconds: float, plan: list[tuple[float, Callable[[], object]]]
) -> list[tuple[float, int, int]]:
    """Let things go wrong as planned; give (seconds, bytes, bytes with its processes) as time went by."""
    agent = psutil.Process(process.pid)
    samples: list[tuple[float, int, int]] = []
    began = time.monotonic()
    waiting = sorted(plan, key=lambda step: step[0])
    while (now_s := time.monotonic() - began) < seconds:
        if process.poll() is not None:
            raise SystemExit(f"the agent ended with {process.returncode}")
        while waiting and waiting[0][0] <= now_s:
            waiting.pop(0)[1]()
        if not samples or now_s - samples[-1][0] >= SAMPLE_S:
            own = agent.memory_info().rss
            samples.append((now_s, own, own + sum(_rss(child) for child in agent.children())))
        time.sleep(0.5)
    return samples


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def slopes(samples: list[tuple[float, int, int]], warm_up_s: float) -> tuple[float, float]:
    """Give MB an hour after the warm-up: the median slope between any two minutes (Theil, Sen).

    Of each minute its least counts: what is held, without the pictures that are on their way at the moment.
    """
    after = np.array([sample for sample in samples if sample[0] >= warm_up_s])
    parts = [after[after[:, 0] // 60 == minute] for minute in np.unique(after[:, 0] // 60)]
    points = np.array([(part[0, 0] // 60 * 60, *part[:, 1:].min(axis=0)) for part in parts])
    pairs = list(itertools.combinations(points, 2))
    if not pairs:
        raise SystemExit("too short to say anything about memory")
    rates = [(late - early) / (late[0] - early[0]) for early, late in pairs]
    own, whole = np.median(np.array(rates)[:, 1:], axis=0) * 3600 / 1e6
    return float(own), float(whole)


if __name__ == "__main__":
    main()
