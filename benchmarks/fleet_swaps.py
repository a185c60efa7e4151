"""Requests during swaps: a hundred versions of the shipped detector take each other's place under load.

A real `Runtime`, asked by several threads without a pause; a version stands in its slot as an updater puts it
there. A request that fails, or is answered by nobody, is dropped.
"""

import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
from score import Score, console

from cloud_fallback.fleet.simulation.remodel import DETECTOR, make_version
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.frame import Picture
from edge_runtime.runtime.runtime import Runtime
from edge_runtime.update.record import Version
from edge_runtime.update.slots import Slots

STORE = """\
version: 1
site: bench
fleet: {folder: fleet}
models:
  people: {bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}
door: {port: 0}
"""
THREADS = 4
LEAVE_S = 30.0


def measure_swaps(score: Score, swaps: int) -> None:
    """Swap under load, and count what was asked, answered and dropped."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fleet").mkdir()
        store = folder / "store.yaml"
        store.write_text(STORE)
        slots = Slots(folder / "fleet" / "updates" / "slots", "model", DETECTOR)
        picture = _picture()
        answered: Counter[str] = Counter()
        dropped: list[str] = []
        over = threading.Event()
        with Runtime(store) as runtime:

            def ask() -> None:
                while not over.is_set():
                    try:
                        answered[runtime.predict("people", picture, timeout_s=60).version or "?"] += 1
                    except EdgeRuntimeError as error:
                        dropped.append(str(error))

            threads = [threading.Thread(target=ask) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            took_s = [_swap(runtime, slots, number) for number in range(1, swaps + 1)]
            over.set()
            for thread in threads:
                thread.join()
    console.print(
        f"{sum(answered.values())} requests answered by {len(answered)} versions during {swaps} swaps; "
        f"a swap takes {np.median(took_s):.2f} s until the old version has left",
        highlight=False,
    )
    if len(answered) < swaps // 2:
        raise SystemExit(f"only {len(answered)} versions answered: that was no load")
    for why in dropped[:5]:
        console.print(f"dropped: {why}", highlight=False)
    score.figure("swap_requests_answered", sum(answered.values()))
    score.at_most("swap_requests_dropped", len(dropped), 0)


def _swap(runtime: Runtime, slots: Slots, number: int) -> float:
    """Put a version in its slot and have it answer; gives the seconds until the old one has left."""
    sha256 = f"{number:064x}"
    make_version(slots.vacate(), f"2.{number}.0")
    slots.offer(Version(version=f"2.{number}.0", sha256=sha256, counter=number))
    slots.commit(sha256)
    left, began_s = threading.Event(), time.perf_counter()
    runtime.adopt("people", None, left.set)
    if not left.wait(LEAVE_S):
        raise SystemExit("the old version does not leave")
    return time.perf_counter() - began_s


def _picture() -> Picture:
    clip = Path(__file__).parent.parent / "edge_runtime" / "media" / "pedestrians.mp4"
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))
        return Picture.from_bgr(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
