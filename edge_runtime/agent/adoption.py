"""Adoption: the models of a running agent as their versions come and go; no frame and no request is lost.

Judges no version: `edge_runtime.agent.trial` tries them. Not for two threads at once; the agent's lock sees
to that, but for `listen`.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edge_runtime.agent.camera_models import CameraModels
from edge_runtime.agent.models import detector_of
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.frame import Frame
from edge_runtime.engines.base import Session
from edge_runtime.runtime.bundles import Bundles
from edge_runtime.settings import AgentSettings
from edge_runtime.video.plan import CameraPlan
from edge_runtime.video.runtime import VideoRuntime

if TYPE_CHECKING:
    from edge_runtime.agent.requests import Requests

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Incumbent:
    """What answers now.

    Args:
        bundle: Where it came from.
        variant: What is open of it.
        engine: What runs it.
        session: Its side.
    """

    bundle: ModelBundle
    variant: str
    engine: str
    session: Session


class Adoption:
    """The models that run, as far as versions touch them.

    Args:
        bundles: Opens what settings name, or its version.
        models: Open for cameras.
        video: The cameras.
        requests: The door; None: there is none.
    """

    def __init__(
        self, bundles: Bundles, models: CameraModels, video: VideoRuntime, requests: "Requests | None"
    ) -> None:
        self._bundles = bundles
        self._models = models
        self._video = video
        self._requests = requests

    def users(self, settings: AgentSettings, bundle: str) -> tuple[str, ...]:
        """Find the models that are of a bundle, as the settings call them.

        Args:
            settings: What runs.
            bundle: The name in its manifest.
        """
        found: list[str] = []
        for name, model in settings.models.items():
            if model.bundle is None:
                continue
            try:
                if self._bundles.name_of(model) == bundle:
                    found.append(name)
            except EdgeRuntimeError as error:
                log.warning("model '%s' is not updated: %s", name, error)
        return tuple(found)

    def incumbent(self, name: str) -> Incumbent | None:
        """Give what answers now for a model; None: nothing does."""
        camera = self._models.opened.get(name)
        if camera is not None:
            return Incumbent(camera.bundle, camera.choice.variant, camera.choice.engine, camera.session)
        opened = None if self._requests is None else self._requests.opened(name)
        if opened is None or opened.source is None:
            return None
        # The door asks of a session what a session gives, and no more.
        return Incumbent(opened.source, opened.variant, opened.engine, cast("Session", opened.session))

    def listen(self, settings: AgentSettings, names: Collection[str], give: Callable[[Any], None]) -> None:
        """Show live inputs of models to somebody: pictures of cameras, values of requests."""
        watched = {name for name, camera in settings.cameras.items() if camera.model in names}

        def tap(frame: Frame) -> None:
            if frame.camera in watched:
                give(frame.picture)

        self._video.tap(tap if watched else None)
        if self._requests is not None:
            self._requests.listen(names, give)

    def deafen(self) -> None:
        """Show live inputs to nobody any more."""
        self._video.tap(None)
        if self._requests is not None:
            self._requests.listen((), None)

    def adopt(
        self, settings: AgentSettings, name: str, plan: Callable[[str], CameraPlan | None]
    ) -> tuple[str, ...]:
        """Answer with the version of a model that is in use by now; nothing is done where that is so already.

        Args:
            settings: What runs.
            name: The model, as they call it.
            plan: Plans a camera with the model that is open.

        Returns:
            Cameras that could not start until now, for want of the model.

        Raises:
            EdgeRuntimeError: It does not open; what answered goes on.
        """
        now = self.incumbent(name)
        bundle = self._bundles.open(settings.models[name])
        if now is not None and now.bundle == bundle:
            return ()
        cameras = [camera for camera, wanted in settings.cameras.items() if wanted.model == name]
        old = self._models.opened.get(name)
        if old is None and not cameras:
            if self._requests is not None:
                self._requests.adopt(name, None, lambda: None)
            return ()
        fresh = self._models.open(name, settings, bundle)
        served = self._requests is not None and self._requests.has(name)
        closing = _Last(1 + served, lambda: None if old is None else old.predictor.close())
        if self._requests is not None and served:
            self._requests.adopt(name, fresh, closing.leave)
        self._models.put(name, fresh)
        if old is None:
            return tuple(cameras)
        if not cameras:  # it looks at what others find, and is asked by its name
            closing.leave()
            return ()
        plans: Mapping[str, CameraPlan | None] = {camera: plan(camera) for camera in cameras}
        self._video.swap(
            detector_of(old, name),
            {camera: each for camera, each in plans.items() if each is not None},
            closing.leave,
        )
        log.info("model '%s': version %s from now on", name, bundle.manifest.version)
        return ()


class _Last:
    """Does something when the last of several has left."""

    def __init__(self, count: int, then: Callable[[], None]) -> None:
        self._count = count
        self._then = then
        self._lock = threading.Lock()

    def leave(self) -> None:
        """One has left."""
        with self._lock:
            self._count -= 1
            last = self._count == 0
        if last:
            self._then()
