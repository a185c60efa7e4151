"""Ours: an Agent with a store's settings, as `edge-runtime run` makes it. Whole route, from camera to events.

Measured from outside, through the agent's own status: frames decoded, inferred and dropped, latency. Prints a
line `measuring` when the measured section begins, so that the benchmark can pull plugs in it.
"""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from meter import Meter, cpu_s, order, rss_mb

asked = order()
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_runtime.agent import Agent  # noqa: E402
from edge_runtime.contract.status import AgentStatus, CameraStatus  # noqa: E402
from edge_runtime.settings import load_settings  # noqa: E402

LOOK_EVERY_S = 0.25
"""A status costs a few tenths of a millisecond: looking more often would be seen in what is measured."""


def seen(camera: CameraStatus) -> dict[str, Any]:
    """The counts of one camera."""
    return {
        "decoded": camera.decoded,
        "inferred": camera.inferred,
        "dropped": {cause.value: count for cause, count in camera.dropped.items()},
        "state": camera.state.value,
    }


def by_frames(agent: Agent) -> Meter:
    """Measure over a number of decoded frames."""
    meter = Meter(asked["warm_up"], asked["frames"])
    while not meter.count(sum(camera.decoded for camera in agent.status().cameras)):
        time.sleep(LOOK_EVERY_S)
    return meter


def by_time(agent: Agent) -> dict[str, Any]:
    """Measure over a number of seconds; for live cameras."""
    time.sleep(asked["warm_up_s"])
    before, cpu_0, started = agent.status(), cpu_s(), time.perf_counter()
    print("measuring", flush=True)
    peak = rss_mb()
    while time.perf_counter() - started < asked["seconds"]:
        time.sleep(LOOK_EVERY_S)
        peak = max(peak, rss_mb())
    after, cpu_1, ended = agent.status(), cpu_s(), time.perf_counter()
    return {
        "seconds": ended - started,
        "cores": (cpu_1 - cpu_0) / (ended - started),
        "rss_mb": peak,
        "cameras": {
            new.name: {
                "fps": (new.inferred - old.inferred) / (ended - started),
                "offered_fps": (new.decoded - old.decoded) / (ended - started),
                "latency_ms": [new.latency.p50_ms, new.latency.p95_ms, new.latency.p99_ms],
                "inference_ms": [new.inference.p50_ms, new.inference.p95_ms, new.inference.p99_ms],
            }
            for old, new in zip(before.cameras, after.cameras, strict=True)
        },
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="edge-bench-"))
    (folder / "store.yaml").write_text(json.dumps(asked["settings"]))  # JSON is YAML
    agent = Agent(load_settings(folder / "store.yaml"))
    stop = threading.Event()
    last: list[AgentStatus] = []
    runner = threading.Thread(target=lambda: last.append(agent.run(stop)))
    runner.start()
    measured = by_frames(agent) if "frames" in asked else by_time(agent)
    stop.set()
    runner.join()
    events = folder / "events.jsonl"
    ids = [json.loads(line)["id"] for line in events.read_text().splitlines()] if events.exists() else []
    more = {"end": {camera.name: seen(camera) for camera in last[0].cameras}, "events": ids}
    if isinstance(measured, Meter):
        measured.report(**more)
    else:
        print(json.dumps(measured | more), flush=True)


if __name__ == "__main__":
    main()
