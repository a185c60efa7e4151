"""AnnotatedVideo: a video file for each camera, with everything the agent saw drawn into it.

Each camera has its own thread and its own short queue, so drawing and encoding cost the cameras nothing but
cores. Keeps the source's own times; records no sound and splits no files.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream

from edge_runtime.contract.errors import EdgeRuntimeError, StorageError
from edge_runtime.contract.frame import Plane
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.drawing import Overlay, size_for, still

log = logging.getLogger(__name__)

_QUEUE = 4
"""Scenes waiting for a camera's encoder; each keeps a decoded picture alive."""
_TICKS = 60_000
"""A second of the file's clock: whole for all usual rates, and no more than MPEG-4's 65,535."""
_KEYFRAME_S = 2.0
"""What a killed process loses at most, and how finely a player can seek."""
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "fflags": "+flush_packets"}
"""Every fragment is complete when it is written: a file whose writer was killed plays up to the last one."""
_CLOSE_S = 30.0


class AnnotatedVideo:
    """Writes `{folder}/{camera}.mp4`, H.264 where this PyAV has x264, else MPEG-4. Replaces older files.

    Args:
        folder: Made when absent.
        overlays: What each camera watches, by camera name.
        cameras: Only these; None: all.
        fps: Pictures a second at most, in source time; None: every scene.
        height: Of the video, in pixels; even.
        live: When the queue of one of these is full, the scene is dropped and counted; other cameras,
            recordings, wait.
        name: What statuses and messages call this sink.
    """

    def __init__(
        self,
        folder: Path,
        overlays: Mapping[str, Overlay],
        *,
        cameras: Collection[str] | None = None,
        fps: float | None = None,
        height: int = 480,
        live: Collection[str] = (),
        name: str = "video",
    ) -> None:
        self.name = name
        self._folder = folder
        self._overlays = overlays
        self._cameras = cameras
        self._period_ns = 0 if fps is None else round(1e9 / fps)
        self._height = height
        self._live = live
        self._recorders: dict[str, _Recorder] = {}
        self._finished: list[_Recorder] = []
        self._opened: Counter[str] = Counter()
        self._lock = threading.Lock()

    def show(self, scene: Scene) -> None:
        """Queue a scene to be drawn and encoded.

        Raises:
            StorageError: An earlier scene of this camera could not be written.
        """
        camera = scene.frame.camera
        if self._cameras is not None and camera not in self._cameras:
            return
        recorder = self._recorders.get(camera)
        if recorder is None:
            with self._lock:
                recorder = self._recorders[camera] = self._recorder(camera)
        recorder.put(scene, wait=camera not in self._live)

    def watch(self, cameras: Collection[str], live: Collection[str]) -> None:
        """Take other cameras from now on.

        Args:
            cameras: Only these.
            live: As for the constructor.
        """
        self._cameras, self._live = cameras, live

    def finish(self, cameras: Collection[str]) -> None:
        """Write what is queued of some cameras and finish their files; later pictures go into new ones."""
        with self._lock:
            recorders = [self._recorders.pop(camera) for camera in cameras if camera in self._recorders]
            self._finished += recorders
        for recorder in recorders:
            recorder.finish()
        for recorder in recorders:
            recorder.join()

    def status(self) -> SinkStatus:
        """Say how many pictures were written, wait and were dropped, all cameras together."""
        with self._lock:
            recorders = (*self._finished, *self._recorders.values())
        return SinkStatus(
            self.name,
            written=sum(recorder.written for recorder in recorders),
            waiting=sum(recorder.waiting for recorder in recorders),
            dropped=sum(recorder.dropped for recorder in recorders),
            trouble="; ".join(str(recorder.failure) for recorder in recorders if recorder.failure),
            what="pictures",
        )

    def close(self) -> None:
        """Write what is queued and finish the files. Idempotent."""
        with self._lock:
            cameras = tuple(self._recorders)
        self.finish(cameras)

    def _recorder(self, camera: str) -> "_Recorder":
        overlay = self._overlays.get(camera, Overlay())
        self._opened[camera] += 1
        number = self._opened[camera]
        # A camera that starts anew must not write over what it was; no camera's name has a plus.
        file = f"{camera}.mp4" if number == 1 else f"{camera}+{number}.mp4"
        return _Recorder(self._folder / file, overlay, self._period_ns, self._height)


class _Recorder:
    """The file, the queue and the thread of one camera."""

    def __init__(self, path: Path, overlay: Overlay, period_ns: int, height: int) -> None:
        self._path = path
        self._overlay = overlay
        self._period_ns = period_ns
        self._height = height
        self._due_ns = 0
        self._queue: queue.Queue[Scene | None] = queue.Queue(_QUEUE)
        self.written = 0
        self.dropped = 0
        self.failure: EdgeRuntimeError | None = None
        self._thread = threading.Thread(target=self._run, name=f"video-{path.stem}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def put(self, scene: Scene, *, wait: bool) -> None:
        if self.failure is not None:
            raise self.failure
        if not self._due(scene.frame.pts_ns):
            return
        try:
            self._queue.put(scene, block=wait)
        except queue.Full:
            self.dropped += 1

    def finish(self) -> None:
        try:
            if self._thread.is_alive():
                self._queue.put(None, timeout=_CLOSE_S)
        except queue.Full:
            log.error("%s: the disk hangs; the video ends where it was", self._path)

    def join(self) -> None:
        self._thread.join(_CLOSE_S)

    def _due(self, pts_ns: int) -> bool:
        """Whether the picture is wanted at the video's rate; a quarter of a period early is on time."""
        if pts_ns < self._due_ns - self._period_ns // 4:
            return False
        self._due_ns = max(self._due_ns, pts_ns - self._period_ns // 2) + self._period_ns
        return True

    def _run(self) -> None:
        try:
            self._record()
        except (OSError, FFmpegError) as error:
            self._fail(
                StorageError(
                    f"{self._path}: cannot write the video",
                    got=getattr(error, "strerror", None) or str(error),
                    do="Free the disk or allow this user to write there, then start again",
                )
            )
        except EdgeRuntimeError as error:
            self._fail(error)
        except Exception as error:
            log.exception("%s", self._path)
            self._fail(StorageError(f"{self._path}: drawing failed", got=repr(error), do="See the log"))

    def _fail(self, error: EdgeRuntimeError) -> None:
        log.error("%s", error)
        self.failure = error
        # Whoever waits for room in the queue must not wait for a thread that is gone.
        while self._queue.get() is not None:
            self.dropped += 1

    def _record(self) -> None:
        scene = self._queue.get()
        if scene is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _Film(self._path, size_for(scene.frame.picture, self._height)) as film:
            while scene is not None:
                film.add(still(scene, self._overlay, height=self._height), scene.frame.pts_ns)
                self.written += 1
                scene = self._queue.get()


class _Film:
    """One video file being written. PyAV is named here only."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._size = size
        self._last = -1
        self._key = 0
        self._container = av.open(str(path), "w", format="mp4", options=_FRAGMENTED)
        self._stream = self._new_stream()
        # Before there is anything to close: FFmpeg crashes on closing a file whose header the disk refused.
        self._container.start_encoding()

    def __enter__(self) -> "_Film":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def add(self, image: Plane, pts_ns: int) -> None:
        """Add a (height, width, 3) BGR picture at its own time; letterboxed when its shape changed."""
        image = _fitted(image, self._size)
        yuv = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        frame = av.VideoFrame.from_ndarray(cast(Any, yuv), format="yuv420p")
        self._last = max(self._last + 1, pts_ns * _TICKS // 1_000_000_000)
        frame.pts = self._last
        frame.time_base = Fraction(1, _TICKS)
        if self._last >= self._key:
            frame.pict_type = PictureType.I
            self._key = self._last + round(_KEYFRAME_S * _TICKS)
        self._container.mux(self._stream.encode(frame))

    def _new_stream(self) -> VideoStream:
        x264 = "libx264" in av.codecs_available
        options = {"preset": "veryfast", "crf": "26"} if x264 else {"qscale": "4"}
        stream = self._container.add_stream("libx264" if x264 else "mpeg4", options=options)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.thread_count = 1
        # Fragments have no edit list, which would take back the delay that B-frames bring.
        stream.codec_context.max_b_frames = 0
        return stream


def _fitted(image: Plane, size: tuple[int, int]) -> Plane:
    if image.shape[:2] == size:
        return image
    height, width = size
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = round(image.shape[0] * scale), round(image.shape[1] * scale)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    canvas[top : top + rows, left : left + columns] = cv2.resize(image, (columns, rows))
    return canvas
