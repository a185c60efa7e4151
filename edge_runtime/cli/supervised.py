"""Supervised: what one run of the agent owes to who starts it again: pings, and how this start went.

Runs nothing; `edge_runtime.cli.run` calls it with every status.
"""

import logging
import time
from collections.abc import Callable

from edge_runtime.agent.starts import STEADY_S, StartJournal, Verdict
from edge_runtime.agent.watchdog import Notifier, Watchdog
from edge_runtime.contract.status import AgentStatus

log = logging.getLogger(__name__)


class Supervised:
    """One run.

    Args:
        notifier: The way to the service manager.
        journal: Learns that the start went well.
        verdict: How the start is.
        stuck_s: For how long the agent's slowest inference has been out.
        restart: Has the agent started again.
        show: Gets every status, too.
    """

    def __init__(
        self,
        notifier: Notifier,
        journal: StartJournal,
        verdict: Verdict,
        *,
        stuck_s: Callable[[], float],
        restart: Callable[[], None],
        show: Callable[[AgentStatus], None] | None = None,
    ) -> None:
        self._watchdog = Watchdog(notifier, stuck_s)
        self._journal = journal
        self._verdict = verdict
        self._restart = restart
        self._show = show
        self._steady = False

    def __call__(self, status: AgentStatus) -> None:
        """Take a status, and do what is due."""
        self._watchdog.turn(status, time.monotonic())
        if status.uptime_s >= STEADY_S and not self._steady:
            self._steady = True
            self._journal.well()
        if self._verdict.safe and status.uptime_s >= self._verdict.safe_s:
            log.warning("safe mode ran for %.0f s without a fault; a usual start is tried", status.uptime_s)
            self._restart()
        if self._show is not None:
            self._show(status)
