"""`edge-runtime run`: the agent from start to drained, with a live table or plain log lines."""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live

from edge_runtime.agent import Agent, join_fleet
from edge_runtime.agent.caution import Caution
from edge_runtime.agent.running import Member, Running
from edge_runtime.agent.starts import StartJournal
from edge_runtime.agent.watchdog import Notifier
from edge_runtime.cli.logs import log_to
from edge_runtime.cli.shell import ExitCode, console, exit_code, print_json
from edge_runtime.cli.status_table import process_line, status_lines, status_table
from edge_runtime.cli.stopping import reload_on_hangup, stop_on_signals
from edge_runtime.cli.supervised import Supervised
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
    notifier = Notifier.from_environment()
    journal = StartJournal(settings.state_dir / "starts.json")
    with stop_on_signals(notifier.stopping) as stop, reload_on_hangup(stop) as reload, _ending(journal):
        while True:
            verdict = journal.begin(settings.model_dump_json().encode(), time.time())
            agent = start(settings, store, caution=Caution(journal, verdict))
            news = _News(store, reload, notifier, agent.restart_soon if verdict.safe else None)
            supervised = partial(
                Supervised, notifier, journal, verdict, stuck_s=agent.stuck_s, restart=agent.restart_soon
            )
            status = watch(agent, screen, stop, quiet=quiet, news=news, supervised=supervised)
            if not agent.wants_restart or stop.is_set():
                break
            journal.well()
            log.info("starting again, as settings, a fleet or the end of safe mode ask for")
            settings = load_settings(store)
    if as_json:
        print_json(status)
    elif not quiet:
        screen.print(status_table(status))
    return outcome(status, stopped=stop.is_set(), problems=agent.problems.values())


def start(
    settings: AgentSettings,
    store: Path,
    join: Callable[[FleetSettings, Running], Member] = join_fleet,
    *,
    caution: Caution | None = None,
) -> Agent:
    """Start an agent; where settings of a fleet do not start, the store's own: else nobody could send better.

    Args:
        settings: Of `load_settings`.
        store: The file.
        join: As for `Agent`.
        caution: As for `Agent`.

    Raises:
        EdgeRuntimeError: Neither starts.
    """
    try:
        return Agent(settings, store, join, caution=caution)
    except EdgeRuntimeError as error:
        if settings.fleet is None or sent_settings(settings.fleet.folder) is None:
            raise
        log.error("the settings that the fleet sent do not start, and %s is used alone: %s", store, error)
        trouble = f"settings of the fleet do not start: {error}"
        return Agent(load_with(store, None), store, join, trouble=trouble, caution=caution)


def watch(
    agent: Agent,
    screen: Console,
    stop: threading.Event,
    *,
    quiet: bool,
    news: Callable[[], AgentSettings | None],
    supervised: Callable[..., Callable[[AgentStatus], None]],
) -> AgentStatus:
    """Run the agent while showing how it is doing, and telling who starts it again."""
    if quiet:
        return agent.run(stop, supervised(), news)
    if not screen.is_terminal:
        return agent.run(stop, supervised(show=_Lines()), news)
    with Live(console=screen, refresh_per_second=4, transient=True) as live:
        show: Callable[[AgentStatus], None] = lambda status: live.update(status_table(status))  # noqa: E731
        return agent.run(stop, supervised(show=show), news)


def outcome(status: AgentStatus, *, stopped: bool, problems: Iterable[EdgeRuntimeError] = ()) -> ExitCode:
    """Give the exit code that a run deserves: lost events before broken models before failed cameras.

    Args:
        status: At the end.
        stopped: Somebody asked it to stop, which is no failure whatever the cameras did.
        problems: Of models that did not open.
    """
    if any(sink.dropped for sink in status.sinks if sink.what == "events"):
        return ExitCode.STORAGE
    codes = {exit_code(problem) for problem in problems}
    if codes and not stopped:
        return ExitCode.BUNDLE if ExitCode.BUNDLE in codes else ExitCode.ENGINE
    if not stopped and any(camera.state is CameraState.FAILED for camera in status.cameras):
        return ExitCode.REMOTE
    return ExitCode.OK


@contextmanager
def _ending(journal: StartJournal) -> Generator[None, None, None]:
    """Write down that a start ended in order: well, at somebody's wish, or with a message."""
    try:
        yield
    except (EdgeRuntimeError, KeyboardInterrupt, SystemExit):
        journal.well()
        raise
    journal.well()


class _News:
    """Reads the settings again when somebody asked for it; a wrong file is said and changes nothing."""

    def __init__(
        self,
        store: Path,
        asked: threading.Event,
        notifier: Notifier,
        restart: Callable[[], None] | None,
    ) -> None:
        self._store = store
        self._asked = asked
        self._notifier = notifier
        self._restart = restart
        """In safe mode: what runs is not what the file says, and only another start gets there."""
        self._reading = False

    def __call__(self) -> AgentSettings | None:
        if self._reading:  # what was read last time is in use by now
            self._reading = False
            self._notifier.ready()
        if not self._asked.is_set():
            return None
        self._asked.clear()
        self._reading = True
        self._notifier.reloading()
        try:
            settings = load_settings(self._store)
            if self._restart is None:
                return settings
            self._restart()
            return None
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
