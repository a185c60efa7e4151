"""Caution: what an agent leaves out, and how slowly it goes, when its last starts died.

Drops the breadcrumbs that tell which camera or model it was. Judges nothing: `starts` does.
"""

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from edge_runtime.agent.starts import StartJournal, Verdict
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.event import CameraStateChanged, Event
from edge_runtime.engines.registry import DEFAULT_PROVIDER
from edge_runtime.settings import AgentSettings

log = logging.getLogger(__name__)

SAFE_FPS = 2.0
"""Inferences a second of each camera in a safe start that does not know what to leave out."""

OPEN_S = 15.0
"""How long a careful start waits for a camera to open or to fail before it opens the next."""


class Caution:
    """How one start goes.

    Args:
        journal: Gets the breadcrumbs; None: nobody wants them.
        verdict: What the last starts say.
    """

    def __init__(self, journal: StartJournal | None = None, verdict: Verdict | None = None) -> None:
        self._journal = journal
        self.verdict = verdict or Verdict()
        self._open = threading.Condition()
        self._opening: set[str] = set()

    @property
    def trouble(self) -> str:
        """What a person must know about this start; empty: it is a usual one."""
        if not self.verdict.safe:
            return ""
        died = f"safe mode: the last {self.verdict.died} starts died early"
        if not self.verdict.left_out:
            return f"{died}; all cameras are slow, on the processor alone, until it is known to be well"
        return f"{died}; left out is what was being opened: {', '.join(self.verdict.left_out)}"

    @property
    def slow(self) -> bool:
        """Whether everything is to be slow and simple, because nobody knows what to leave out."""
        return self.verdict.safe and not self.verdict.left_out

    def why_not(self, kind: str, name: str) -> str:
        """Say why a camera or a model is left out; empty: it is not."""
        if f"{kind} {name}" not in self.verdict.left_out:
            return ""
        return (
            f"left out in safe mode: the last {self.verdict.died} starts died while it was being opened;"
            " a changed settings file, or a steady while, brings it back"
        )

    @contextmanager
    def model(self, name: str) -> Generator[None, None, None]:
        """Drop a breadcrumb while a model is opened and run for the first time."""
        crumb = f"model {name}"
        if self._journal is not None:
            self._journal.drop_crumb(crumb)
        try:
            yield
        finally:
            if self._journal is not None:
                self._journal.pick_crumb(crumb)

    def before_camera(self, name: str) -> None:
        """Drop a breadcrumb before a camera is opened."""
        if self._journal is not None:
            with self._open:
                self._opening.add(name)
            self._journal.drop_crumb(f"camera {name}")

    def after_camera(self, name: str) -> None:
        """In a careful start: wait until the camera has opened or failed, before the next one may."""
        if self._journal is not None and self.verdict.careful:
            with self._open:
                self._open.wait_for(lambda: name not in self._opening, OPEN_S)

    def pass_on(self, publish: Callable[[tuple[Event, ...]], None], events: tuple[Event, ...]) -> None:
        """Hear events on their way."""
        self.hear(events)
        publish(events)

    def hear(self, events: tuple[Event, ...]) -> None:
        """Erase the breadcrumbs of cameras that have opened or failed."""
        if self._journal is None or not self._opening:
            return
        for event in events:
            if isinstance(event, CameraStateChanged) and event.camera in self._opening:
                self._journal.pick_crumb(f"camera {event.camera}")
                with self._open:
                    self._opening.discard(event.camera)
                    self._open.notify_all()

    def settings(self, settings: AgentSettings) -> AgentSettings:
        """Give the settings to start with."""
        if not self.slow:
            return settings
        cameras = {
            name: camera.model_copy(update={"fps": min(camera.fps or SAFE_FPS, SAFE_FPS)})
            for name, camera in settings.cameras.items()
        }
        models = {
            name: model.model_copy(update={"engine": model.engine.model_copy(update={"providers": ()})})
            for name, model in settings.models.items()
        }
        return settings.model_copy(update={"cameras": cameras, "models": models})

    def profile(self, profile: DeviceProfile) -> DeviceProfile:
        """Give the device to start with: in doubt without what is not its processor."""
        if not self.slow:
            return profile
        engines = tuple(
            engine.model_copy(update={"providers": (DEFAULT_PROVIDER[engine.engine],)})
            for engine in profile.engines
        )
        decoding = profile.decoding.model_copy(update={"hardware": None})
        return profile.model_copy(update={"engines": engines, "decoding": decoding})
