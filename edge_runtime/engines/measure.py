"""What running a model costs: time in turns, and peak memory in a fresh process. Knows no bundle and no task.

Turns, because a machine's clock and load drift: what is compared has to be measured at the same time.
"""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from edge_runtime.contract.bundle import Latency
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.registry import load_engine

WARM_UP_RUNS = 3
TURN_RUNS = 5
"""Inferences in a row before the next model's turn: enough to have its own caches warm again."""


@dataclass(slots=True)
class Runner:
    """An opened model with an input, and what its inferences took.

    Args:
        session: The model.
        tensors: What each inference is given; not written to by anybody else meanwhile.
        wall_ms: One entry an inference.
        cpu_ms: CPU time of all of them, all threads.
    """

    session: Session
    tensors: Tensors
    wall_ms: list[float] = field(default_factory=list[float])
    cpu_ms: float = 0.0

    def warm_up(self) -> None:
        """Run without counting: the first inferences pay for an engine's lazy work.

        Raises:
            EdgeRuntimeError: The model does not run.
        """
        for _ in range(WARM_UP_RUNS):
            self.session.run(self.tensors)

    def take_turn(self, runs: int) -> None:
        """Run so many times, counting."""
        cpu = time.process_time_ns()
        for _ in range(runs):
            began = time.perf_counter_ns()
            self.session.run(self.tensors)
            self.wall_ms.append((time.perf_counter_ns() - began) / 1e6)
        self.cpu_ms += (time.process_time_ns() - cpu) / 1e6

    def latency(self, threads: int, fp32: "Runner | None" = None) -> Latency:
        """Sum up.

        Args:
            threads: Of one inference.
            fp32: The same model's fp32 variant, measured in turns with this one.
        """
        p50_ms, p95_ms = (float(value) for value in np.percentile(self.wall_ms, (50, 95)))
        times_fp32 = None if fp32 is None else _paired(self.wall_ms, fp32.wall_ms)
        return Latency(
            p50_ms=p50_ms, p95_ms=p95_ms, threads=threads, runs=len(self.wall_ms), times_fp32=times_fp32
        )


def _paired(own_ms: Sequence[float], other_ms: Sequence[float]) -> float:
    """Give the median ratio of turns that followed each other: both felt the same load, which changes.

    The ratio of the two medians would not do: the faster model goes on alone when the other has had its time.
    """
    count = max(1, min(len(own_ms), len(other_ms)) // TURN_RUNS)
    own, other = (
        [np.median(part) for part in np.array_split(one[: count * TURN_RUNS], count)]
        for one in (own_ms, other_ms)
    )
    return float(np.median(np.divide(own, other)))


def measure_in_turns(runners: Sequence[Runner], seconds: float, runs: int | None = None) -> None:
    """Give every runner its turns until it has its time, or its number of inferences.

    Args:
        runners: Warmed up.
        seconds: How long each is measured, about.
        runs: How many inferences instead.

    Raises:
        EdgeRuntimeError: A model failed.
    """
    waiting = list(runners)
    while waiting:
        for runner in waiting:
            runner.take_turn(TURN_RUNS if runs is None else min(TURN_RUNS, runs - len(runner.wall_ms)))
        waiting = [runner for runner in waiting if not _enough(runner, seconds, runs)]


def peak_memory(engine: str, model: Path, options: EngineOptions, tensors: Tensors) -> int | None:
    """Open and run a model in a fresh process.

    Args:
        engine: A name of the engine registry.
        model: Its file or folder.
        options: How it is opened.
        tensors: What it is run with.

    Returns:
        Bytes that opening and running it added, at its highest; None where a process's peak is not known.

    Raises:
        EdgeRuntimeError: The model does not open or run there.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(_added_memory, engine, model, options, dict(tensors)).result()
        except BrokenProcessPool:
            return None


def _enough(runner: Runner, seconds: float, runs: int | None) -> bool:
    return sum(runner.wall_ms) >= seconds * 1e3 if runs is None else len(runner.wall_ms) >= runs


def _added_memory(engine: str, model: Path, options: EngineOptions, tensors: Tensors) -> int | None:
    before = psutil.Process().memory_info().rss
    session = load_engine(engine).open(model, options=options)
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
