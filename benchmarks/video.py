"""Our whole video pipeline against its limit and its rivals, and against its goals.

    .venv/bin/python benchmarks/video.py                  # everything: about an hour and a half on two cores
    .venv/bin/python benchmarks/video.py --quick --json   # less of it; last, one line with the goals
    .venv/bin/python benchmarks/video.py --only motion    # one part, again and again while working on it

Method and fairness: docs/benchmarks.md. The first use makes the rivals' environments, the clips and the model
under `.cache/bench` (half an hour). Times on a machine that does something else as well mean little; ratios
are taken within each round, all runners in turn.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for tests.simulators

import clips
import scenarios
from model import POINT, Model, filtered_ap50, models
from rich.table import Table
from rows import Turns, as_installed, pipelines
from score import Score, console

GOAL_SIZE = 320
"""The input size the goals are about, as a CPU store runs it; everything else measured at 640 is a figure."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long everything is done."""

    rounds: int
    frames: int
    live_s: float
    outage_s: float


Part = Callable[[dict[int, Model], Effort, Score], None]


def tell(line: str) -> None:
    console.print(line, style="dim", highlight=False, soft_wrap=True)


def cpu(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """CPU per frame, one 1080p camera on one core, everybody."""
    goals = (
        ("ours", "limit", 1.15),
        ("ours", "ultralytics best", 0.85),
        ("ours", "ultralytics square", 0.60),
        ("ours", "roboflow", 0.45),
        ("ours calibrated", "ultralytics best", 0.55),
    )
    for size, model in made.items():
        turns = Turns()
        rows = pipelines(model, clips.crowd(), frames=effort.frames)
        turns.take(tuple(rows.values()), effort.rounds, tell)
        show(f"One 1080p camera at {size}, one core", turns, tuple(rows))
        for name in rows:
            score.figure(f"{name}, {size}, CPU ms", turns.median(name, "cpu_ms"))
            score.figure(f"{name}, {size}, fps", turns.median(name, "fps"))
        for mine, theirs, goal in goals:
            ratio = turns.ratio(mine, theirs)
            if size == GOAL_SIZE:
                score.at_most(f"{mine} / {theirs}", ratio, goal)
            else:
                score.figure(f"{mine} / {theirs}, {size}", ratio)


def installed(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """CPU per frame with the threads a rival starts when nobody tells it otherwise; figures, no goals."""
    turns = Turns()
    rows = as_installed(made[GOAL_SIZE], clips.crowd(), frames=effort.frames)
    turns.take(tuple(rows.values()), effort.rounds, tell)
    for theirs in ("ultralytics best", "ultralytics square", "roboflow"):
        for mine in ("ours", "ours calibrated"):
            score.figure(f"{mine} / {theirs} as installed", turns.ratio(mine, theirs))


def accuracy(made: dict[int, Model], _: Effort, score: Score) -> None:
    """What the calibrated choice loses of AP50 against fp32."""
    for size, model in made.items():
        receipts = json.loads((model.bundle / "receipts.json").read_text())
        chosen = json.loads((model.bundle / "bundle.json").read_text())["receipts"]
        fastest = min(chosen, key=lambda receipt: receipt["latency"]["p50_ms"])
        tell(f"calibrated at {size}: {fastest['variant']} on {fastest['engine']}")
        lost = receipts[0]["accuracy"]["ap50"] - fastest["accuracy"]["ap50"]
        score.at_most(f"calibrated accuracy lost, {size}", max(lost, 0.0), POINT)
        kept, skipped = (filtered_ap50(model, skip) for skip in ("none", "all"))
        score.figure(f"AP50 of a recording, {size}", kept)
        lost = max(kept - skipped, 0.0)
        if size == GOAL_SIZE:
            score.at_most("accuracy lost without the loop filter", lost, POINT)
        else:  # there it is not skipped, and this is why
            score.figure(f"accuracy lost without the loop filter, {size}", lost)


def cameras(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """CPU per frame and frames a second with 2, 4 and 8 cameras on all cores; figures, no goals."""
    names = ("limit", "ours", "ours calibrated", "ultralytics best", "roboflow")
    for count in (2, 4, 8):
        turns = Turns()
        rows = pipelines(
            made[GOAL_SIZE], clips.crowd(), frames=max(effort.frames // count, 40), cameras=count
        )
        turns.take([rows[name] for name in names], max(1, effort.rounds // 2), tell)
        show(f"{count} 1080p cameras at 320, all cores", turns, names)
        for name in names:
            score.figure(f"{name}, {count} cameras, CPU ms", turns.median(name, "cpu_ms"))
            score.figure(f"{name}, {count} cameras, fps", turns.median(name, "fps"))


def motion(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """An empty street with the motion gate."""
    for size, model in made.items():
        found = scenarios.motion(model, rounds=effort.rounds, frames=effort.frames, tell=tell)
        if size == GOAL_SIZE:
            score.at_most("motion gate / ungated", found["ratio"], 0.15)
        else:
            score.figure(f"motion gate / ungated, {size}", found["ratio"])


def memory(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """Resident memory."""
    found = scenarios.memory(made[GOAL_SIZE], frames=max(effort.frames // 4, 30))
    score.at_most("memory of one camera, MB", found["one_mb"], 200)
    score.at_most("memory of each further camera, MB", found["further_mb"], 40)


def latency(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """End-to-end latency, unsaturated."""
    found = scenarios.latency(made[GOAL_SIZE], seconds=effort.live_s, tell=tell)
    score.at_most("latency p99, inference times", found["p99_inferences"], 2.0)


def overload(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """More frames than the capacity."""
    found = scenarios.overload(made[640], seconds=effort.live_s, tell=tell)
    tell(f"{found['factor']:.1f} times more frames than were inferred")
    score.at_least("overload, offered / inferred", found["factor"], 3.0)
    score.at_most("overload, age p95, inference times", found["age_inferences"], 2.0)
    score.figure("overload, age p95 of the worst camera, inference times", found["worst_age_inferences"])
    score.at_most("overload, most / least served camera", found["unfairness"], 1.1)
    score.at_most("overload, frames not accounted for", found["uncounted"], 0)


def live(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """Four live RTSP cameras."""
    found = scenarios.live(made[GOAL_SIZE], seconds=effort.live_s)
    tell(f"{found['rss_mb']:.0f} MB")
    score.at_least("live, fps of 100", found["fps"], 98)
    score.at_most("live, cores", found["cores"], 1.0)


def unplugged(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """One of three cameras is pulled."""
    found = scenarios.unplugged(made[GOAL_SIZE], seconds=effort.live_s)
    score.at_most("unplugged, change of the others' fps", found["change"], 0.01)


def outage(made: dict[int, Model], effort: Effort, score: Score) -> None:
    """The broker is away."""
    found = scenarios.outage(made[GOAL_SIZE], outage_s=effort.outage_s)
    tell(f"{found['events']:.0f} events around {effort.outage_s:g} s without a broker")
    if not found["events"]:
        raise SystemExit("no event was made: the outage shows nothing")
    score.at_most("outage, events lost", found["lost"], 0)


PARTS: dict[str, Part] = {
    "cpu": cpu,
    "installed": installed,
    "accuracy": accuracy,
    "cameras": cameras,
    "motion": motion,
    "memory": memory,
    "latency": latency,
    "overload": overload,
    "live": live,
    "unplugged": unplugged,
    "outage": outage,
}


def show(title: str, turns: Turns, names: tuple[str, ...]) -> None:
    """Print a table of medians."""
    table = Table("runner", "CPU ms/frame", "of the limit", "spread", "fps", "RSS MB", title=title)
    for name in names:
        costs = [result["cpu_ms"] for result in turns.results[name]]
        table.add_row(
            name,
            f"{statistics.median(costs):.1f}",
            f"{turns.ratio(name, 'limit'):.2f}",
            f"{min(costs):.1f}–{max(costs):.1f}",
            f"{turns.median(name, 'fps'):.0f}",
            f"{turns.median(name, 'rss_mb'):.0f}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: the goals")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, help="default: 5, quick: 2")
    parser.add_argument("--outage-s", type=float, help="default: 600, quick: 15")
    given = parser.parse_args()
    usual = Effort(2, 120, 15, 15) if given.quick else Effort(5, 300, 40, 600)
    effort = Effort(
        given.rounds or usual.rounds,
        usual.frames,
        usual.live_s,
        usual.outage_s if given.outage_s is None else given.outage_s,
    )
    made, score = models(), Score()
    for name in given.only or PARTS:
        PARTS[name](made, effort, score)
    if given.json:
        print(json.dumps({"goals": score.goals, "figures": score.figures}))
    sys.exit(0 if all(goal["ok"] for goal in score.goals.values()) else 1)


if __name__ == "__main__":
    main()
