"""`edge-runtime bench`: what a model costs on this machine with every engine that can run it, in turns.

Turns, because a machine's clock and load drift: what is compared has to be measured at the same time.
"""

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.select import Choice
from edge_runtime.local_model import choices_here, find_bundle, nothing_runs, open_choice, this_device
from edge_runtime.settings import load_task
from edge_runtime.tasks.make import make_task

WARM_UP_RUNS = 3
TURN_RUNS = 5
"""Inferences in a row before the next engine's turn: enough to have its own caches warm again."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one variant costs on one engine; `problem` says why nothing was measured.

    Args:
        variant: Of the bundle.
        engine: Its name.
        provider: What really ran it.
        runs: Inferences measured.
        p50_ms: Wall time, median.
        p95_ms: Wall time.
        per_second: Inferences a second, one after the other.
        cpu_ms: CPU time of an inference, all threads.
        peak_memory_bytes: What opening and running it added to a fresh process, at its highest.
        problem: Why it could not be measured.
    """

    variant: str
    engine: str
    provider: str = ""
    runs: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    per_second: float = 0.0
    cpu_ms: float = 0.0
    peak_memory_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Costs, the fastest first."""

    model: str
    version: str
    machine: str
    threads: int
    costs: tuple[Cost, ...]


@dataclass(slots=True)
class _Runner:
    choice: Choice
    session: Session
    tensors: Tensors
    wall_ms: list[float] = field(default_factory=list[float])
    cpu_ms: float = 0.0

    def take_turn(self, runs: int) -> None:
        cpu = time.process_time_ns()
        for _ in range(runs):
            began = time.perf_counter_ns()
            self.session.run(self.tensors)
            self.wall_ms.append((time.perf_counter_ns() - began) / 1e6)
        self.cpu_ms += (time.process_time_ns() - cpu) / 1e6


def bench_model(
    name: str,
    *,
    task: Path | None,
    engine: str | None,
    threads: int,
    seconds: float,
    runs: int | None,
) -> BenchReport:
    """Measure a model.

    Args:
        name: A bundle's name or folder, or a bare file with its `task`.
        task: A task file.
        engine: Only this engine; None: all that are installed.
        threads: Threads one inference may use.
        seconds: How long each engine is measured, about.
        runs: How many inferences instead.

    Raises:
        EdgeRuntimeError: The model is wrong, or nothing here can run it.
    """
    bundle = find_bundle(name, load_task(task) if task else None)
    profile = this_device("auto")
    options = EngineOptions(threads=threads)
    choices = choices_here(bundle, profile, engine)
    runners: list[_Runner] = []
    problems: list[Cost] = []
    try:
        for choice in choices:
            if not choice.usable:
                problems.append(Cost(choice.variant, choice.engine, problem=choice.why))
                continue
            try:
                runners.append(_open(bundle, choice, options))
            except EdgeRuntimeError as error:
                problems.append(Cost(choice.variant, choice.engine, choice.provider, problem=str(error)))
        if not runners:
            raise nothing_runs(bundle, map(_because, choices, problems))
        _measure(runners, seconds, runs)
        costs = [_cost(runner, _peak_memory(bundle, runner, options)) for runner in runners]
    finally:
        for runner in runners:
            runner.session.close()
    ordered = sorted(costs, key=lambda cost: cost.p50_ms)
    manifest = bundle.manifest
    return BenchReport(manifest.name, manifest.version, profile.cpu.name, threads, (*ordered, *problems))


def show(report: BenchReport, screen: Console) -> None:
    """Print the costs for a person."""
    title = f"{report.model} {report.version} on {report.machine}, {report.threads} thread(s) an inference"
    table = Table("variant", "engine", title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("p50", "p95", "runs/s", "CPU", "memory", "runs"):
        table.add_column(column, justify="right")
    for cost in report.costs:
        if cost.problem:
            continue
        memory = "" if cost.peak_memory_bytes is None else f"{cost.peak_memory_bytes / 2**20:.0f} MiB"
        table.add_row(
            cost.variant,
            f"{cost.engine} ({cost.provider})",
            f"{cost.p50_ms:.1f} ms",
            f"{cost.p95_ms:.1f} ms",
            f"{cost.per_second:.1f}",
            f"{cost.cpu_ms:.1f} ms",
            memory,
            str(cost.runs),
        )
    screen.print(table)
    for cost in report.costs:
        if cost.problem:
            screen.print(
                f"Not measured: {cost.variant} {cost.engine}: {cost.problem}", markup=False, style="dim"
            )


def _because(choice: Choice, cost: Cost) -> Choice:
    return replace(choice, why=cost.problem)


def _open(bundle: ModelBundle, choice: Choice, options: EngineOptions) -> _Runner:
    session = open_choice(bundle, choice, options)
    try:
        task = make_task(bundle.manifest.task, session.inputs, session.outputs)
        noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
        tensors, _ = task.preprocess(Picture.from_bgr(noise))
        # The task's own buffers are valid until its next call only.
        kept: Mapping[str, Array] = {name: tensor.copy() for name, tensor in tensors.items()}
        for _ in range(WARM_UP_RUNS):
            session.run(kept)
    except Exception:
        session.close()
        raise
    return _Runner(choice, session, kept)


def _measure(runners: list[_Runner], seconds: float, runs: int | None) -> None:
    """Give every runner its turns until it has its time, or its number of inferences."""
    waiting = list(runners)
    while waiting:
        for runner in waiting:
            runner.take_turn(TURN_RUNS if runs is None else min(TURN_RUNS, runs - len(runner.wall_ms)))
        waiting = [runner for runner in waiting if not _enough(runner, seconds, runs)]


def _enough(runner: _Runner, seconds: float, runs: int | None) -> bool:
    return sum(runner.wall_ms) >= seconds * 1e3 if runs is None else len(runner.wall_ms) >= runs


def _cost(runner: _Runner, memory: int | None) -> Cost:
    count = len(runner.wall_ms)
    p50_ms, p95_ms = (float(value) for value in np.percentile(runner.wall_ms, (50, 95)))
    return Cost(
        runner.choice.variant,
        runner.choice.engine,
        runner.session.provider,
        count,
        p50_ms,
        p95_ms,
        1e3 * count / sum(runner.wall_ms),
        runner.cpu_ms / count,
        memory,
    )


def _peak_memory(bundle: ModelBundle, runner: _Runner, options: EngineOptions) -> int | None:
    """Open and run the model in a fresh process; None where a process's peak is not known."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(_added_memory, bundle, runner.choice, options, dict(runner.tensors)).result()
        except BrokenProcessPool:
            return None


def _added_memory(
    bundle: ModelBundle, choice: Choice, options: EngineOptions, tensors: Tensors
) -> int | None:
    before = psutil.Process().memory_info().rss
    session = open_choice(bundle, choice, options)
    for _ in range(WARM_UP_RUNS):
        session.run(tensors)
    peak = _peak_bytes()
    session.close()
    return None if peak is None else max(peak - before, 0)


def _peak_bytes() -> int | None:
    """The highest resident size of this process; the kernel's VmHWM (proc_pid_status(5)), so Linux only."""
    status = Path("/proc/self/status")
    lines: Iterator[str] = iter(status.read_text().splitlines() if status.exists() else ())
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
