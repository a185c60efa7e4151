"""CameraPlan: everything one camera's way through the pipeline needs, decided before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_runtime.analytics.rules import Line, RuleContext, Zone
from edge_runtime.analytics.tracker import TrackerOptions
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.video.health import HealthOptions
from edge_runtime.video.motion import MotionOptions
from edge_runtime.video.second_stage import StagePlan
from edge_runtime.video.source import SourceSpec
from edge_runtime.video.tape import StreamTape


class Detector(Protocol):
    """What finds objects; shared by cameras, called from several threads."""

    @property
    def batch(self) -> int:
        """Pictures that are cheaper together than alone, at most; 1 where batches do not pay."""
        ...

    def predict_many(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Find the objects in each of up to `batch` pictures.

        Raises:
            EdgeRuntimeError: The model failed on them.
        """
        ...


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera.

    Args:
        source: Where its pictures come from.
        detector: What looks at them.
        context: Names and versions its events carry.
        fps: Inferences a second at most; None: every frame.
        realtime: Read a recording at its own pace, newest frame wins, as if it were live.
        loop: Read a recording again and again.
        deadline_s: Frames older than this when a worker is free are dropped; None: none are.
        motion: When the motion gate opens.
        tracker: How detections become tracks.
        zones: Areas to watch.
        lines: Lines to watch.
        then: Models that look at what the detector found.
        never_look: Polygons that are painted over, as fractions of width and height.
        isolate: Whether another process reads and decodes.
        health: Which faults of a live camera's picture are said; None: it is not looked at.
        tape: Keeps the last packets for clips; None: nobody asks for clips.
    """

    source: SourceSpec
    detector: Detector
    context: RuleContext
    fps: float | None = None
    realtime: bool = False
    loop: bool = False
    deadline_s: float | None = None
    motion: MotionOptions = field(default_factory=MotionOptions)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    then: tuple[StagePlan, ...] = ()
    never_look: tuple[tuple[tuple[float, float], ...], ...] = ()
    isolate: bool = False
    health: HealthOptions | None = None
    tape: StreamTape | None = None

    @property
    def name(self) -> str:
        """The camera's name."""
        return self.source.camera

    @property
    def live(self) -> bool:
        """Whether the newest frame wins."""
        return self.realtime or self.source.live
