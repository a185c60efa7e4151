"""Running one runner in its own process, and many of them in turns. Knows no goal."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import clips
import rivals
from clips import HERE
from model import Model
from stores import store

CORES = sorted(os.sched_getaffinity(0))
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One runner on one task.

    Args:
        name: In tables and goals.
        runner: A file of `runners/`.
        python: Which environment's; None: ours.
        asked: What the runner is told.
    """

    name: str
    runner: str
    asked: Mapping[str, Any]
    python: Path | None = None


def run(row: Row, *, patience_s: float = 600.0) -> Result:
    """Run a row once and give what its last line says."""
    done = subprocess.run(
        command(row),
        env=rivals.as_installed() if row.asked.get("as_installed") else rivals.one_thread(),
        capture_output=True,
        text=True,
        check=False,
        timeout=patience_s,
    )
    if done.returncode != 0 or not done.stdout.strip():
        raise SystemExit(f"{row.name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: Result = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def command(row: Row) -> tuple[str, str, str]:
    """The command line of a row."""
    python = str(row.python or sys.executable)
    return python, str(HERE / "runners" / row.runner), json.dumps(row.asked)


@dataclass(slots=True)
class Turns:
    """What rows said, round by round: a noisy minute of the machine is everybody's."""

    results: dict[str, list[Result]] = field(default_factory=dict)

    def take(self, rows: Sequence[Row], rounds: int, tell: Callable[[str], None]) -> None:
        """Run every row once a round, in turn."""
        for number in range(1, rounds + 1):
            for row in rows:
                result = run(row)
                self.results.setdefault(row.name, []).append(result)
                tell(f"round {number}/{rounds}  {row.name}: {result['cpu_ms']:.2f} ms/frame")

    def median(self, name: str, key: str) -> float:
        """The median of a figure over the rounds."""
        return statistics.median(result[key] for result in self.results[name])

    def ratio(self, name: str, of: str) -> float:
        """CPU per frame of one row over another's: the median of the rounds' own ratios."""
        pairs: Iterable[tuple[Result, Result]] = zip(self.results[name], self.results[of], strict=True)
        return statistics.median(mine["cpu_ms"] / theirs["cpu_ms"] for mine, theirs in pairs)


def pipelines(model: Model, clip: Path, *, frames: int, cameras: int = 1) -> dict[str, Row]:
    """Everybody over the same recording with the same weights, one thread a library.

    Args:
        model: The weights in each runner's best, and in the usual, form.
        clip: The recording; long enough for warm-up, measurement and what is decoded ahead.
        frames: Measured in all, over all cameras.
        cameras: How many read the recording at the same time. One has one core, more have all.
    """
    cores = CORES[-1:] if cameras == 1 else CORES
    section = {"cores": cores, "warm_up": 60 * cameras, "frames": frames * cameras}
    told = section | {"clip": str(clip), "cameras": cameras, "size": model.size}
    ours = [str(clip)] * cameras
    rival = rivals.ultralytics()

    def of_ours(name: str, engine: str | None) -> Row:
        settings = store(model.bundle, ours, engine=engine, workers=len(cores))
        return Row(name, "ours.py", section | {"settings": settings})

    rows = (
        Row("limit", "limit.py", told | {"model": str(model.rectangle), "decoding": decoding(model)}),
        of_ours("ours", "onnxruntime"),
        of_ours("ours calibrated", None),
        Row("ultralytics best", "ultralytics_track.py", told | {"model": str(model.dynamic)}, rival),
        Row("ultralytics square", "ultralytics_track.py", told | {"model": str(model.square)}, rival),
        Row("roboflow", "roboflow_pipeline.py", told | {"model": str(model.square)}, rivals.roboflow()),
        Row("naive opencv", "opencv_naive.py", told | {"model": str(model.square)}),
    )
    return {row.name: row for row in rows}


def as_installed(model: Model, clip: Path, *, frames: int) -> dict[str, Row]:
    """Ours, and the rivals with the threads they start by themselves; one camera, all cores for everybody."""
    rows = pipelines(model, clip, frames=frames)
    names = ("ours", "ours calibrated", "ultralytics best", "ultralytics square", "roboflow")
    changed = {"cores": CORES, "as_installed": True}
    return {name: replace(rows[name], asked={**rows[name].asked, **changed}) for name in names}


def decoding(model: Model) -> dict[str, Any]:
    """The decoder options ours runs with here, for the limit."""
    from edge_runtime.local_model import this_device
    from edge_runtime.video.source import skipped_filter

    chosen = this_device("auto").decoding
    return {
        "thread_type": chosen.thread_type,
        "threads": chosen.threads,
        "skip_loop_filter": skipped_filter(chosen, clips.WIDTH, model.size),
    }
