"""`edge-runtime run`: the agent from start to drained, with a live table or plain log lines."""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from edge_runtime.agent import Agent, join_fleet
from edge_runtime.agent.running import Member, Running
from edge_runtime.cli.logs import log_to
from edge_runtime.cli.shell import ExitCode, console, exit_code, print_json
from edge_runtime.cli.status_table import process_line, status_lines, status_table
from edge_runtime.cli.stopping import reload_on_hangup, stop_on_signals
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.status import AgentStatus, CameraState
from edge_runtime.settings import AgentSettings, FleetSettings, load_settings, load_with, sent_settings

log = logging.getLogger(__name__)

LINES_EVERY_S = 10.0
"""Without a terminal, how the cameras are doing is logged this often."""


def run_store(store: Path, *, as_json: bool, quiet: bool) -> ExitCode:
    """Run a store until its recordings end or a signal comes.

    Args:
        store: `store.yaml`.
        as_json: Print the last status as JSON on standard output.
        quiet: No table, no progress lines.

    Returns:
        OK; STORAGE when events were lost; else, when it ended by itself, the code of a model that did not
        open, or REMOTE when a camera had failed for good.

    Raises:
        EdgeRuntimeError: The settings are wrong, a model does not open, …
    """
    settings = load_settings(store)
    screen = console(as_json=as_json)
    log_to(screen, quiet=quiet)
    with stop_on_signals() as stop, reload_on_hangup(stop) as reload:
        while True:
            agent = start(settings, store)
            status = watch(agent, screen, stop, quiet=quiet, news=_News(store, reload))
            if not agent.wants_restart or stop.is_set():
                break
            log.info("starting again, with settings that the fleet sent")
            settings = load_settings(store)
    if as_json:
        print_json(status)
    elif not quiet:
        screen.print(status_table(status))
    return outcome(status, stopped=stop.is_set(), problems=agent.problems.values())


def start(
    settings: AgentSettings, store: Path, join: Callable[[FleetSettings, Running], Member] = join_fleet
) -> Agent:
    """Start an agent; where settings of a fleet do not start, the store's own: else nobody could send better.

    Args:
        settings: Of `load_settings`.
        store: The file.
        join: As for `Agent`.

    Raises:
        EdgeRuntimeError: Neither starts.
    """
    try:
        return Agent(settings, store, join)
    except EdgeRuntimeError as error:
        if settings.fleet is None or sent_settings(settings.fleet.folder) is None:
            raise
        log.error("the settings that the fleet sent do not start, and %s is used alone: %s", store, error)
        trouble = f"settings of the fleet do not start: {error}"
        return Agent(load_with(store, None), store, join, trouble=trouble)


def watch(
    agent: Agent,
    screen: Console,
    stop: threading.Event,
    *,
    quiet: bool,
    news: Callable[[], AgentSettings | None],
) -> AgentStatus:
    """Run the agent while showing how it is doing."""
    if quiet:
        return agent.run(stop, news=news)
    if not screen.is_terminal:
        return agent.run(stop, _Lines(), news)
    with Live(console=screen, refresh_per_second=4, transient=True) as live:
        show: Callable[[AgentStatus], None] = lambda status: live.update(status_table(status))  # noqa: E731
        return agent.run(stop, show, news)


def outcome(status: AgentStatus, *, stopped: bool, problems: Iterable[EdgeRuntimeError] = ()) -> ExitCode:
    """Give the exit code that a run deserves: lost events before broken models before failed cameras.

    Args:
        status: At the end.
        stopped: Somebody asked it to stop, which is no failure whatever the cameras did.
        problems: Of models that did not open.
    """
    if any(sink.dropped for sink in status.sinks):
        return ExitCode.STORAGE
    codes = {exit_code(problem) for problem in problems}
    if codes and not stopped:
        return ExitCode.BUNDLE if ExitCode.BUNDLE in codes else ExitCode.ENGINE
    if not stopped and any(camera.state is CameraState.FAILED for camera in status.cameras):
        return ExitCode.REMOTE
    return ExitCode.OK


class _News:
    """Reads the settings again when somebody asked for it; a wrong file is said and changes nothing."""

    def __init__(self, store: Path, asked: threading.Event) -> None:
        self._store = store
        self._asked = asked

    def __call__(self) -> AgentSettings | None:
        if not self._asked.is_set():
            return None
        self._asked.clear()
        try:
            return load_settings(self._store)
        except EdgeRuntimeError as error:
            log.error("%s is wrong, and nothing changes: %s", self._store, error)
            return None


class _Lines:
    """Logs a status now and then; time is the agent's own uptime."""

    def __init__(self) -> None:
        self._next_s = LINES_EVERY_S

    def __call__(self, status: AgentStatus) -> None:
        if status.uptime_s >= self._next_s:
            self._next_s = status.uptime_s + LINES_EVERY_S
            for line in (*status_lines(status), process_line(status)):
                log.info("%s", line)
