"""Runs a video runtime in a test and keeps what it says."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_runtime.analytics.rules import RuleContext
from edge_runtime.contract.event import CameraStateChanged, Event
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import CameraStatus
from edge_runtime.video.plan import CameraPlan
from edge_runtime.video.runtime import VideoRuntime
from edge_runtime.video.source import SourceSpec
from tests.simulators.square_detector import SquareDetector


class Watcher:
    """Keeps what a runtime says."""

    def __init__(self, workers: int = 2) -> None:
        self.scenes: list[Scene] = []
        self.events: list[Event] = []
        self.runtime = VideoRuntime(workers=workers, on_scene=self._scene, on_events=self.events.extend)

    def _scene(self, scene: Scene) -> None:
        self.scenes.append(scene)
        self.events.extend(scene.events)

    def wait(self, until: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.runtime.status()}"
            threading.Event().wait(0.01)

    def finish(self) -> dict[str, CameraStatus]:
        self.wait(self.runtime.finished, "the end")
        self.runtime.close()
        return {status.name: status for status in self.runtime.status()}

    def of(self, camera: str) -> list[Scene]:
        return [scene for scene in self.scenes if scene.frame.camera == camera]

    def states(self, camera: str) -> list[str]:
        return [e.state for e in self.events if isinstance(e, CameraStateChanged) and e.camera == camera]


def plan(
    name: str,
    source: Path | str,
    detector: SquareDetector | None = None,
    *,
    transport: str = "tcp",
    timeout_s: float = 10.0,
    **options: object,
) -> CameraPlan:
    """Plan a camera that looks for squares; `options` are the plan's own."""
    context = RuleContext(site="shop", camera=name, epoch="test", model="square", model_version="1")
    return CameraPlan(
        source=SourceSpec(name, str(source), transport, timeout_s),
        detector=detector or SquareDetector(),
        context=context,
        **options,  # type: ignore[arg-type]
    )
