"""AgentTrial: tries what a fleet sends beside what runs, and puts it in its place: an updater's `Trial`.

A candidate runs in this process, as it would afterwards; its memory alone is measured in one of its own. One
that takes the process down is found by the updater's journal, which counts starts. Judges nothing:
`edge_runtime.update.health` does.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from edge_runtime.agent.candidate import Candidate
from edge_runtime.agent.running import Running
from edge_runtime.contract.errors import BundleError, ConfigError, EdgeRuntimeError
from edge_runtime.contract.fleet import Kind, Wanted
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.runtime.bundles import with_labels
from edge_runtime.settings import ModelSettings, check_labels
from edge_runtime.update.contents import LABELS, SETTINGS
from edge_runtime.update.health import Evidence
from edge_runtime.update.trial_run import Mirror

log = logging.getLogger(__name__)

_POLL_S = 0.1
_LEAVE_S = 60.0
"""How long a trial that was stopped may take to let go of its engine."""


class AgentTrial:
    """The running agent, as an updater sees it. For one thread.

    Args:
        agent: What runs.
    """

    def __init__(self, agent: Running) -> None:
        self._agent = agent
        self._work: threading.Thread | None = None
        self._end = threading.Event()

    def run(
        self, wanted: Wanted, active: Path | None, candidate: Path, stop: Callable[[], bool]
    ) -> Evidence | None:
        """Run a candidate beside what answers; as the port says.

        Engines cannot be interrupted while they open a file, so that a thread does the work; where it is to
        stop, this returns at once and the thread lets go of everything by itself.
        """
        del active  # what answers is open already
        if not self._left(stop):
            return None
        self._end = end = threading.Event()
        found: list[Evidence | EdgeRuntimeError | None] = []

        def work() -> None:
            try:
                found.append(self._try(wanted, candidate, end.is_set))
            except EdgeRuntimeError as error:
                found.append(error)
            except Exception as error:
                log.exception("trial of %s %s", wanted.name, wanted.version)
                found.append(UpdateFailedError(Failure.OPEN_FAILED, f"unexpected: {error!r}"))

        self._work = threading.Thread(target=work, name="trial", daemon=True)
        self._work.start()
        while self._work.is_alive():
            self._work.join(_POLL_S)
            if stop():
                end.set()
                return None
        if isinstance(found[0], EdgeRuntimeError):
            raise found[0]
        return found[0]

    def adopt(self, kind: Kind, name: str, folder: Path) -> None:
        """Answer with a committed version from now on; as the port says."""
        if kind == "settings":
            self._apply(folder / SETTINGS)
        else:
            self._agent.adopt(name)

    def restore(self, kind: Kind, name: str) -> None:
        """Answer with what the device was installed with; as the port says."""
        if kind == "settings":
            self._apply(None)
        else:
            self._agent.adopt(name)

    def _apply(self, sent: Path | None) -> None:
        if self._agent.apply(self._agent.load(sent)).later:
            self._agent.restart_soon()

    def dismiss(self, kind: Kind, name: str) -> None:
        """Let go of a candidate; as the port says."""
        del kind, name  # one is tried at a time
        self._end.set()
        if self._work is not None:
            self._work.join(_LEAVE_S)

    def check_settings(self, file: Path) -> None:
        """Say what is wrong with settings on this device.

        Raises:
            ConfigError: They are wrong here.
        """
        self._agent.check(self._agent.load(file))

    def _left(self, stop: Callable[[], bool]) -> bool:
        """Wait until a trial that was stopped has let go; say whether it has."""
        while self._work is not None and self._work.is_alive():
            self._work.join(_POLL_S)
            if stop():
                return False
        return True

    def _try(self, wanted: Wanted, candidate: Path, stop: Callable[[], bool]) -> Evidence | None:
        try:
            match wanted.kind:
                case "settings":
                    self.check_settings(candidate / SETTINGS)
                    return Evidence()
                case "labels":
                    self._check_labels(wanted.name, candidate / LABELS)
                    return Evidence()
                case "model":
                    return self._try_model(wanted, candidate, stop)
        except ConfigError as error:
            raise UpdateFailedError(Failure.CONFIG_INVALID, str(error)) from error

    def _check_labels(self, name: str, file: Path) -> None:
        agent = self._agent
        for user in agent.adoption.users(agent.settings, name):
            bundle = with_labels(agent.bundles.open(agent.settings.models[user]), file)
            check_labels(agent.settings, {user: bundle.manifest.task})

    def _try_model(self, wanted: Wanted, candidate: Path, stop: Callable[[], bool]) -> Evidence | None:
        agent = self._agent
        try:
            bundle = agent.bundles.version(candidate)
        except BundleError as error:
            raise UpdateFailedError(Failure.OPEN_FAILED, str(error)) from error
        users = agent.adoption.users(agent.settings, wanted.name)
        for user in users:
            check_labels(agent.settings, {user: bundle.manifest.task})
        first = agent.settings.models[users[0]] if users else ModelSettings(bundle=candidate)
        incumbent = agent.adoption.incumbent(users[0]) if users else None
        trial = Candidate(bundle, first, agent.profile, incumbent, wanted.trial)
        mirror = Mirror()
        agent.adoption.listen(agent.settings, users, mirror.put)
        try:
            return trial.evidence(mirror, stop)
        finally:
            agent.adoption.deafen()
