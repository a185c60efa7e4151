"""`edge-runtime bench --tune`: find how a model and the decoder run best on this machine; write its profile.

Measures what the agent does: several inferences at the same time, and whole pictures decoded. Which way is
the best, `engines.tuning` decides. Changes no bundle and no settings.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from device_profiles.loader import load_profile
from edge_runtime.bundle import ModelBundle
from edge_runtime.cli.bench import open_runner
from edge_runtime.contract.device import Decoding, DeviceProfile, Tuned
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.machine import write_profile
from edge_runtime.engines.measure import Runner
from edge_runtime.engines.select import Choice
from edge_runtime.engines.tuning import ALIKE, Way, best, splits
from edge_runtime.local_model import choices_here, find_bundle, nothing_runs, this_device
from edge_runtime.settings import load_task
from edge_runtime.video.source import SourceSpec, VideoSource

TURNS = 3
"""Turns of each way, all ways one after the other: what is compared has to feel the same load."""

DECODED = 200
"""Pictures that each way to decode is measured with."""


@dataclass(frozen=True, slots=True)
class DecodeWay:
    """One way to decode, measured.

    Args:
        decoding: The options.
        cpu_ms: Processor time of a picture, all threads.
        per_second: Pictures a second.
    """

    decoding: Decoding
    cpu_ms: float
    per_second: float


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What was measured and chosen.

    Args:
        model: Name of the bundle.
        version: Its version.
        machine: The processor.
        ways: To run the model, the fastest first.
        chosen: Of them.
        decoders: Ways to decode; the first is chosen: of the cheapest ones that with the fewest threads.
        problems: Ways that do not run here, and why.
        profile: The file that was written.
    """

    model: str
    version: str
    machine: str
    ways: tuple[Way, ...]
    chosen: Way
    decoders: tuple[DecodeWay, ...]
    problems: tuple[str, ...]
    profile: Path


def tune(
    name: str, *, task: Path | None, engine: str | None, seconds: float, clip: Path | None, out: Path
) -> TuneReport:
    """Measure, choose, and write the profile.

    Args:
        name: As for `bench`.
        task: As for `bench`.
        engine: As for `bench`.
        seconds: How long each way is measured, about.
        clip: A recording like those of the cameras; None: the one that is shipped.
        out: The profile's file; one that is there already keeps all else that it says.

    Raises:
        EdgeRuntimeError: Nothing runs the model here, or a file cannot be read or written.
    """
    bundle = find_bundle(name, load_task(task) if task else None)
    profile = load_profile(out) if out.exists() else this_device("auto")
    ways, problems = _measure_ways(bundle, profile, engine, seconds)
    chosen = best(ways)
    decoders = _measure_decoders(clip or _shipped_clip(), profile)
    write_profile(_tuned(profile, bundle, chosen, decoders[0].decoding), out)
    manifest = bundle.manifest
    ordered = tuple(sorted(ways, key=lambda way: -way.per_second))
    return TuneReport(
        manifest.name, manifest.version, profile.cpu.name, ordered, chosen, decoders, problems, out
    )


def show(report: TuneReport, screen: Console) -> None:
    """Print what was measured for a person."""
    title = f"{report.model} {report.version} on {report.machine}"
    table = Table("", "variant", "engine", title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("threads", "at once", "runs/s", "CPU"):
        table.add_column(column, justify="right")
    for way in report.ways:
        table.add_row(
            "→" if way == report.chosen else "",
            way.choice.variant,
            f"{way.choice.engine} ({way.choice.provider})",
            str(way.threads),
            str(way.workers),
            f"{way.per_second:.1f}",
            f"{way.cpu_ms:.1f} ms",
        )
    screen.print(table)
    decoders = Table("", "decoder threads", "kind", box=None, pad_edge=False)
    for column in ("pictures/s", "CPU"):
        decoders.add_column(column, justify="right")
    for number, one in enumerate(report.decoders):
        options = one.decoding
        cells = (str(options.threads), options.thread_type, f"{one.per_second:.0f}", f"{one.cpu_ms:.2f} ms")
        decoders.add_row("→" if number == 0 else "", *cells)
    screen.print(decoders)
    for problem in report.problems:
        screen.print(f"Not measured: {problem}", markup=False, style="dim")
    screen.print(
        f"Written to {report.profile}; in store.yaml: [bold]profile: {report.profile}[/]", soft_wrap=True
    )


def _measure_ways(
    bundle: ModelBundle, profile: DeviceProfile, engine: str | None, seconds: float
) -> tuple[list[Way], tuple[str, ...]]:
    choices = choices_here(bundle, profile.model_copy(update={"tuned": ()}), engine)
    opened: list[tuple[Choice, int, int, Runner]] = []
    problems: list[str] = []
    try:
        for choice in choices:
            for threads, workers in splits(profile.cpu.threads) if choice.usable else ():
                options = EngineOptions(threads=threads, callers=workers)
                try:
                    opened.append((choice, threads, workers, open_runner(bundle, choice, options)))
                except EdgeRuntimeError as error:
                    problems.append(f"{choice.variant} {choice.engine}: {error}")
                    break
            if not choice.usable:
                problems.append(f"{choice.variant} {choice.engine}: {choice.why}")
        if not opened:
            raise nothing_runs(bundle, choices)
        took = [
            [_turn(runner, workers, seconds / TURNS) for _, _, workers, runner in opened]
            for _ in range(TURNS)
        ]
    finally:
        for *_, runner in opened:
            runner.session.close()
    ways = [
        Way(choice, threads, workers, *_middle([turn[at] for turn in took]))
        for at, (choice, threads, workers, _) in enumerate(opened)
    ]
    return ways, tuple(problems)


def _turn(runner: Runner, workers: int, seconds: float) -> tuple[float, float]:
    """Run as the agent does; give inferences a second, and processor milliseconds of one."""
    until = time.perf_counter() + seconds
    began, cpu = time.perf_counter(), time.process_time()

    def work(_: int) -> int:
        count = 0
        while count == 0 or time.perf_counter() < until:
            runner.session.run(runner.tensors)
            count += 1
        return count

    with ThreadPoolExecutor(workers) as pool:
        count = sum(pool.map(work, range(workers)))
    return count / (time.perf_counter() - began), (time.process_time() - cpu) * 1e3 / count


def _middle(turns: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The turn in the middle by speed: a slow moment of the machine is nobody's."""
    return sorted(turns)[len(turns) // 2]


def _measure_decoders(clip: Path, profile: DeviceProfile) -> tuple[DecodeWay, ...]:
    cores = psutil.cpu_count() or 1
    offered = [
        profile.decoding.model_copy(update={"threads": threads, "thread_type": kind})
        for threads, kind in ((1, "slice"), (2, "slice"), (2, "frame"), (4, "frame"))
        if threads <= cores
    ]
    took = [[_decode(clip, decoding) for decoding in offered] for _ in range(TURNS)]
    ways = [
        DecodeWay(decoding, *reversed(_middle([turn[at] for turn in took])))
        for at, decoding in enumerate(offered)
    ]
    # Each thread keeps pictures of its own: more of them have to pay.
    cheap = min(way.cpu_ms for way in ways) / ALIKE
    return tuple(sorted(ways, key=lambda way: (way.cpu_ms > cheap, way.decoding.threads, way.cpu_ms)))


def _decode(clip: Path, decoding: Decoding) -> tuple[float, float]:
    source = VideoSource(SourceSpec("tune", str(clip), decoding=decoding))
    try:
        began, cpu, count = time.perf_counter(), time.process_time(), 0
        for count, _ in enumerate(source.frames(), start=1):
            if count == DECODED:
                break
        took = time.perf_counter() - began
        return count / took, (time.process_time() - cpu) * 1e3 / max(count, 1)
    finally:
        source.close()


def _tuned(profile: DeviceProfile, bundle: ModelBundle, way: Way, decoding: Decoding) -> DeviceProfile:
    manifest = bundle.manifest
    entry = Tuned(
        bundle=manifest.name,
        version=manifest.version,
        variant=way.choice.variant,
        engine=way.choice.engine,
        provider=way.choice.provider,
        threads=way.threads,
        workers=way.workers,
        per_second=round(way.per_second, 2),
        cpu_ms=round(way.cpu_ms, 3),
        measured=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    others = [one for one in profile.tuned if one.bundle != entry.bundle]
    return profile.model_copy(update={"tuned": (*others, entry), "decoding": decoding})


def _shipped_clip() -> Path:
    return Path(str(files("edge_runtime").joinpath("media/pedestrians.mp4")))
