"""`edge-runtime demo`: the shipped clip through the shipped detector, as two cameras.

Runs what `edge-runtime run` runs, on a store.yaml that the user finds among the results and may change.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from edge_runtime.agent import Agent
from edge_runtime.cli.logs import log_to
from edge_runtime.cli.run import outcome
from edge_runtime.cli.shell import ExitCode, console, print_json
from edge_runtime.cli.status_table import counts, process_line
from edge_runtime.cli.stopping import stop_on_signals
from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.status import AgentStatus
from edge_runtime.settings import (
    AgentSettings,
    JsonlSinkSettings,
    ReportSinkSettings,
    VideoSinkSettings,
    load_settings,
)

CLIP = "pedestrians.mp4"


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What came out.

    Args:
        status: Of the agent at its end.
        events: How many of each type.
        results: What was left, and where.
    """

    status: AgentStatus
    events: dict[str, int]
    results: dict[str, Path]


def run_demo(folder: Path, *, as_json: bool) -> ExitCode:
    """Run the demo.

    Args:
        folder: Where the results go; a store.yaml that is there already is kept and used.
        as_json: Print a DemoReport as JSON.

    Raises:
        EdgeRuntimeError: No engine is installed, the folder cannot be written, …
    """
    screen = console(as_json=as_json)
    log_to(screen, quiet=True)
    store = prepare(folder)
    settings = load_settings(store)
    _forget_earlier_results(settings)
    with stop_on_signals() as stop, _progress(screen) as progress:
        tasks = {name: progress.add_task(f"camera {name}", total=1.0, counts="") for name in settings.cameras}

        def show(status: AgentStatus) -> None:
            for camera in status.cameras:
                progress.update(tasks[camera.name], completed=camera.progress or 0.0, counts=counts(camera))

        status = Agent(settings).run(stop, show)
        show(status)
    report = DemoReport(status, _count_events(settings), {"settings": store, **dict(_results(settings))})
    if as_json:
        print_json(report)
    else:
        _tell(report, screen)
    return outcome(status, stopped=stop.is_set())


def prepare(folder: Path, name: str = "store.yaml") -> Path:
    """Put the clip and its settings into the folder.

    Args:
        folder: Made when absent.
        name: Of the settings: `store.yaml`, or `live.yaml`.

    Returns:
        The settings' file.

    Raises:
        StorageError: The folder cannot be written.
    """
    package = files("edge_runtime")
    store = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with as_file(package / "media" / CLIP) as clip:
            shutil.copyfile(clip, folder / CLIP)
        if not store.exists():
            shipped = "demo.yaml" if name == "store.yaml" else name
            store.write_text((package / shipped).read_text("utf-8"), "utf-8")
    except OSError as error:
        raise StorageError(
            f"demo: {folder} cannot be written: {error.strerror}", do="Name another folder: --out FOLDER"
        ) from error
    return store


def _forget_earlier_results(settings: AgentSettings) -> None:
    """Remove the events of an earlier demo, so that what is counted is what was just seen."""
    for sink in settings.sinks:
        if isinstance(sink, JsonlSinkSettings):
            sink.path.unlink(missing_ok=True)


def _progress(screen: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}"),
        console=screen,
    )


def _count_events(settings: AgentSettings) -> dict[str, int]:
    found: Counter[str] = Counter()
    for sink in settings.sinks:
        if isinstance(sink, JsonlSinkSettings) and sink.path.exists():
            found.update(json.loads(line)["type"] for line in sink.path.read_text("utf-8").splitlines())
    return dict(found)


def _results(settings: AgentSettings) -> Iterator[tuple[str, Path]]:
    for sink in settings.sinks:
        match sink:
            case JsonlSinkSettings():
                yield "events", sink.path
            case VideoSinkSettings():
                for camera in sink.cameras or settings.cameras:
                    yield f"annotated video {camera}", sink.folder / f"{camera}.mp4"
            case ReportSinkSettings():
                yield "report", sink.path
                for camera in settings.cameras:
                    yield f"heatmap {camera}", sink.path.parent / f"heatmap-{camera}.png"
            case _:
                pass


def _tell(report: DemoReport, screen: Console) -> None:
    for camera in report.status.cameras:
        screen.print(
            f"[bold]{camera.name}[/]: {camera.inferred} of {camera.decoded} pictures inferred,"
            f" {camera.inference.p50_ms:.0f} ms each, {counts(camera)}"
        )
    kinds = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in sorted(report.events.items()))
    screen.print(f"Events: {kinds or 'none'}. {process_line(report.status)}.\n")
    for what, path in report.results.items():
        screen.print(f"  {what:<22} {_from_here(path)}", soft_wrap=True)
    store = _from_here(report.results["settings"])
    screen.print(
        f"\nOpen the report in a browser; change {store} and: edge-runtime run {store}", soft_wrap=True
    )


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
