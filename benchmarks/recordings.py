"""What clips cost: CPU per frame of reading and decoding, without and with the ring, and with a clip.

    .venv/bin/python benchmarks/recordings.py                    # the shipped recording; a minute; a table
    .venv/bin/python benchmarks/recordings.py --film F --json    # another one; last, one line

All variants in turn within each round; a figure is the median over the rounds, a difference is taken within a
round. Times are of the whole process, the sink's thread included; no model runs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for tests.simulators

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.frame import Frame
from edge_runtime.contract.result import Detections, Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.sinks.clip_take import ClipSource
from edge_runtime.sinks.clips import ClipOptions, ClipSink
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf
from edge_runtime.video.clock import Stamp, StreamClock
from edge_runtime.video.source import SourceSpec, VideoSource
from edge_runtime.video.tape import Budget, StreamTape
from edge_runtime.video.tapping import Tapping
from tests.simulators.player import crossed

VARIANTS = ("no clips", "ring", "ring, a clip going on", "ring, a blurred clip going on")
LONG_S = 100_000.0
TWO_PEOPLE = np.array([[100, 100, 160, 280], [400, 200, 460, 380]], np.float32)
LABELS = ("person",)


def read(film: Path, tape: StreamTape | None, sink: ClipSink | None, *, order: bool) -> tuple[int, int]:
    """Read and decode a film; give its frames and the most bytes that the tape kept."""
    source = VideoSource(SourceSpec("door", str(film)), tape)
    clock = StreamClock(live=False, period_ns=source.period_ns)
    nobody, nothing = Tracks.empty(LABELS), Detections.empty(LABELS)
    frames = most = 0
    for decoded in source.frames():
        if decoded.picture is None:
            continue
        stamp = clock.stamp(decoded.source_ns, arrived_ns=0, wall_ns=0)
        if tape is not None and decoded.source_ns is not None:
            tape.stamped(decoded.source_ns, stamp)
            tape.moved()
            most = max(most, tape.bytes)
        if sink is not None:
            frame = Frame("door", frames, stamp.pts_ns, stamp.time_ns, 0, decoded.picture)
            sink.show(Scene(frame, nobody, {}, {}, found=nothing, hidden=TWO_PEOPLE))
            if order and frames == 0:
                sink.write([crossed(1, 0)])
        frames += 1
    source.close()
    return frames, most


def measure(variant: str, film: Path, folder: Path) -> tuple[float, int]:
    """Give milliseconds of CPU a frame, and the most bytes that the ring had."""
    blur = Blur.PERSONS if "blurred" in variant else Blur.NOTHING
    tape = sink = None
    began = time.process_time()
    if variant != "no clips":
        tape = StreamTape(15, Budget(10**9))
        options = ClipOptions(frozenset({"line_crossed"}), 0, LONG_S, LONG_S, blur)
        sink = ClipSink(Shelf(folder, ".mp4", Limits(10**10), reserve_bytes=0), options)
        sink.watch({"door": ClipSource(tape)})
    frames, most = read(film, tape, sink, order="clip" in variant)
    if sink is not None and "clip" in variant and tape is not None:
        tape.reset()  # ends the clip
        while sink.status().waiting:
            time.sleep(0.05)
    if sink is not None:
        sink.close()
    return (time.process_time() - began) * 1000 / frames, most


def alone(film: Path) -> float:
    """Give microseconds of CPU that a packet costs the reading thread, from FFmpeg's buffer into the ring."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        tape = StreamTape(15, Budget(10**9))
        tapping = Tapping(tape, stream, timed=True, period_ns=40_000_000)
        packets = [packet for packet in container.demux(stream) if packet.size]
        began = time.thread_time_ns()
        for number, packet in enumerate(packets):
            for kept in tapping.take(packet):
                tape.stamped(kept.pts_ns, Stamp(number, number))
                tape.moved()
        return (time.thread_time_ns() - began) / 1000 / len(packets)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shipped = Path(__file__).resolve().parent.parent / "edge_runtime/media/pedestrians.mp4"
    parser.add_argument("--film", type=Path, default=shipped, help="what is read")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="last, one line")
    asked = parser.parse_args()
    rounds: list[dict[str, float]] = []
    most = 0
    for number in range(asked.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            figures: dict[str, float] = {}
            for variant in VARIANTS:
                figures[variant], ring = measure(variant, asked.film, Path(folder) / variant)
                most = max(most, ring)
        if number:  # the first round warms up
            rounds.append(figures)
    table = Table("variant", "CPU ms a frame", "more than without", title=asked.film.name)
    result = {}
    for variant in VARIANTS:
        figure = statistics.median(figures[variant] for figures in rounds)
        more = statistics.median(figures[variant] - figures["no clips"] for figures in rounds)
        result[variant] = {"ms": round(figure, 4), "more_ms": round(more, 4)}
        table.add_row(variant, f"{figure:.3f}", f"{more:+.3f}")
    ring_us = statistics.median(alone(asked.film) for _ in range(asked.rounds))
    Console().print(
        table, f"the ring of 15 s held {most / 1e6:.2f} MB at most; alone, {ring_us:.1f} µs a packet"
    )
    if asked.json:
        print(
            json.dumps({"film": asked.film.name, "ring_bytes": most, "ring_us": round(ring_us, 2), **result})
        )


main()
