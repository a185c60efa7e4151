"""Agent: opens what the settings name, wires cameras to sinks and the door to models, until told to stop.

Decides nothing about frames, tracks, events or routes.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import cv2
import psutil

from edge_runtime.agent.changes import Changes, compare
from edge_runtime.agent.memory import share_arenas
from edge_runtime.agent.models import bundle_of, open_settings_model
from edge_runtime.agent.outlets import Outlets
from edge_runtime.agent.plans import LOW_SCORE, camera_plan
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.errors import BundleError, ConfigError, EdgeRuntimeError, EngineError
from edge_runtime.contract.event import CameraStateChanged, event_id
from edge_runtime.contract.status import AgentStatus, CameraState, CameraStatus
from edge_runtime.contract.task import TaskSpec
from edge_runtime.local_model import LocalModel, this_device
from edge_runtime.predict import measure_batches
from edge_runtime.settings import AgentSettings, check_labels
from edge_runtime.video.plan import CameraPlan
from edge_runtime.video.runtime import VideoRuntime

if TYPE_CHECKING:
    from edge_runtime.agent.requests import Requests

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
"""How often the agent looks whether it is through, and says how it is doing."""


class Agent:
    """One store's cameras, models, sinks and door, running from the moment it is made.

    Args:
        settings: What to run.

    Raises:
        EdgeRuntimeError: Nothing can run: no model opens, a label is none of its model's, a sink cannot
            be made, the door's address is taken.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._started_s = time.monotonic()
        self._cpu_s = time.process_time()
        self._process = psutil.Process()
        self._epoch = _epoch()
        self._models: dict[str, LocalModel] = {}
        self._tasks: dict[str, TaskSpec] = {}
        self.problems: dict[str, BundleError | EngineError] = {}
        """Models that did not open, and why."""
        self._failed: dict[str, CameraStatus] = {}
        # Workers run side by side, one a core: a library's own threads below them only get in the way.
        cv2.setNumThreads(1)
        share_arenas()
        with ExitStack() as opened:
            self._profile = this_device(settings.profile)
            self._open_models(opened)
            self._outlets = Outlets(settings)
            opened.callback(self._outlets.close)
            self._runtime = VideoRuntime(
                workers=self._workers(), on_scene=self._outlets.show, on_events=self._outlets.publish
            )
            opened.callback(self._runtime.close)
            self._requests = _open_requests(settings, self._models)
            if self._requests is not None:
                opened.callback(self._requests.close)
            plans = {name: self._plan(settings, name) for name in settings.cameras}
            for name, plan in plans.items():
                self._start(name, plan)
            self._opened = opened.pop_all()

    def run(
        self,
        stop: threading.Event,
        on_status: Callable[[AgentStatus], None] | None = None,
        news: Callable[[], AgentSettings | None] | None = None,
    ) -> AgentStatus:
        """Run until every recording has ended or `stop` is set; then drain and close.

        Args:
            stop: Set by whoever wants the agent to end.
            on_status: Gets the status a few times a second, on this thread.
            news: Asked as often for new settings to go on with; None: there are none.

        Returns:
            The last status.
        """
        try:
            while not stop.is_set() and not (self._requests is None and self._runtime.finished()):
                status = self.status()
                self._outlets.report(status)
                if on_status is not None:
                    on_status(status)
                stop.wait(LOOK_EVERY_S)
                wanted = news() if news is not None else None
                if wanted is not None:
                    self._try(wanted)
        finally:
            last = self.close()
        return last

    def apply(self, wanted: AgentSettings) -> Changes:
        """Go on with new settings: cameras come, go and change; those that are the same notice nothing.

        Args:
            wanted: The new settings. What they change besides cameras waits for a restart.

        Returns:
            What was done, and what waits.

        Raises:
            EdgeRuntimeError: They are wrong; nothing has changed.
        """
        changes = compare(self._settings, wanted)
        settings = changes.settings
        check_labels(settings, self._tasks)
        # A moment of a camera that starts anew must not share an id with one from before.
        self._epoch = _epoch()
        plans = {name: self._plan(settings, name) for name in (*changes.added, *changes.replaced)}
        leaving = (*changes.removed, *changes.replaced)
        self._runtime.remove(*leaving)
        for name in leaving:
            self._failed.pop(name, None)
        self._settings = settings
        self._outlets.watch(settings.cameras, away=leaving)
        for name, plan in plans.items():
            self._start(name, plan)
        return changes

    def _try(self, wanted: AgentSettings) -> None:
        try:
            changes = self.apply(wanted)
        except EdgeRuntimeError as error:
            log.error("the new settings are wrong, and nothing changes: %s", error)
            return
        log.info(
            "settings read again: added %s; removed %s; started again %s; unchanged %d",
            *(", ".join(names) or "none" for names in (changes.added, changes.removed, changes.replaced)),
            len(changes.settings.cameras) - len(changes.added) - len(changes.replaced),
        )
        if changes.later:
            log.warning("these settings have changed and need a restart: %s", ", ".join(changes.later))

    def close(self) -> AgentStatus:
        """Stop reading, let what was read go through, hand over events, close everything.

        Returns:
            The last status.
        """
        self._runtime.close()
        facts = {
            "Device profile": self._profile.title,
            **{
                f"Model {name}": f"{model.bundle.manifest.name} {model.bundle.manifest.version},"
                f" {model.choice.variant} on {model.choice.engine} ({model.session.provider})"
                for name, model in self._models.items()
            },
        }
        with self._opened:
            self._outlets.finish(self.status(), facts)
            return self.status()

    def status(self) -> AgentStatus:
        """Tell how everything is doing."""
        uptime_s = time.monotonic() - self._started_s
        return AgentStatus(
            cameras=(*self._runtime.status(), *self._failed.values()),
            sinks=self._outlets.status(),
            uptime_s=uptime_s,
            cpu_cores=(time.process_time() - self._cpu_s) / uptime_s,
            rss_bytes=self._process.memory_info().rss,
            requests=None if self._requests is None else self._requests.status(),
        )

    def _workers(self) -> int:
        if self._settings.workers != "auto":
            return self._settings.workers
        threads = max(model.engine.threads for model in self._settings.models.values())
        return max(1, (os.cpu_count() or 1) // threads)

    def _open_models(self, opened: ExitStack) -> None:
        """Open every model; those that fail cost only the cameras that use them.

        Raises:
            EdgeRuntimeError: Not one opens.
        """
        bundles: dict[str, ModelBundle] = {}
        # Where there is a door, models that no camera uses are the runtime's, within its memory budget.
        watched = {camera.model for camera in self._settings.cameras.values()}
        for name, wanted in self._settings.models.items():
            if not wanted.here or (self._settings.door is not None and name not in watched):
                continue
            try:
                bundles[name] = bundle_of(wanted)
            except BundleError as error:
                self._fail(name, error)
        self._tasks = {name: bundle.manifest.task for name, bundle in bundles.items()}
        check_labels(self._settings, self._tasks)
        for name, bundle in bundles.items():
            try:
                model = open_settings_model(
                    self._settings.models[name],
                    bundle,
                    self._profile,
                    min_score=LOW_SCORE,
                    callers=self._workers(),
                )
                opened.callback(model.predictor.close)
                model.predictor.warm_up()
                if sum(camera.model == name for camera in self._settings.cameras.values()) > 1:
                    model.predictor.batch = measure_batches(model.predictor)
            except (BundleError, EngineError) as error:
                self._fail(name, error)
                continue
            log.info("model '%s': %s on %s", name, model.choice.variant, model.session.provider)
            self._models[name] = model
        if self.problems and not self._models and self._settings.door is None:
            raise next(iter(self.problems.values()))

    def _fail(self, name: str, error: BundleError | EngineError) -> None:
        log.error("model '%s': %s", name, error)
        self.problems[name] = error

    def _plan(self, settings: AgentSettings, name: str) -> CameraPlan | None:
        """Plan a camera; None where its model did not open."""
        used = settings.cameras[name].model
        model = self._models.get(used)
        if model is None:
            if used not in self.problems:
                raise ConfigError(
                    f"camera '{name}': model '{used}'",
                    expected="one that was open for cameras when the agent started",
                    got="one for requests",
                    do="Restart the agent",
                )
            return None
        return camera_plan(settings, name, model, self._profile.decoding, self._epoch)

    def _start(self, name: str, plan: CameraPlan | None) -> None:
        """Start a camera, or say why it cannot start."""
        if plan is not None:
            self._runtime.add(plan)
            return
        used = self._settings.cameras[name].model
        reason = f"model '{used}': {self.problems[used]}"
        self._failed[name] = CameraStatus(name, CameraState.FAILED, reason)
        site = self._settings.site
        event = CameraStateChanged(
            id=event_id(site, name, self._epoch, "camera_state", "failed", 0),
            site=site,
            camera=name,
            time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            pts_ns=0,
            state="failed",
            reason=reason,
        )
        self._outlets.publish((event,))


def _open_requests(settings: AgentSettings, models: Mapping[str, LocalModel]) -> "Requests | None":
    """Open the door and the runtime behind it; None where the settings want no door."""
    if settings.door is None:
        return None
    # A store of cameras alone does not pay for a server.
    from edge_runtime.agent.requests import Requests  # noqa: PLC0415

    return Requests(settings, models)


def _epoch() -> str:
    """Name this moment."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
