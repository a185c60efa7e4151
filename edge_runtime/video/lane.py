"""Lane: what one camera's results go through in order: tracker, other models, rules.

Not safe for two threads at once; the pipeline's claim sees to that. Looks at no clock.
"""

from edge_runtime.analytics.rules import Rules
from edge_runtime.analytics.tracker import Tracker
from edge_runtime.contract.event import Event
from edge_runtime.contract.frame import Frame
from edge_runtime.contract.result import Detections
from edge_runtime.contract.scene import Scene
from edge_runtime.video.plan import CameraPlan
from edge_runtime.video.second_stage import SecondStage


class Lane:
    """The tracker and the rules of one camera."""

    def __init__(self, plan: CameraPlan) -> None:
        self._tracker = Tracker(plan.tracker)
        self._rules = Rules(plan.zones, plan.lines, plan.context, lost_after_s=plan.tracker.max_lost_s)
        self._stage = SecondStage(plan.then)
        self._size: tuple[int, int] | None = None
        """Height and width of the last frame's picture, which itself is let go; None: there was none."""
        self._times = 0, 0
        self.occupied = False
        """Whether the last frame had tracked objects; read by the camera's thread."""

    def adopt(self, plan: CameraPlan) -> None:
        """Go on with another model's names and scores; objects, zones and counts stay. From any thread."""
        self._tracker.options = plan.tracker
        self._rules.context = plan.context

    def step(self, frame: Frame, detections: Detections) -> Scene:
        """Follow the objects into one more frame and say what that means."""
        picture = frame.picture
        self._fit(frame)
        tracks = self._tracker.update(detections, frame.pts_ns)
        attributes = self._rules.attributes = self._stage.look(frame, tracks)
        events = self._rules.update(
            tracks, height=picture.height, width=picture.width, pts_ns=frame.pts_ns, time_ns=frame.time_ns
        )
        self._times = frame.pts_ns, frame.time_ns
        self.occupied = len(tracks) > 0
        return Scene(
            frame, tracks, self._rules.occupancy, self._rules.crossings, events, detections, attributes
        )

    def still(self, frame: Frame) -> tuple[Event, ...]:
        """Go on in time without a look: nothing moved, so everybody is where they were."""
        self._fit(frame)
        tracks = self._tracker.still(frame.pts_ns)
        if tracks is None:
            return ()
        picture = frame.picture
        self._times = frame.pts_ns, frame.time_ns
        return self._rules.update(
            tracks, height=picture.height, width=picture.width, pts_ns=frame.pts_ns, time_ns=frame.time_ns
        )

    def _fit(self, frame: Frame) -> None:
        """Go on with the same objects when the camera changes its resolution."""
        old, new = self._size, (frame.picture.height, frame.picture.width)
        self._size = new
        if old is not None and old != new:
            self._tracker.rescale(new[1] / old[1], new[0] / old[0])

    def finish(self) -> tuple[Event, ...]:
        """Close the stays that are open when the stream is over."""
        return () if self._size is None else self._rules.finish(*self._times)
