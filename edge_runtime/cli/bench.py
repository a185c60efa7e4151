"""`edge-runtime bench`: what a model costs on this machine with every engine that can run it, in turns.

Fills in receipts of a bundle when asked to; it judges nothing and changes no bundle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge_runtime.bundle import ModelBundle
from edge_runtime.cli.receipts import measured, write_receipts
from edge_runtime.contract.bundle import Precision
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.measure import Runner, measure_in_turns, peak_memory
from edge_runtime.engines.select import Choice
from edge_runtime.local_model import (
    choices_here,
    find_bundle,
    nothing_runs,
    open_choice,
    options_for,
    this_device,
    tokenizer_of,
    variant_of,
)
from edge_runtime.settings import load_task
from edge_runtime.tasks.make import make_any_task
from edge_runtime.tasks.sample_input import sample_input


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
        times_fp32: Its median by that of the bundle's fp32 variant on the same engine and provider.
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
    times_fp32: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Costs, the fastest first."""

    model: str
    version: str
    machine: str
    threads: int
    costs: tuple[Cost, ...]


def bench_model(
    name: str,
    *,
    task: Path | None,
    engine: str | None,
    threads: int,
    seconds: float,
    runs: int | None,
    receipt: Path | None = None,
) -> BenchReport:
    """Measure a model.

    Args:
        name: A bundle's name or folder, or a bare file with its `task`.
        task: A task file.
        engine: Only this engine; None: all that are installed.
        threads: Threads one inference may use.
        seconds: How long each engine is measured, about.
        runs: How many inferences instead.
        receipt: File for the receipts: a list of them; the bundle's whole manifest with them added where the
            file is called `bundle.json`.

    Raises:
        EdgeRuntimeError: The model is wrong, nothing here can run it, or the receipts cannot be written.
    """
    bundle = find_bundle(name, load_task(task) if task else None)
    profile = this_device("auto")
    options = EngineOptions(threads=threads)
    choices = choices_here(bundle, profile, engine)
    opened: list[tuple[Choice, Runner]] = []
    problems: list[Cost] = []
    try:
        for choice in choices:
            if not choice.usable:
                problems.append(Cost(choice.variant, choice.engine, problem=choice.why))
                continue
            try:
                opened.append((choice, open_runner(bundle, choice, options)))
            except EdgeRuntimeError as error:
                problems.append(Cost(choice.variant, choice.engine, choice.provider, problem=str(error)))
        if not opened:
            raise nothing_runs(bundle, map(_because, choices, problems))
        measure_in_turns([runner for _, runner in opened], seconds, runs)
        costs = [
            _cost(bundle, choice, runner, _fp32(bundle, choice, opened), options) for choice, runner in opened
        ]
    finally:
        for _, runner in opened:
            runner.session.close()
    ordered = sorted(costs, key=lambda cost: cost.p50_ms)
    manifest = bundle.manifest
    if receipt is not None:
        notes = [
            measured(
                choice,
                profile,
                runner.latency(threads, _fp32(bundle, choice, opened)),
                cost.peak_memory_bytes,
            )
            for (choice, runner), cost in zip(opened, costs, strict=True)
        ]
        write_receipts(receipt, manifest, [note for note in notes if note is not None])
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


def open_runner(bundle: ModelBundle, choice: Choice, options: EngineOptions) -> Runner:
    """Open a choice with an input of its own, warm.

    Raises:
        EdgeRuntimeError: It does not open or run.
    """
    session = open_choice(bundle, choice, options)
    try:
        spec = bundle.manifest.task_of(variant_of(bundle, choice))
        task = make_any_task(spec, session.inputs, session.outputs, tokenizer_of(bundle))
        golden = bundle.manifest.golden
        path = None if golden is None else bundle.root / golden.inputs.path
        tensors, _ = task.preprocess(sample_input(spec, session.inputs, path))
        # The task's own buffers are valid until its next call only.
        kept: Mapping[str, Array] = {name: tensor[:1].copy() for name, tensor in tensors.items()}
        runner = Runner(session, kept)
        runner.warm_up()
    except Exception:
        session.close()
        raise
    return runner


def _fp32(bundle: ModelBundle, choice: Choice, opened: Sequence[tuple[Choice, Runner]]) -> Runner | None:
    """The runner of the fp32 variant beside a variant of another precision."""
    if variant_of(bundle, choice).precision is Precision.FP32:
        return None
    return next(
        (
            runner
            for other, runner in opened
            if (other.engine, other.provider) == (choice.engine, choice.provider)
            and variant_of(bundle, other).precision is Precision.FP32
        ),
        None,
    )


def _cost(
    bundle: ModelBundle, choice: Choice, runner: Runner, fp32: Runner | None, options: EngineOptions
) -> Cost:
    count, latency = len(runner.wall_ms), runner.latency(options.threads, fp32)
    model = bundle.path(variant_of(bundle, choice))
    return Cost(
        choice.variant,
        choice.engine,
        runner.session.provider,
        count,
        latency.p50_ms,
        latency.p95_ms,
        1e3 * count / sum(runner.wall_ms),
        runner.cpu_ms / count,
        peak_memory(choice.engine, model, options_for(choice, options), runner.tensors),
        latency.times_fp32,
    )
