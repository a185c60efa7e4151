"""Recordings: the sinks that make clips and snapshots, and the tapes that clips are made of.

Names the adapters; where no sink asks for a camera's clips, nothing of it is kept.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from edge_runtime.analytics.veil import Blur
from edge_runtime.settings import CameraSettings, ClipsSinkSettings, SnapshotsSinkSettings
from edge_runtime.sinks.clip_take import ClipSource
from edge_runtime.sinks.clips import ClipOptions, ClipSink
from edge_runtime.sinks.drawing import Overlay
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf
from edge_runtime.sinks.snapshots import SnapshotOptions, SnapshotSink
from edge_runtime.video.blackout import Blackout
from edge_runtime.video.main_stream import MainStream
from edge_runtime.video.source import SourceSpec
from edge_runtime.video.tape import Budget, StreamTape

SLACK_S = 10.0
"""Kept beyond what a clip shows before its event: the time until the model has seen it and the order came."""

HELD_BYTES = 128 * 2**20
"""Packets that clips in the making hold at most, beside the tapes."""


class Recordings:
    """The recording sinks of one store."""

    def __init__(self) -> None:
        self._clips: list[tuple[ClipsSinkSettings, ClipSink]] = []
        self._snapshots: list[tuple[SnapshotsSinkSettings, SnapshotSink]] = []
        self._tapes: dict[str, StreamTape] = {}
        self._mains: dict[str, MainStream] = {}
        self._budget = Budget(HELD_BYTES)

    def clips(self, sink: ClipsSinkSettings, blur: Blur) -> ClipSink:
        """Make a sink of clips whose pictures are blurred so."""
        options = ClipOptions(frozenset(sink.events), sink.pre_s, sink.post_s, sink.longest_s, blur)
        made = ClipSink(_shelf(sink, ".mp4"), options, name=f"clips {sink.folder.name}")
        self._clips.append((sink, made))
        return made

    def snapshots(self, sink: SnapshotsSinkSettings, overlays: Mapping[str, Overlay]) -> SnapshotSink:
        """Make a sink of snapshots."""
        options = SnapshotOptions(frozenset(sink.events), sink.height, sink.drawn)
        made = SnapshotSink(_shelf(sink, ".jpg"), options, overlays, name=f"snapshots {sink.folder.name}")
        self._snapshots.append((sink, made))
        return made

    def tape(self, camera: str) -> StreamTape | None:
        """Give what keeps a camera's packets; None: no sink asks for its clips."""
        pre_s = [sink.pre_s for sink, _ in self._clips if not sink.cameras or camera in sink.cameras]
        if not pre_s:
            return None
        return self._tapes.setdefault(camera, StreamTape(max(pre_s) + SLACK_S, self._budget))

    def watch(
        self,
        cameras: Mapping[str, CameraSettings],
        overlays: Mapping[str, Overlay],
        *,
        away: Collection[str] = (),
    ) -> None:
        """Record these cameras from now on; before they start.

        Args:
            cameras: All that run.
            overlays: What is drawn over them.
            away: Those that ran and were stopped, even to start anew.
        """
        leaving = [self._mains.pop(name) for name in away if name in self._mains]
        for main in leaving:
            main.stop()
        for main in leaving:
            main.close()
        for name in away:
            if name not in cameras:
                self._tapes.pop(name, None)
        sources = {name: source for name, camera in cameras.items() if (source := self._source(name, camera))}
        for sink, clips in self._clips:
            wanted = {name: source for name, source in sources.items() if name in (sink.cameras or cameras)}
            clips.watch(wanted, away=away)
        for sink, snapshots in self._snapshots:
            snapshots.watch(frozenset(sink.cameras or cameras), overlays, away=away)

    def find(self, event: str, camera: str, moment: str) -> tuple[Path, ...]:
        """Find the clips and snapshots of an event; none: there are none (yet, or any more).

        Args:
            event: Its id.
            camera: Its camera.
            moment: Its time, as it says it.
        """
        sinks = (*(sink for _, sink in self._clips), *(sink for _, sink in self._snapshots))
        found = (sink.find(event, camera, moment) for sink in sinks)
        return tuple(path for path in found if path is not None)

    def close(self) -> None:
        """End the readers of main streams; the sinks are closed by whoever closes all sinks. Idempotent."""
        for main in self._mains.values():
            main.stop()
        for main in self._mains.values():
            main.close()

    def _source(self, name: str, camera: CameraSettings) -> ClipSource | None:
        tape = self.tape(name)
        if tape is None:
            return None
        tape.own_reader = camera.main is not None
        if camera.main is not None and name not in self._mains:
            self._mains[name] = MainStream(SourceSpec(name, camera.main, camera.transport), tape)
        paint = Blackout(camera.never_look).paint if camera.never_look else None
        return ClipSource(tape, paint, calm=not camera.motion.masks)


def _shelf(sink: ClipsSinkSettings | SnapshotsSinkSettings, suffix: str) -> Shelf:
    age_s = None if sink.keep_days is None else sink.keep_days * 86_400
    return Shelf(sink.folder, suffix, Limits(sink.keep_bytes, age_s), reserve_bytes=sink.reserve_bytes)
