"""What CPU per frame does not show: still scenes, memory, latency, overload, live cameras, outages.

Each gives its figures as `Findings`; `video.py` holds them against the goals. All run our agent in its own
process through `runners/ours.py`.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import clips
import rivals
from broker import Broker, Ear
from model import Model
from rows import CORES, Result, Row, Turns, command, run
from stores import store

from edge_runtime.sinks.mqtt import MqttOptions
from tests.simulators.rtsp import RtspServer

Findings = dict[str, float]
Tell = Callable[[str], None]


def motion(model: Model, *, rounds: int, frames: int, tell: Tell) -> Findings:
    """CPU a decoded frame of an empty street with the gate, over the same without."""
    clip = str(clips.empty())
    section = {"cores": CORES[-1:], "warm_up": 250}
    rows = [
        Row(
            f"empty street {model.size}, gate {'on' if gate else 'off'}",
            "ours.py",
            section
            | {
                # A dozing camera reads on as fast as the disk gives: more frames, for as long a measurement.
                "frames": frames * (40 if gate else 1),
                "settings": store(
                    model.bundle,
                    [clip],
                    engine="onnxruntime",
                    workers=1,
                    camera={"motion": gate, "loop": True},
                ),
            },
        )
        for gate in ({"gate": True}, {})
    ]
    turns = Turns()
    turns.take(rows, rounds, tell)
    return {"ratio": turns.ratio(rows[0].name, rows[1].name)}


def memory(model: Model, *, frames: int, most: int = 8) -> Findings:
    """Peak resident memory of one camera, and of each further one."""
    peaks = {}
    for cameras in (1, most):
        settings = store(
            model.bundle, [str(clips.crowd())] * cameras, engine="onnxruntime", workers=len(CORES)
        )
        section = {"cores": CORES, "warm_up": 60 * cameras, "frames": frames * cameras}
        peaks[cameras] = run(Row("memory", "ours.py", section | {"settings": settings}))["rss_mb"]
    return {"one_mb": peaks[1], "further_mb": (peaks[most] - peaks[1]) / (most - 1)}


def latency(model: Model, *, seconds: float, tell: Tell) -> Findings:
    """One camera in real time, far from saturation: how late are its events, in inference times?"""
    settings = store(
        model.bundle, [str(clips.crowd())], engine="onnxruntime", workers=len(CORES),
        camera={"realtime": True, "loop": True},
    )  # fmt: skip
    camera = _live(settings, seconds)["cameras"]["camera-1"]
    inference = camera["inference_ms"][0]
    tell(f"latency {_spread(camera['latency_ms'])}, inference {_spread(camera['inference_ms'])}")
    return {"p99_inferences": camera["latency_ms"][2] / inference}


def overload(model: Model, *, seconds: float, tell: Tell, cameras: int = 12) -> Findings:
    """More frames than the workers can take: ages, shares, and whether every frame is accounted for."""
    settings = store(
        model.bundle, [str(clips.small())] * cameras, engine="onnxruntime", workers=len(CORES),
        camera={"realtime": True, "loop": True},
    )  # fmt: skip
    result = _live(settings, seconds)
    seen = result["cameras"].values()
    rates = [camera["fps"] for camera in seen]
    lost = sum(
        camera["decoded"] - camera["inferred"] - sum(camera["dropped"].values())
        for camera in result["end"].values()
    )
    for name, camera in result["cameras"].items():
        tell(
            f"{name}: {camera['fps']:.1f} of {camera['offered_fps']:.1f} fps, age"
            f" {_spread(camera['latency_ms'])}, inference {_spread(camera['inference_ms'])}"
        )
    ages = [camera["latency_ms"][1] / camera["inference_ms"][0] for camera in seen]
    return {
        "factor": sum(camera["offered_fps"] for camera in seen) / sum(rates),
        "age_inferences": statistics.median(ages),
        "worst_age_inferences": max(ages),
        "unfairness": max(rates) / min(rates),
        "uncounted": abs(lost),
    }


def live(model: Model, *, seconds: float, cameras: int = 4) -> Findings:
    """Live 1080p25 RTSP cameras, calibrated engine: frames a second in all, and cores."""
    with RtspServer(clips.endless(clips.crowd())) as server:
        settings = store(model.bundle, [server.url] * cameras, engine=None, workers=len(CORES))
        result = _live(settings, seconds)
    fps = sum(camera["fps"] for camera in result["cameras"].values())
    return {"fps": fps, "cores": result["cores"], "rss_mb": result["rss_mb"]}


def unplugged(model: Model, *, seconds: float) -> Findings:
    """Three cameras, one of which is pulled: by how much do the other two slow down?"""
    clip = clips.endless(clips.crowd())
    with RtspServer(clip) as healthy, RtspServer(clip) as doomed:
        settings = store(model.bundle, [healthy.url] * 2 + [doomed.url], engine=None, workers=len(CORES))
        whole = _live(settings, seconds)
        pulled = _live(settings, seconds, when_measuring=doomed.kill)
    before, after = (
        sum(result["cameras"][f"camera-{number}"]["fps"] for number in (1, 2)) for result in (whole, pulled)
    )
    state = pulled["end"]["camera-3"]["state"]
    if state != "offline":
        raise SystemExit(f"the pulled camera should be offline, it is {state}")
    return {"change": abs(after / before - 1)}


def outage(model: Model, *, outage_s: float) -> Findings:
    """The broker is away for minutes in the middle of a day: which events never reach a subscriber?"""
    with Broker() as broker, Ear(broker.port) as ear:
        sink = {"type": "mqtt", "host": "127.0.0.1", "port": broker.port}
        settings = store(
            model.bundle, [str(clips.small())] * 2, engine=None, workers=len(CORES),
            camera={"realtime": True, "loop": True}, sinks=[sink],
        )  # fmt: skip

        def pull() -> None:
            broker.stop()
            time.sleep(outage_s)
            broker.start()

        # Afterwards it may wait its longest pause before it tries again, then hands over what it kept.
        settle_s = MqttOptions("").retry_longest_s + 40
        result = _live(settings, outage_s + settle_s, when_measuring=pull)
        made = set(result["events"])
        ear.wait_for(made, timeout_s=60)
        return {"lost": len(made - ear.heard), "events": len(made)}


def _spread(milliseconds: list[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in milliseconds) + " ms (p50 / p95 / p99)"


def _live(
    settings: dict[str, Any], seconds: float, *, when_measuring: Callable[[], None] | None = None
) -> Result:
    """Run our agent for a while; call `when_measuring` once its measured section has begun."""
    row = Row("live", "ours.py", {"cores": CORES, "settings": settings, "warm_up_s": 8, "seconds": seconds})
    with _started(row) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "measuring\n":
            raise SystemExit(f"our agent did not start:\n{process.communicate()[1][-3000:]}")
        if when_measuring is not None:
            when_measuring()
        output, errors = process.communicate(timeout=seconds + 120)
    if process.returncode != 0:
        raise SystemExit(f"our agent ended with {process.returncode}:\n{errors[-3000:]}")
    result: Result = json.loads(output.strip().splitlines()[-1])
    return result


@contextmanager
def _started(row: Row) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(row), env=rivals.one_thread(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
