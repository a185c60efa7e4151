"""`edge-runtime score`: a model over a folder or a table, with a bar, and what came of it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from edge_runtime.bundle import shipped_bundle
from edge_runtime.cli.shell import ExitCode, console, print_json
from edge_runtime.cli.stopping import stop_on_signals
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.request import Sampling
from edge_runtime.scoring.files import Format
from edge_runtime.scoring.job import Job, Report, Stage, run
from edge_runtime.scoring.model import Asked
from edge_runtime.scoring.work import LOCAL
from edge_runtime.settings import load_task

_LINE_EVERY_S = 5.0
"""Without a terminal, a line is written so often."""
_RAY = "ray"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options ask for; None where nobody said."""

    path: Path
    model: str
    task: Path | None
    out: Path | None
    format: str
    column: str | None
    fps: float | None
    track: bool
    min_score: float | None
    sampling: Sampling
    engine: str | None
    on: str | None
    workers: int | None
    restart: bool


def score_all(wanted: Wanted, *, as_json: bool) -> ExitCode:
    """Do a job and show how it goes.

    Args:
        wanted: The options.
        as_json: Print one document at the end.

    Returns:
        OK; INPUT where rows have an error; INTERRUPTED where it was told to stop before its end.

    Raises:
        EdgeRuntimeError: As `edge_runtime.scoring.job.run`.
    """
    job = job_of(wanted)
    screen = console(as_json=as_json)

    def saw_signal() -> None:
        screen.print("Putting in place what is done …")

    with stop_on_signals(saw_signal) as stop, showing(screen) as told:
        report = run(job, stop=stop.is_set, told=told)
    if as_json:
        print_json(report)
    show(report, screen)
    if not report.finished:
        return ExitCode.INTERRUPTED
    return ExitCode.INPUT if report.errors else ExitCode.OK


def job_of(wanted: Wanted) -> Job:
    """Make a job of the options.

    Raises:
        ConfigError: They contradict each other.
        BundleError: The task's file is wrong.
    """
    engine, on = wanted.engine, wanted.on
    if engine == _RAY:  # where it runs, said in the word that people use for it
        if on not in {None, _RAY}:
            raise ConfigError("--engine ray", expected="--on ray, or no --on", got=f"--on {on}")
        engine, on = None, _RAY
    asked = Asked(
        # Whoever runs the model elsewhere looks for it from another folder.
        name=wanted.model if shipped_bundle(wanted.model) else str(Path(wanted.model).resolve()),
        task=load_task(wanted.task) if wanted.task else None,
        engine=engine,
        min_score=wanted.min_score,
        track=wanted.track,
        sampling=wanted.sampling,
        workers=wanted.workers,
    )
    return Job(
        path=wanted.path,
        asked=asked,
        out=wanted.out,
        format=Format(wanted.format),
        fps=wanted.fps,
        column=wanted.column,
        on=on or LOCAL,
        restart=wanted.restart,
    )


@contextmanager
def showing(screen: Console, now: Callable[[], float] = time.monotonic) -> Generator[Callable[[Stage], None]]:
    """Give what a job is told by: a bar on a terminal, a line now and then elsewhere."""
    if not screen.is_terminal:
        yield _Lines(screen, now)
        return
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]} rows, {task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[source]}", style="dim", markup=False),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=1.0, rows=0, rate=0.0, source="")
        began = now()

        def told(stage: Stage) -> None:
            rate = stage.rows / max(now() - began, 1e-6)
            bar.update(task, completed=stage.share, rows=stage.rows, rate=rate, source=stage.source[-40:])

        yield told


class _Lines:
    """Progress where nothing can be drawn over."""

    def __init__(self, screen: Console, now: Callable[[], float]) -> None:
        self._screen = screen
        self._now = now
        self._began = self._said = now()
        self._first_share: float | None = None

    def __call__(self, stage: Stage) -> None:
        now = self._now()
        if self._first_share is None:
            self._first_share = stage.share
        if now - self._said < _LINE_EVERY_S:
            return
        self._said = now
        took = now - self._began
        gained = stage.share - self._first_share
        left = f", {took * (1 - stage.share) / gained:.0f} s left" if gained > 0 else ""
        self._screen.print(
            f"{stage.share:.0%}, {stage.rows} rows, {stage.rows / took:.1f}/s{left}", highlight=False
        )


def show(report: Report, screen: Console) -> None:
    """Print what came of a job."""
    what = f"{report.model} {report.version}, {report.variant} on {report.engine}"
    rate = report.new_rows / report.seconds if report.seconds else 0.0
    screen.print(f"{what}: {report.new_rows} rows in {report.seconds:.1f} s, {rate:.1f}/s", soft_wrap=True)
    parts = f"{report.parts} part{'s' if report.parts != 1 else ''}"
    screen.print(f"{report.rows} rows in {parts} in {escape(str(report.out))}", soft_wrap=True)
    if report.errors:
        screen.print(f"{report.errors} of them have an error, in the column `error`.", style="yellow")
    if report.changed_count:
        more = report.changed_count - len(report.changed)
        names = ", ".join(report.changed) + (f" and {more} more" if more else "")
        screen.print(
            f"Changed since their rows were made: {names}. --restart begins anew.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    if report.other_files:
        screen.print(f"{report.other_files} other files were left alone.", style="dim")
    if not report.finished:
        screen.print("It is not done: call it again, and it goes on.", style="yellow")
