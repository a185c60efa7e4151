"""Agent: opens what the settings name, wires cameras to sinks and the door to models, until told to stop.

Decides nothing about frames, tracks, events or routes.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import psutil

from edge_runtime.agent.adoption import Adoption
from edge_runtime.agent.audited import AgentAudit
from edge_runtime.agent.camera_models import CameraModels
from edge_runtime.agent.caution import Caution
from edge_runtime.agent.changes import Changes, compare
from edge_runtime.agent.memory import Upkeep
from edge_runtime.agent.opening import failed_camera, join_fleet, open_requests, this_moment
from edge_runtime.agent.outlets import Outlets
from edge_runtime.agent.paging import open_page
from edge_runtime.agent.plans import camera_plan
from edge_runtime.agent.pressure import Relief
from edge_runtime.agent.running import Member, Running
from edge_runtime.agent.state_lock import StateLock
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import BundleError, ConfigError, EdgeRuntimeError, EngineError
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import AgentStatus, CameraState, CameraStatus
from edge_runtime.local_model import this_device
from edge_runtime.runtime.bundles import Bundles, bundles_of
from edge_runtime.runtime.models import workers_of
from edge_runtime.settings import AgentSettings, FleetSettings, check_labels, load_with
from edge_runtime.video.plan import CameraPlan
from edge_runtime.video.runtime import VideoRuntime

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
"""How often the agent looks whether it is through, and says how it is doing."""


class Agent:
    """One store's cameras, models, sinks and door, running from the moment it is made.

    Args:
        settings: What to run.
        store: The file that they came from; None: there is none, so that a fleet cannot send others.
        join: Makes it one of the fleet that they name.
        trouble: Why it does not run as it should; empty: it does.
        caution: What it leaves out because its last starts died; None: nothing.

    Raises:
        EdgeRuntimeError: Nothing can run: no model opens, a label is none of its model's, a sink cannot
            be made, the door's address is taken.
    """

    def __init__(
        self,
        settings: AgentSettings,
        store: Path | None = None,
        join: Callable[[FleetSettings, Running], Member] = join_fleet,
        *,
        trouble: str = "",
        caution: Caution | None = None,
    ) -> None:
        self._caution = caution or Caution()
        settings = self._caution.settings(settings)
        self._settings = settings
        self._store = store
        self._changing = threading.RLock()
        """Held by whoever changes what runs: settings, versions, commands."""
        self._started_s = time.monotonic()
        self._cpu_s = time.process_time()
        self._process = psutil.Process()
        self._epoch = this_moment()
        self._trouble = "; ".join(why for why in (trouble, self._caution.trouble) if why)
        if self._caution.trouble:
            log.error("%s", self._caution.trouble)
        self.wants_restart = False
        """Whether `run` ended because settings of a fleet need another agent."""
        self._later: tuple[str, ...] = ()
        """Blocks of settings that wait for a restart."""
        self._failed: dict[str, CameraStatus] = {}
        # Workers run side by side, one a core: a library's own threads below them only get in the way.
        cv2.setNumThreads(1)
        self._upkeep = Upkeep()
        with ExitStack() as opened:
            self._profile = self._caution.profile(this_device(settings.profile))
            if settings.fleet is not None:
                lock = StateLock(settings.fleet.folder, "fleet.folder", "updates.lock")
                opened.callback(lock.close)
            self._bundles = bundles_of(settings)
            self._models = CameraModels(self._profile, self._bundles, workers_of(settings, self._profile))
            opened.callback(self._models.close)
            self._models.open_all(settings, self._caution)
            self.audit = opened.enter_context(closing(AgentAudit(settings)))
            self._outlets = Outlets(settings, partial(self._models.detect, settings.privacy.faces))
            opened.callback(self._outlets.close)
            self._runtime = VideoRuntime(
                workers=workers_of(settings, self._profile),
                on_scene=self._outlets.show,
                on_events=partial(self._caution.pass_on, self._outlets.publish),
            )
            opened.callback(self._runtime.close)
            degrade = settings.degrade
            self._relief = None if degrade is None else Relief(degrade, self._profile.thermal)
            self._requests = open_requests(settings, self._models.opened, self._outlets)
            if self._requests is not None:
                opened.callback(self._requests.close)
            self.page = open_page(self, store, self._outlets, self._models, self._requests)
            if self.page is not None:
                opened.callback(self.page.close)
            self.adoption = Adoption(self._bundles, self._models, self._runtime, self._requests)
            plans = {name: self._plan(settings, name) for name in settings.cameras}
            for name, plan in plans.items():
                self._start(name, plan)
            self._fleet = None if settings.fleet is None else join(settings.fleet, self)
            if self._fleet is not None:
                opened.callback(self._fleet.close)
                self._fleet.start()
            self._opened = opened.pop_all()

    @property
    def _stays(self) -> bool:
        """Whether it goes on when every recording has ended: somebody asks it, or sends it more."""
        return self._requests is not None or self._fleet is not None

    @property
    def settings(self) -> AgentSettings:
        """What runs now."""
        return self._settings

    @property
    def profile(self) -> DeviceProfile:
        """This device."""
        return self._profile

    @property
    def bundles(self) -> Bundles:
        """What opens bundles here."""
        return self._bundles

    def last_scene(self, camera: str) -> Scene | None:
        """Give a camera's newest scene, marked as `privacy.blur` says; None: none yet, or no such camera."""
        return self._outlets.last_scene(camera)

    def recordings(self, event: str, camera: str, moment: str) -> tuple[Path, ...]:
        """Find the clips and snapshots of an event; none: there are none, yet or any more.

        Args:
            event: Its id.
            camera: Its camera.
            moment: Its time, as it says it.
        """
        return self._outlets.recordings.find(event, camera, moment)

    @property
    def problems(self) -> Mapping[str, BundleError | EngineError]:
        """Models that did not open, and why."""
        return self._models.problems

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
            while (
                not stop.is_set() and not self.wants_restart and (self._stays or not self._runtime.finished())
            ):
                self._ease()
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
            wanted: The new settings. What they change besides cameras and routes waits for a restart.

        Returns:
            What was done, and what waits.

        Raises:
            EdgeRuntimeError: They are wrong; nothing has changed.
        """
        with self._changing:
            changes = compare(self._settings, wanted)
            settings = changes.settings
            check_labels(settings, self._models.tasks)
            # A moment of a camera that starts anew must not share an id with one from before.
            self._epoch = this_moment()
            plans = {name: self._plan(settings, name) for name in (*changes.added, *changes.replaced)}
            if changes.routed and self._requests is not None:
                self._requests.reroute(settings)
                self._outlets.reroute(settings)
            self._settings, self._later = settings, changes.later
            self.audit.changed(settings)
            self._replace(plans, (*changes.removed, *changes.replaced))
        return changes

    def check(self, wanted: AgentSettings) -> None:
        """Say what `apply` would refuse, and change nothing.

        Raises:
            ConfigError: They are wrong.
        """
        with self._changing:
            changes = compare(self._settings, wanted)
            check_labels(changes.settings, self._models.tasks)
            for name in (*changes.added, *changes.replaced):
                self._plan(changes.settings, name)

    def load(self, sent: Path | None) -> AgentSettings:
        """Read the store's file again, with settings of the fleet in place of its own.

        Args:
            sent: Those settings; None: the file alone.

        Raises:
            ConfigError: They are wrong, or this agent has no file.
        """
        if self._store is None:
            raise ConfigError("settings from a fleet", expected="an agent started from a file", got="none")
        return load_with(self._store, sent)

    def restart_soon(self) -> None:
        """End `run`: what has changed takes another agent. Whoever runs this one starts that."""
        self.wants_restart = True

    def restart(self, camera: str | None = None) -> None:
        """Open a camera's source anew, tracks and counts with it; None: of all.

        Raises:
            ConfigError: There is no such camera.
        """
        with self._changing:
            if camera is not None and camera not in self._settings.cameras:
                known = ", ".join(sorted(self._settings.cameras)) or "none"
                raise ConfigError(f"camera '{camera}'", expected=f"one of {known}", got=camera)
            names = tuple(self._settings.cameras) if camera is None else (camera,)
            self._epoch = this_moment()
            self._replace({name: self._plan(self._settings, name) for name in names}, names)

    def adopt(self, bundle: str) -> None:
        """Answer with the version of a bundle, and with the labels, that are in use by now.

        Args:
            bundle: The name in its manifest.

        Raises:
            EdgeRuntimeError: It does not open; what answered goes on.
        """
        with self._changing:
            for name in self.adoption.users(self._settings, bundle):
                late = self.adoption.adopt(
                    self._settings, name, lambda camera: self._plan(self._settings, camera)
                )
                self._replace({camera: self._plan(self._settings, camera) for camera in late}, late)

    def _replace(self, plans: Mapping[str, CameraPlan | None], leaving: tuple[str, ...]) -> None:
        """Stop cameras, and start others."""
        self._runtime.remove(*leaving)
        for name in leaving:
            self._failed.pop(name, None)
        self._outlets.watch(self._settings.cameras, away=leaving)
        for name, plan in plans.items():
            self._start(name, plan)

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

    def stuck_s(self) -> float:
        """Tell for how long an inference has not come back, in seconds; infinite: nothing moves at all."""
        return self._runtime.stuck_s()

    def _ease(self) -> None:
        """Give up what the machine cannot afford, and take it back when it can again."""
        self._upkeep.look(time.monotonic())
        if self._relief is not None:
            step = self._relief.look(self._runtime.status(), time.monotonic())
            if step is not None:
                self._runtime.share = step.share
                self._outlets.spare(step.extras)

    def close(self) -> AgentStatus:
        """Stop reading, let what was read go through, hand over events, close everything.

        Returns:
            The last status.
        """
        if self._fleet is not None:
            self._fleet.close()  # first: it changes what runs
        self._runtime.close()
        facts = {
            "Device profile": self._profile.title,
            **{
                f"Model {name}": f"{model.bundle.manifest.name} {model.bundle.manifest.version},"
                f" {model.choice.variant} on {model.choice.engine} ({model.session.provider})"
                for name, model in self._models.opened.items()
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
            fleet=None if self._fleet is None else self._fleet.status(),
            later=self._later,
            store=self._outlets.store_status(),
            trouble=self._trouble,
            level=0 if self._relief is None else self._relief.ladder.level,
            level_reason="" if self._relief is None else self._relief.ladder.reason,
        )

    def _plan(self, settings: AgentSettings, name: str) -> CameraPlan | None:
        """Plan a camera; None where its model did not open, or it is left out."""
        used = settings.cameras[name].model
        if self._caution.why_not("camera", name):
            return None
        model = self._models.opened.get(used)
        if model is None:
            if used not in self.problems:
                raise ConfigError(
                    f"camera '{name}': model '{used}'",
                    expected="one that was open for cameras when the agent started",
                    got="one for requests",
                    do="Restart the agent",
                )
            return None
        then = self._models.stages(settings.cameras[name])
        tape, decoding = self._outlets.recordings.tape(name), self._profile.decoding
        return camera_plan(settings, name, model, decoding, self._epoch, then=then, tape=tape)

    def _start(self, name: str, plan: CameraPlan | None) -> None:
        """Start a camera, or say why it cannot start."""
        if plan is not None:
            self._caution.before_camera(name)
            self._runtime.add(plan)
            self._caution.after_camera(name)
            return
        used = self._settings.cameras[name].model
        reason = self._caution.why_not("camera", name) or f"model '{used}': {self.problems[used]}"
        self._failed[name] = CameraStatus(name, CameraState.FAILED, reason)
        self._outlets.publish((failed_camera(self._settings.site, name, self._epoch, reason),))
