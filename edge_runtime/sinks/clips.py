"""Clips: the moment before and after an event as a video file, of the packets that the camera sent.

Taking an event only orders a clip: what comes after the event has yet to come. A killed process may lose
clips in the making, never an event. Decodes nothing where nothing is to be hidden.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.analytics.hidden import HiddenHistory
from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.errors import EdgeRuntimeError, StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.clip_take import ClipSource, Hider, Take
from edge_runtime.sinks.shelf import Shelf

log = logging.getLogger(__name__)

_POLL_S = 0.2
"""How often packets are taken over into files: a kill costs this much more than the last fragment."""
_TIDY_S = 600.0
_NICE = 10
_HURRY_S, _CLOSE_S = 8.0, 10.0
"""How long encoding may go on after `close`, and how long that waits."""
_LATE_S = 120.0
"""A clip whose pictures are hidden may wait this long to be encoded before what was hidden is forgotten."""


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """Of what there are clips, and how long they are.

    Args:
        events: Kinds of events that get one.
        pre_s: Seconds before the event.
        post_s: Seconds after it.
        longest_s: Events that come while a clip goes on make it longer, up to this.
        blur: What is hidden in its pictures.
    """

    events: frozenset[str]
    pre_s: float = 5.0
    post_s: float = 5.0
    longest_s: float = 60.0
    blur: Blur = Blur.NOTHING


class ClipSink:
    """Writes clips. An `EventSink`, and a `SceneSink` that learns what is hidden.

    Args:
        shelf: Where they go.
        options: Which and how long.
        name: What statuses and messages call this sink.
    """

    def __init__(self, shelf: Shelf, options: ClipOptions, *, name: str = "clips") -> None:
        self.name = name
        self._shelf = shelf
        self._options = options
        self._sources: Mapping[str, ClipSource] = {}
        self._looks: dict[str, HiddenHistory] = {}
        self._takes: list[Take] = []
        self._written = self._dropped = 0
        self._trouble = ""
        self._closing = False
        self._closed_s = 0.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}-files", daemon=True)
        self._thread.start()

    def watch(self, sources: Mapping[str, ClipSource], *, away: Collection[str] = ()) -> None:
        """Make clips of these cameras from now on.

        Args:
            sources: By camera.
            away: Cameras that ran and were stopped, even to start anew.
        """
        with self._changed:
            self._sources = dict(sources)
            for camera in away:
                self._looks.pop(camera, None)

    def write(self, events: Sequence[Event]) -> None:
        """Order clips; takes every event at once, and never refuses one."""
        with self._changed:
            for event in events:
                if event.type in self._options.events and event.camera in self._sources:
                    self._order(event, self._sources[event.camera])
            self._changed.notify_all()

    def show(self, scene: Scene) -> None:
        """Learn what is hidden in a picture."""
        camera, picture = scene.frame.camera, scene.frame.picture
        with self._changed:
            source = self._sources.get(camera)
            if source is not None and self._hides(source):
                looks = self._looks_at(camera)
                looks.look(scene.frame.pts_ns, scene.hidden, height=picture.height, width=picture.width)

    def sync(self) -> None:
        """Nothing: a clip is on the disk when it has its name."""

    def status(self) -> SinkStatus:
        """Say how many events have their clip, wait for it, and have none."""
        with self._changed:
            streams = (
                f"camera '{camera}': {source.tape.trouble}"
                for camera, source in self._sources.items()
                if source.tape.trouble
            )
            return SinkStatus(
                self.name,
                written=self._written,
                waiting=sum(len(take.events) for take in self._takes),
                dropped=self._dropped,
                trouble="; ".join(filter(None, (self._trouble, *streams))),
                what="recordings",
            )

    def find(self, event: str, camera: str, moment: str) -> Path | None:
        """Find the clip that shows an event.

        Args:
            event: Its id.
            camera: Its camera.
            moment: Its time, as it says it.

        Returns:
            The file; None: there is none (yet, or any more).
        """
        return self._shelf.find(event, camera, moment, self._options.longest_s)

    def close(self) -> None:
        """Finish what is in the making, with what has come by now. Idempotent."""
        with self._changed:
            if not self._closing:
                self._closing, self._closed_s = True, time.monotonic() + _HURRY_S
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _hides(self, source: ClipSource) -> bool:
        return self._options.blur is not Blur.NOTHING or source.paint is not None

    def _looks_at(self, camera: str) -> HiddenHistory:
        looks = self._looks.get(camera)
        if looks is None:
            options = self._options
            keep_s = options.pre_s + options.longest_s + _LATE_S
            looks = self._looks[camera] = HiddenHistory(options.blur, keep_s)
        return looks

    def _order(self, event: Event, source: ClipSource) -> None:
        """Begin a clip, or let one go on; with the lock held."""
        off_s, options = source.tape.exact_s, self._options
        pre_ns, post_ns, longest_ns = (
            round(seconds * 1e9)
            for seconds in (options.pre_s + off_s, options.post_s + off_s, options.longest_s)
        )
        going_on = (take for take in self._takes if take.camera == event.camera)
        if any(take.extend(event.id, event.pts_ns, post_ns) for take in going_on):
            return
        feed = None if self._closing else source.tape.follow(max(0, event.pts_ns - pre_ns))
        if feed is None:
            self._lose(1, f"camera '{event.camera}': no packets of {event.time} are kept")
            return
        end_ns = event.pts_ns + post_ns
        take = Take(
            event.camera,
            event.time,
            [event.id],
            end_ns,
            max(end_ns, event.pts_ns - pre_ns + longest_ns),
            source,
            feed,
            self._looks_at(event.camera) if self._hides(source) else None,
            time.monotonic(),
        )
        self._takes.append(take)

    def _run(self) -> None:
        if sys.platform == "linux":  # which knows threads here; cameras come first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        self._safely(self._shelf.open)
        tidied_s = time.monotonic()
        while True:
            with self._changed:
                if not self._closing:
                    self._changed.wait(_POLL_S if self._takes else _TIDY_S)
                takes, closing = tuple(self._takes), self._closing
            for take in takes:
                self._advance(take, closing=closing)
            if closing:
                return
            if time.monotonic() - tidied_s >= _TIDY_S:
                tidied_s = time.monotonic()
                self._safely(self._shelf.tidy)

    def _advance(self, take: Take, *, closing: bool) -> None:
        """Write what has come of a clip, and put it into its place once it is through."""
        blurred = self._options.blur is not Blur.NOTHING
        with self._changed:
            over = take.over(time.monotonic(), wait_for_look=blurred)
            take.complete = closing or over
            looks = None if take.looks is None or not take.complete else take.looks.copy()
        if take.looks is not None and looks is None:
            return
        try:
            if looks is None:
                take.copy(self._shelf)
            else:
                take.hide(self._shelf, Hider(take, looks, blurred=blurred), self._in_a_hurry)
            if not take.complete:
                return
            take.finish(self._shelf)
        except EdgeRuntimeError as error:
            self._end(take, str(error))
        except Exception as error:
            log.exception("sink %s failed", self.name)
            self._end(take, f"{error!r}. This is a fault of the sink itself; see the log")
        else:
            self._end(take, "")

    def _in_a_hurry(self) -> bool:
        return self._closing and time.monotonic() > self._closed_s

    def _end(self, take: Take, trouble: str) -> None:
        with self._changed:
            take.complete = True
            self._takes = [other for other in self._takes if other is not take]
            if trouble:
                self._lose(len(take.events), trouble)
            else:
                self._written += len(take.events)
                self._trouble = ""
        if trouble:
            self._safely(take.drop)
        else:
            take.feed.close()

    def _lose(self, events: int, trouble: str) -> None:
        self._dropped += events
        if trouble != self._trouble:
            log.warning("sink %s: %s", self.name, trouble)
        self._trouble = trouble

    def _safely(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, StorageError) as error:
            log.warning("sink %s: %s", self.name, error)
            with self._changed:
                self._trouble = str(error)
