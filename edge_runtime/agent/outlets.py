"""Outlets: the sinks that the settings name, and what goes to which.

Knows every sink's adapter and no camera, model or rule. A picture sink that fails is left out from then on;
events are the hub's business, which never gives up on one.
"""

import logging
import re
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.agent.announcing import announcer_of, plan_of
from edge_runtime.agent.forwarders import forwarder_of
from edge_runtime.agent.page_feed import page_sinks
from edge_runtime.agent.plans import is_live, overlay
from edge_runtime.agent.recordings import Recordings
from edge_runtime.agent.state_lock import StateLock
from edge_runtime.agent.veils import FindFaces, Veils
from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.errors import EdgeRuntimeError, StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import AgentStatus, SinkStatus, StoreStatus
from edge_runtime.protocol import answers, json_document
from edge_runtime.routing.contents import answer_contents
from edge_runtime.routing.privacy import Gate
from edge_runtime.settings import (
    AgentSettings,
    CameraSettings,
    ClipsSinkSettings,
    JsonlSinkSettings,
    MqttSinkSettings,
    ReportSinkSettings,
    SinkSettings,
    SnapshotsSinkSettings,
    VideoSinkSettings,
)
from edge_runtime.settings.outgoing import (
    KafkaSinkSettings,
    OutgoingSinkSettings,
    RedisSinkSettings,
    WebhookSinkSettings,
)
from edge_runtime.sinks.annotated_video import AnnotatedVideo
from edge_runtime.sinks.base import EventSink, SceneSink, StatusSink
from edge_runtime.sinks.drawing import Overlay
from edge_runtime.sinks.hub import EventHub
from edge_runtime.sinks.jsonl import JsonlSink
from edge_runtime.sinks.mqtt import MqttOptions, MqttSink, Tls
from edge_runtime.sinks.report import ReportSink

if TYPE_CHECKING:
    from edge_runtime.agent.counting import Counting
    from edge_runtime.runtime.late import LateAnswer

log = logging.getLogger(__name__)


class Outlets:
    """Every sink of a store.

    Args:
        settings: The store's.
        faces: Finds faces in a picture; None: no sink hides them.

    Raises:
        EdgeRuntimeError: A sink cannot be made: a certificate is unreadable, …
    """

    def __init__(self, settings: AgentSettings, faces: FindFaces | None = None) -> None:
        self.veils = Veils(settings.privacy, faces)
        self._settings = settings
        self._last: dict[str, tuple[Scene | None, Scene]] = {}
        """Each camera's newest scene, marked where a sink has it so, and as it came."""
        self._overlays = {name: overlay(camera) for name, camera in settings.cameras.items()}
        events: list[EventSink] = []
        self._scenes: list[tuple[Blur, SceneSink]] = []
        self._statuses: list[StatusSink] = []
        self._reports: list[ReportSink] = []
        self._videos: list[tuple[VideoSinkSettings, AnnotatedVideo]] = []
        self._lock = threading.Lock()
        self._brokers: list[MqttSink] = []
        self._answers: list[MqttSink] = []
        self.recordings = Recordings()
        self._closed = False
        self._extras = True
        self._answering = threading.Lock()
        """Held while an answer is put into spools, so that none is closed meanwhile."""
        self.reroute(settings)
        owes = (
            settings.counts is not None
            or settings.page is not None
            or any(isinstance(sink, MqttSinkSettings | OutgoingSinkSettings) for sink in settings.sinks)
        )
        self._state_lock = StateLock(settings.state_dir) if owes else None
        self._counts = _counting(settings)
        if self._counts is not None:
            events.append(self._counts.recorder)
            self._scenes.append((Blur.NOTHING, self._counts.recorder))  # it keeps no picture
        self.page = page_sinks(settings, self._overlays)
        if self.page is not None:
            events.append(self.page.timeline)
            blur = self._blur(self.page.blur)
            self._scenes += [(blur, self.page.timeline), (blur, self.page.view)]
        for sink in settings.sinks:
            self._open(sink, settings, events)
        self._scenes += [(self._blur(sink.blur), video) for sink, video in self._videos]
        self._blurs = frozenset(blur for blur, _ in self._scenes)
        self._hub = EventHub(events)
        self.watch(settings.cameras)

    def watch(self, cameras: Mapping[str, CameraSettings], *, away: Collection[str] = ()) -> None:
        """Take in which cameras there are, what is drawn over them, and which are live.

        Args:
            cameras: All that run from now on.
            away: Those that ran and were stopped, even to start anew: their videos are finished.
        """
        for video in (video for _, video in self._videos):
            video.finish(away)
        for name in away:
            self.veils.forget(name)
            self._last.pop(name, None)
        # Replaced at once: a worker that draws a camera must not find it missing.
        self._overlays |= {name: overlay(camera) for name, camera in cameras.items()}
        self.recordings.watch(cameras, self._overlays, away=away)
        if self._counts is not None:
            self._counts.watch(cameras, away=away)
        if self.page is not None:
            self.page.view.leave(away)
        for broker in self._brokers:
            broker.describe(plan_of(self._settings, cameras))
        live = frozenset(name for name, camera in cameras.items() if is_live(name, camera))
        for sink, video in self._videos:
            video.watch(frozenset(sink.cameras or cameras), live)

    def publish(self, events: tuple[Event, ...]) -> None:
        """Hand events to every event sink."""
        if events:
            self._hub.publish(events)

    def show(self, scene: Scene) -> None:
        """Hand a scene's events and then the scene itself to whoever wants them."""
        self.publish(scene.events)
        sinks = tuple(self._scenes)
        marked = self.veils.mark(scene, self._blurs)
        self._last[scene.frame.camera] = marked.get(self.veils.default), scene
        for blur, sink in sinks:
            if blur not in marked or (not self._extras and isinstance(sink, AnnotatedVideo)):
                continue
            try:
                sink.show(marked[blur])
            except EdgeRuntimeError as error:
                self._leave_out(sink, error)

    def spare(self, extras: bool) -> None:
        """Write annotated videos, and show live pictures at their rate; or not, for the machine's sake."""
        self._extras = extras
        if self.page is not None:
            self.page.view.spare(extras)

    def last_scene(self, camera: str) -> Scene | None:
        """Give a camera's newest scene, marked as `privacy.blur` says; None: none yet, or no such camera.

        Raises:
            EngineError: It cannot be told what to hide.
        """
        marked, scene = self._last.get(camera, (None, None))
        return self.veils.alone(scene) if marked is None and scene is not None else marked

    @property
    def wants_answers(self) -> bool:
        """Whether a sink publishes late answers."""
        return bool(self._answers)

    def answer(self, late: "LateAnswer") -> None:
        """Hand a late answer of the cloud to the sinks that publish them, unless it may not leave.

        It has come from the cloud, but a broker is another place, and settings may have changed meanwhile.

        Raises:
            StorageError: It could not be kept, or the sinks are closed already; the caller tries again.
        """
        why = self._gate.stops(late.asked, answer_contents(late.answer.value, late.request_id))
        if why:
            log.warning("the late answer to %s is not published: %s", late.request_id, why)
            return
        document = json_document.write(answers.document_of(late.answer, late.request_id))
        with self._answering:
            if self._closed:
                raise StorageError(
                    "a late answer came after the sinks were closed", do="It is told at the next start"
                )
            for sink in self._answers:
                sink.answer(late.request_id, document)

    def reroute(self, settings: AgentSettings) -> None:
        """Publish late answers by other `route` blocks from now on."""
        self._gate = Gate(
            {name: frozenset(model.route.never_leave) for name, model in settings.models.items()}
        )

    def report(self, status: AgentStatus) -> None:
        """Tell the sinks that tell others how the agent is doing."""
        for sink in self._statuses:
            sink.report(status)

    def store_status(self) -> StoreStatus | None:
        """Say how many are in the store; None: nobody counts, or no line is an entrance."""
        return None if self._counts is None else self._counts.status()

    def status(self) -> tuple[SinkStatus, ...]:
        """Say how each sink is doing."""
        return (*self._hub.status(), *(video.status() for _, video in self._videos))

    def finish(self, status: AgentStatus, facts: Mapping[str, str]) -> None:
        """Hand over what is owed, finish pictures and write the reports.

        Args:
            status: How it all went.
            facts: What ran, for the reports.
        """
        self.report(status)
        self.close()
        for report in self._reports:
            report.finish(status, facts)

    def close(self) -> None:
        """Hand over what is owed and finish pictures. Idempotent."""
        with self._answering:
            self._closed = True
        self.recordings.close()
        self._hub.close()
        for _, sink in self._scenes:
            sink.close()
        if self._state_lock is not None:
            self._state_lock.close()

    def _open(self, sink: SinkSettings, settings: AgentSettings, events: list[EventSink]) -> None:
        """Make a sink and put it where it belongs."""
        match sink:
            case JsonlSinkSettings():
                events.append(JsonlSink(sink.path, name=f"jsonl {sink.path.name}"))
            case MqttSinkSettings():
                mqtt = _mqtt(sink, settings)
                events.append(mqtt)
                self._statuses.append(mqtt)
                self._brokers.append(mqtt)
                if sink.late:
                    self._answers.append(mqtt)
            case WebhookSinkSettings() | RedisSinkSettings() | KafkaSinkSettings():
                events.append(forwarder_of(sink, settings))
            case VideoSinkSettings():
                self._videos.append((sink, _video(sink, self._overlays)))
            case ReportSinkSettings():
                report = ReportSink(sink.path, self._overlays, title=settings.site)
                events.append(report)
                self._scenes.append((self._blur(sink.blur), report))
                self._reports.append(report)
            case ClipsSinkSettings():
                clips = self.recordings.clips(sink, self._blur(sink.blur))
                events.append(clips)
                self._scenes.append((self._blur(sink.blur), clips))
            case SnapshotsSinkSettings():
                snapshots = self.recordings.snapshots(sink, self._overlays)
                events.append(snapshots)
                self._scenes.append((self._blur(sink.blur), snapshots))

    def _blur(self, own: Blur | None) -> Blur:
        return self.veils.default if own is None else own

    def _leave_out(self, sink: SceneSink, error: EdgeRuntimeError) -> None:
        with self._lock:
            left = [pair for pair in self._scenes if pair[1] is not sink]
            if len(left) < len(self._scenes):
                self._scenes = left
                log.error("sink %s is left out from now on: %s", sink.name, error)
                sink.close()


def _video(sink: VideoSinkSettings, overlays: Mapping[str, Overlay]) -> AnnotatedVideo:
    return AnnotatedVideo(sink.folder, overlays, fps=sink.fps, height=sink.height)


def _counting(settings: AgentSettings) -> "Counting | None":
    """Begin to count; None where the settings want no counts."""
    if settings.counts is None:
        return None
    # A store that counts nothing does not pay for it.
    from edge_runtime.agent.counting import Counting  # noqa: PLC0415

    return Counting(settings)


def _mqtt(sink: MqttSinkSettings, settings: AgentSettings) -> MqttSink:
    options = MqttOptions(
        host=sink.host,
        port=sink.port,
        username=sink.username,
        password=None if sink.password is None else sink.password.get_secret_value(),
        tls=Tls(sink.ca_file, sink.cert_file, sink.key_file) if sink.tls else None,
        prefix=sink.prefix,
        queue_max_bytes=sink.queue_max_bytes,
    )
    # Named after the broker, not after its place in the file: what is owed to it must find it again.
    broker = re.sub(r"[^A-Za-z0-9.]+", "-", f"{sink.host}-{sink.port}-{sink.prefix}")
    spool: Path = settings.state_dir / f"mqtt-{broker}.sqlite"
    announcer = announcer_of(
        sink.home_assistant,
        site=settings.site,
        prefix=sink.prefix,
        memory=settings.state_dir / f"home-assistant-{broker}.json",
    )
    return MqttSink(
        options, site=settings.site, spool=spool, name=f"mqtt {sink.host}:{sink.port}", announcer=announcer
    )
