"""Plays a recording into a tape and a sink, as far as a test wants; what a camera and its model do."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_runtime.contract.event import LineCrossed, Subject
from edge_runtime.contract.frame import Frame
from edge_runtime.contract.result import Boxes, Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.base import SceneSink
from edge_runtime.video.clock import StreamClock
from edge_runtime.video.source import SourceSpec, VideoSource
from edge_runtime.video.tape import StreamTape
from tests.simulators.square_detector import LABELS, find

START_NS = 1_769_860_800_000_000_000
"""2026-01-31 12:00:00 UTC is source time 0."""

MARGIN_PX = 3


class Player:
    """One camera that plays a file.

    Args:
        tape: Gets its packets; already wanted by somebody.
        path: The file.
        sink: Shown the pictures that are looked at.
        looks: Whether the model looks at the picture of a number.
    """

    def __init__(
        self,
        tape: StreamTape,
        path: Path,
        sink: SceneSink | None = None,
        looks: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.tape = tape
        self.pts_ns = 0
        self._sink = sink
        self._looks = looks
        self._path = path
        self._source = VideoSource(SourceSpec("door", str(path)), tape)
        self._frames = self._source.frames()
        self._clock = StreamClock(live=True, period_ns=self._source.period_ns)
        self._away_ns = 0
        self._index = 0
        tape.reset()

    def play(self, until_s: float = 1e9) -> "Player":
        """Go on until the picture at a time has been shown, or to the end."""
        for decoded in self._frames:
            if decoded.picture is None or decoded.source_ns is None:
                continue
            stamp = self._clock.stamp(
                decoded.source_ns, arrived_ns=self._away_ns, wall_ns=START_NS, on_time=False
            )
            self.tape.stamped(decoded.source_ns, stamp)
            self.pts_ns = stamp.pts_ns
            frame = Frame("door", self._index, stamp.pts_ns, stamp.time_ns, 0, decoded.picture)
            if self._sink is not None and self._looks(self._index):
                self.tape.moved()
                self._sink.show(scene(frame, hidden(frame)))
            self._index += 1
            if self.pts_ns >= until_s * 1e9:
                break
        return self

    def reopen(self, away_s: float) -> None:
        """Lose the stream, and have it again, from its beginning, after a while."""
        self._source.close()
        self._source = VideoSource(SourceSpec("door", str(self._path)), self.tape)
        self._frames = self._source.frames()
        self._clock.reopen()
        self._away_ns += round(away_s * 1e9)

    def close(self) -> None:
        self._source.close()


def hidden(frame: Frame) -> Boxes:
    """Where the square is, a little wider."""
    boxes = find(frame.picture).boxes
    return (boxes + np.array([-MARGIN_PX, -MARGIN_PX, MARGIN_PX, MARGIN_PX])).astype(np.float32)


def scene(frame: Frame, boxes: Boxes, *events: LineCrossed) -> Scene:
    return Scene(frame, Tracks.empty(LABELS), {}, {}, events, found=find(frame.picture), hidden=boxes)


def crossed(number: int, at_s: float, camera: str = "door") -> LineCrossed:
    """Somebody crosses a line."""
    seconds, milliseconds = divmod(round(at_s * 1000), 1000)
    return LineCrossed(
        id=f"{number:032x}",
        site="shop",
        camera=camera,
        time=f"2026-01-31T12:{seconds // 60:02d}:{seconds % 60:02d}.{milliseconds:03d}Z",
        pts_ns=round(at_s * 1e9),
        model="square",
        model_version="1",
        subject=Subject(track=1, label="square", confidence=0.9, box=(0, 0, 1, 1)),
        line="door",
        direction="a_to_b",
        name="in",
    )


def wait_for(status: Callable[[], SinkStatus], done: Callable[[SinkStatus], bool]) -> SinkStatus:
    """Wait until a sink has done something."""
    deadline = time.monotonic() + 60
    while not done(status()):
        assert time.monotonic() < deadline, f"waited in vain: {status()}"
        time.sleep(0.01)
    return status()
