"""Snapshots: a JPEG of the moment of an event.

Draws and encodes on a thread of its own; a camera waits for it never. Makes no thumbnails and shows nothing.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge_runtime.contract.errors import EdgeRuntimeError, StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.frame import Plane
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.drawing import Overlay, picture_of, still
from edge_runtime.sinks.shelf import Shelf

log = logging.getLogger(__name__)

_WAITING = 16
"""Events that wait for their picture; each may keep a decoded one alive."""
_SCENE_S = 1.0
"""An event waits this long for the picture that caused it, and then gets the camera's last one."""
_TIDY_S = 600.0
_CLOSE_S = 10.0
_QUALITY = 88


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """Of what there are snapshots, and what is in them.

    Args:
        events: Kinds of events that get one.
        height: Pixels; the width follows.
        drawn: Whether boxes, zones and lines are drawn in.
    """

    events: frozenset[str]
    height: int = 480
    drawn: bool = True


@dataclass(slots=True)
class _Order:
    event: Event
    since_s: float
    scene: Scene | None = None


class SnapshotSink:
    """Writes snapshots. An `EventSink`, and a `SceneSink` that brings the pictures.

    Args:
        shelf: Where they go.
        options: Which, and how.
        overlays: What each camera watches, by name; read anew for each picture.
        name: What statuses and messages call this sink.
    """

    def __init__(
        self,
        shelf: Shelf,
        options: SnapshotOptions,
        overlays: Mapping[str, Overlay],
        *,
        name: str = "snapshots",
    ) -> None:
        self.name = name
        self._shelf = shelf
        self._options = options
        self._overlays = overlays
        self._cameras: Collection[str] = ()
        self._orders: deque[_Order] = deque()
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        """Of events that are on their way to `write`."""
        self._last: dict[str, Scene] = {}
        self._written = self._dropped = 0
        self._trouble = ""
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}-files", daemon=True)
        self._thread.start()

    def watch(
        self, cameras: Collection[str], overlays: Mapping[str, Overlay], *, away: Collection[str] = ()
    ) -> None:
        """Take these cameras from now on.

        Args:
            cameras: Only these.
            overlays: As for the constructor.
            away: Cameras that ran and were stopped, even to start anew.
        """
        with self._changed:
            self._cameras, self._overlays = cameras, overlays
            for camera in away:
                self._last.pop(camera, None)

    def write(self, events: Sequence[Event]) -> None:
        """Order snapshots; takes every event at once, and never refuses one."""
        with self._changed:
            for event in events:
                if event.type not in self._options.events or event.camera not in self._cameras:
                    continue
                if len(self._orders) >= _WAITING:
                    self._orders.popleft()
                    self._lose("more events than pictures can be written of")
                self._orders.append(_Order(event, time.monotonic(), self._scenes.pop(event.id, None)))
            self._changed.notify_all()

    def show(self, scene: Scene) -> None:
        """Remember a camera's newest picture, and give it to the events that it caused."""
        with self._changed:
            if scene.frame.camera not in self._cameras:
                return
            self._last[scene.frame.camera] = scene
            wanted = {event.id for event in scene.events if event.type in self._options.events}
            for order in self._orders:
                if order.event.id in wanted:
                    order.scene = scene
                    wanted.discard(order.event.id)
            self._scenes |= dict.fromkeys(wanted, scene)
            while len(self._scenes) > _WAITING:
                self._scenes.popitem(last=False)
            if scene.events:
                self._changed.notify_all()

    def sync(self) -> None:
        """Nothing: a snapshot is on the disk when it has its name."""

    def status(self) -> SinkStatus:
        """Say how many events have their snapshot, wait for it, and have none."""
        with self._changed:
            return SinkStatus(
                self.name,
                written=self._written,
                waiting=len(self._orders),
                dropped=self._dropped,
                trouble=self._trouble,
                what="recordings",
            )

    def find(self, event: str, camera: str, moment: str) -> Path | None:
        """Find the snapshot of an event; as `ClipSink.find`."""
        return self._shelf.find(event, camera, moment, 0.0)

    def close(self) -> None:
        """Write what is ordered. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        self._safely(self._shelf.open)
        tidied_s = time.monotonic()
        while True:
            with self._changed:
                order = self._next()
                if order is None and self._closing:
                    return
                if order is None:
                    self._changed.wait(_SCENE_S if self._orders else _TIDY_S)
            if order is not None:
                self._take(order)
            if time.monotonic() - tidied_s >= _TIDY_S:
                tidied_s = time.monotonic()
                self._safely(self._shelf.tidy)

    def _next(self) -> _Order | None:
        """Take an order that has its picture, or has waited long enough; with the lock held."""
        for order in self._orders:
            if order.scene is None and (self._closing or time.monotonic() - order.since_s >= _SCENE_S):
                order.scene = self._last.get(order.event.camera)
                if order.scene is None:
                    self._orders.remove(order)
                    self._lose(f"camera '{order.event.camera}' has no picture of {order.event.time}")
                    return self._next()
            if order.scene is not None:
                self._orders.remove(order)
                return order
        return None

    def _take(self, order: _Order) -> None:
        try:
            self._write(order)
        except EdgeRuntimeError as error:
            trouble = str(error)
        except Exception as error:
            log.exception("sink %s failed", self.name)
            trouble = f"{error!r}. This is a fault of the sink itself; see the log"
        else:
            trouble = ""
        with self._changed:
            if trouble:
                self._lose(trouble)
            else:
                self._written += 1
                self._trouble = ""

    def _write(self, order: _Order) -> None:
        event, scene = order.event, order.scene
        if scene is None:
            return
        part = self._shelf.part(event.camera, event.id, event.time)
        try:
            part.write_bytes(_jpeg(self._image(scene)))
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StorageError(
                f"{part.parent}: a snapshot cannot be written",
                got=error.strerror or str(error),
                do="Free the disk or allow this user to write there",
            ) from error
        self._shelf.keep(part, (event.id,))

    def _image(self, scene: Scene) -> Plane:
        height = min(self._options.height, scene.frame.picture.height)
        if not self._options.drawn:
            return picture_of(scene, height)
        return still(scene, self._overlays.get(scene.frame.camera, Overlay()), height=height)

    def _safely(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, StorageError) as error:
            log.warning("sink %s: %s", self.name, error)
            with self._changed:
                self._trouble = str(error)

    def _lose(self, trouble: str) -> None:
        self._dropped += 1
        if trouble != self._trouble:
            log.warning("sink %s: %s", self.name, trouble)
        self._trouble = trouble


def _jpeg(image: Plane) -> bytes:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()
