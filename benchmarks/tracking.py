"""Our tracker against ByteTrack and others on the same detections: quality and time.

    .venv/bin/python benchmarks/tracking.py            # a table
    .venv/bin/python benchmarks/tracking.py --json     # and, last, one line with the goals

The rivals are installed into their own environment under `.cache/bench` on first use, and the whole
comparison runs in it, frame by frame in turn, so that all see the same machine. The crowds are synthetic and
seeded: people who walk, stop, turn, meet and hide each other before a camera that looks down on them, seen by
a detector that misses, jitters, cuts off what is hidden and invents; at several rates, with frames missing.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from crowds import CROWDS, Crowd, Look, ious, looks

REPO = Path(__file__).resolve().parent.parent
VENV = REPO / ".cache" / "bench" / "tracking-venv"
RIVALS = ("supervision==0.26.1", "trackers==2.6.1")
HIGH, LOW, BIRTH = 0.4, 0.1, 0.5
PATIENCE_S = 2.0


# --- measures -----------------------------------------------------------------------------------------------


class Tally:
    """MOTA and switches (Bernardin and Stiefelhagen 2008), IDF1 (Ristani et al. 2016), at IoU 0.5."""

    def __init__(self) -> None:
        self.truths = self.found = self.missed = self.invented = self.switches = 0
        self.last: dict[int, int] = {}
        self.together: dict[tuple[int, int], int] = {}

    def add(self, ids: np.ndarray, truth: np.ndarray, track_ids: np.ndarray, boxes: np.ndarray) -> None:
        from scipy.optimize import linear_sum_assignment

        self.truths += len(ids)
        self.found += len(track_ids)
        iou = ious(truth, boxes)
        near = iou >= 0.5
        kept = np.array([[self.last.get(int(i)) == int(t) for t in track_ids] for i in ids]).reshape(
            iou.shape
        )
        rows, columns = linear_sum_assignment(-(near * (iou + 1e3 + 1e6 * kept)))
        pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if near[r, c]]
        self.missed += len(ids) - len(pairs)
        self.invented += len(track_ids) - len(pairs)
        for r, c in pairs:
            who, track = int(ids[r]), int(track_ids[c])
            self.switches += self.last.get(who, track) != track
            self.last[who] = track
        for r, c in zip(*np.nonzero(near), strict=True):
            pair = (int(ids[r]), int(track_ids[c]))
            self.together[pair] = self.together.get(pair, 0) + 1

    @property
    def mota(self) -> float:
        return 1 - (self.missed + self.invented + self.switches) / max(self.truths, 1)

    @property
    def idf1(self) -> float:
        from scipy.optimize import linear_sum_assignment

        people = {p: i for i, p in enumerate(sorted({p for p, _ in self.together}))}
        tracks = {t: i for i, t in enumerate(sorted({t for _, t in self.together}))}
        table = np.zeros((len(people), len(tracks)))
        for (person, track), frames in self.together.items():
            table[people[person], tracks[track]] = frames
        return 2 * table[linear_sum_assignment(-table)].sum() / max(self.truths + self.found, 1)


# --- trackers: each is made for a rate and answers a look with (ids, boxes) ---------------------------------

Answer = tuple[np.ndarray, np.ndarray]
Step = Callable[[Look], Answer]


def ours(fps: float) -> Step:
    from edge_runtime.analytics.tracker import Tracker, TrackerOptions
    from edge_runtime.contract.result import Detections

    tracker = Tracker(
        TrackerOptions(high_score=HIGH, low_score=LOW, birth_margin=BIRTH - HIGH, max_lost_s=PATIENCE_S)
    )

    def step(look: Look) -> Answer:
        classes = np.zeros(len(look.scores), np.int32)
        tracks = tracker.update(Detections(look.boxes, look.scores, classes, ("person",)), look.pts_ns)
        return tracks.ids, tracks.boxes

    return step


def supervision_bytetrack(frames: int) -> Callable[[float], Step]:
    def make(fps: float) -> Step:
        import supervision as sv

        tracker = sv.ByteTrack(
            track_activation_threshold=HIGH,  # births need 0.1 more
            lost_track_buffer=round(30 * PATIENCE_S),
            frame_rate=round(fps),
            minimum_consecutive_frames=frames,
        )

        def step(look: Look) -> Answer:
            seen = sv.Detections(look.boxes, confidence=look.scores, class_id=np.zeros(len(look.scores), int))
            tracks = tracker.update_with_detections(seen)
            return tracks.tracker_id, tracks.xyxy

        return step

    return make


def from_trackers(name: str, **options: object) -> Callable[[float], Step]:
    def make(fps: float) -> Step:
        import supervision as sv
        import trackers

        tracker = getattr(trackers, name)(lost_track_buffer=round(30 * PATIENCE_S), frame_rate=fps, **options)

        def step(look: Look) -> Answer:
            tracks = tracker.update(
                sv.Detections(look.boxes, confidence=look.scores, class_id=np.zeros(len(look.scores), int))
            )
            known = tracks.tracker_id >= 0
            return tracks.tracker_id[known], tracks.xyxy[known]

        return step

    return make


TRACKERS: dict[str, Callable[[float], Step]] = {
    "ours": ours,
    "ByteTrack, supervision": supervision_bytetrack(1),
    "ByteTrack, supervision, 3 frames": supervision_bytetrack(3),
    "ByteTrack, trackers": from_trackers(
        "ByteTrackTracker", track_activation_threshold=BIRTH, high_conf_det_threshold=HIGH
    ),
    "SORT, trackers": from_trackers("SORTTracker", track_activation_threshold=HIGH),
    "OC-SORT, trackers": from_trackers("OCSORTTracker", high_conf_det_threshold=HIGH),
}
BYTETRACKS = tuple(name for name in TRACKERS if name.startswith("ByteTrack"))


# --- the comparison -----------------------------------------------------------------------------------------


def quality(crowds: tuple[Crowd, ...], seeds: range) -> dict[str, dict[str, float]]:
    tallies: dict[str, list[Tally]] = {name: [] for name in TRACKERS}
    for crowd, seed in itertools.product(crowds, seeds):
        steps = {name: make(crowd.fps) for name, make in TRACKERS.items()}
        fresh = {name: Tally() for name in TRACKERS}
        for look in looks(crowd, seed):
            for name, step in steps.items():
                fresh[name].add(look.ids, look.truth, *step(look))
        for name, tally in fresh.items():
            tallies[name].append(tally)
        scores = ", ".join(f"{name} {t.idf1:.3f}/{t.mota:.3f}/{t.switches}" for name, t in fresh.items())
        print(f"{crowd}: IDF1/MOTA/switches: {scores}", file=sys.stderr, flush=True)
    return {
        name: {
            "idf1": statistics.fmean(t.idf1 for t in all_of),
            "mota": statistics.fmean(t.mota for t in all_of),
            "switches": sum(t.switches for t in all_of),
        }
        for name, all_of in tallies.items()
    }


def pace(frames: int) -> dict[str, float]:
    """Median milliseconds a frame with 50 people, all trackers in turn on the same frames."""
    crowd = Crowd(people=50, fps=25, weak=False, seconds=frames / 25)
    steps = {name: make(crowd.fps) for name, make in TRACKERS.items()}
    spent: dict[str, list[float]] = {name: [] for name in TRACKERS}
    for look in looks(crowd, seed=0):
        for name, step in steps.items():
            begin = time.perf_counter()
            step(look)
            spent[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(times[20:]) for name, times in spent.items()}


def report(quick: bool, as_json: bool, seed: int) -> bool:
    """Measure, print, and tell whether every goal was reached."""
    crowds = CROWDS[::3] if quick else CROWDS
    measured = quality(crowds, range(seed, seed + (1 if quick else 2)))
    times = pace(200 if quick else 600)
    for name, row in measured.items():
        print(
            f"{name:34} IDF1 {row['idf1']:.4f}  MOTA {row['mota']:.4f}  switches {row['switches']:5.0f}"
            f"  {times[name]:.3f} ms a frame at 50"
        )
    mine = measured["ours"]
    rivals = [measured[name] for name in BYTETRACKS]
    ratios = {
        "idf1_over_bytetrack": (mine["idf1"] / max(r["idf1"] for r in rivals), 1.0, True),
        "mota_over_bytetrack": (mine["mota"] / max(r["mota"] for r in rivals), 1.0, True),
        "id_switches_over_bytetrack": (mine["switches"] / min(r["switches"] for r in rivals), 1.0, False),
        "ms_per_frame_at_50": (times["ours"], 0.3, False),
    }
    goals = {
        name: {"value": round(value, 4), "goal": goal, "ok": value >= goal if more else value <= goal}
        for name, (value, goal, more) in ratios.items()
    }
    for name, goal in goals.items():
        print(f"{'reached' if goal['ok'] else 'MISSED '} {name} {goal['value']} (goal {goal['goal']})")
    if as_json:
        print(json.dumps({"goals": goals}))
    return all(goal["ok"] for goal in goals.values())


def rivals_python() -> Path:
    """The environment of the rivals, made on first use."""
    python, done = VENV / "bin" / "python", VENV / "installed"
    wanted = "\n".join(RIVALS)
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {', '.join(RIVALS)} into {VENV}", file=sys.stderr)
        venv.create(VENV, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *RIVALS], check=True)
        done.write_text(wanted)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description="Our tracker against ByteTrack on the same detections.")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: the goals")
    parser.add_argument("--quick", action="store_true", help="a third of the crowds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if os.environ.get("EDGE_RUNTIME_BENCH_INSIDE"):
        sys.exit(0 if report(options.quick, options.json, options.seed) else 1)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    inside = {**os.environ, **one_thread, "PYTHONPATH": str(REPO), "EDGE_RUNTIME_BENCH_INSIDE": "1"}
    command = [rivals_python(), __file__, *sys.argv[1:]]
    raise SystemExit(subprocess.run(command, env=inside, check=False).returncode)


if __name__ == "__main__":
    main()
