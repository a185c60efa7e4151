"""How much of a model's own speed `edge-runtime score` keeps: rows a second against a bare loop of runs.

Run: .venv/bin/python benchmarks/batch.py [--json]. In turns, so that a busy machine slows all alike.
"""

import argparse
import json
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import av
import cv2
from score import Score

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.local_model import find_bundle, open_model, this_device
from edge_runtime.scoring.inputs import Kind, Source
from edge_runtime.scoring.job import Job, run
from edge_runtime.scoring.local import answered
from edge_runtime.scoring.model import Asked, Scorer, usual_workers
from edge_runtime.scoring.pictures import Item

CLIP = Path(__file__).parents[1] / "edge_runtime/media/pedestrians.mp4"
MODEL = "efficientdet-lite0"
PICTURES = 40
TURNS = {"bare": 20, "decoded": 20, "files": 6, "clip": 2}
"""Of each way: the two that are compared by a goal in short turns, many of them."""


class Bench:
    """The same work four ways; each gives how many rows it made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers = usual_workers()
        store = folder / "pictures"
        store.mkdir()
        self.items: list[Item] = []
        with av.open(str(CLIP)) as container:
            for number, frame in zip(range(PICTURES), container.decode(video=0), strict=False):
                image = frame.to_ndarray(format="bgr24")
                path = store / f"{number:04d}.jpg"
                cv2.imwrite(str(path), image)
                self.items.append(
                    Item(Source(path.name, path, Kind.PICTURE, 0, 0), 0, Picture.from_bgr(image))
                )
        self.scorer = Scorer(Asked(MODEL, workers=self.workers))
        self.model = open_model(find_bundle(MODEL), this_device("auto"), EngineOptions(callers=self.workers))
        tensors, _ = self.model.predictor.task.preprocess(Picture.from_bgr(image))
        self.tensors: Tensors = {name: array.copy() for name, array in tensors.items()}
        self.model.predictor.warm_up()

    def bare(self) -> int:
        """Threads that run the session on one tensor and throw away what it says."""

        def loop() -> None:
            for _ in range(PICTURES // self.workers):
                self.model.session.run(self.tensors)

        threads = [threading.Thread(target=loop) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return PICTURES // self.workers * self.workers

    def decoded(self) -> int:
        """Pictures that are decoded already, to rows."""
        return sum(len(some) for some in answered(self.scorer, iter(self.items), self.workers))

    def files(self) -> int:
        """A folder of JPEGs to Parquet in its place, the model's opening included."""
        return self._job(self.folder / "pictures")

    def clip(self) -> int:
        """The shipped clip, tracked, to Parquet in its place, the model's opening included."""
        return self._job(CLIP, track=True)

    def _job(self, path: Path, *, track: bool = False) -> int:
        asked = Asked(MODEL, workers=self.workers, track=track)
        job = Job(path, asked, self.folder / f"out-{path.stem}", restart=True)
        return run(job, stop=lambda: False, told=lambda _: None).new_rows


def measure(folder: Path, score: Score) -> None:
    bench = Bench(folder)
    ways = {"bare": bench.bare, "decoded": bench.decoded, "files": bench.files, "clip": bench.clip}
    wall_s: dict[str, list[float]] = {name: [] for name in ways}
    cpu_s: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1 + max(TURNS.values())):
        for name, way in ways.items():
            if turn > TURNS[name]:
                continue
            began, began_cpu = time.perf_counter(), time.process_time()
            rows = way()
            if turn or name == "clip":  # the first turn warms up, and so long a one is warm soon
                wall_s[name].append((time.perf_counter() - began) / rows)
                cpu_s[name].append((time.process_time() - began_cpu) / rows)
    score.figure("threads that run the model", bench.workers)
    for name in ways:
        score.figure(f"{name}: rows/s", 1 / median(wall_s[name]))
        score.figure(f"{name}: CPU ms a row", median(cpu_s[name]) * 1e3)
    rates = [bare / mine for bare, mine in zip(wall_s["bare"], wall_s["decoded"], strict=True)]
    score.at_least("decoded pictures, of a bare session's rate", median(rates), 0.85)
    cpu = median(cpu_s["bare"]) / median(cpu_s["decoded"])
    score.figure("decoded pictures, of a bare session's rate by CPU time", cpu)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document as the last line")
    asked, score = parser.parse_args(), Score()
    with TemporaryDirectory() as folder:
        measure(Path(folder), score)
    if asked.json:
        print(json.dumps({"goals": score.goals, "figures": score.figures}))
    return int(any(not goal["ok"] for goal in score.goals.values()))


if __name__ == "__main__":
    raise SystemExit(main())
