"""LiveView: each camera's newest picture as a JPEG, for whoever looks now.

A picture is encoded when somebody asks for it, once however many do; while nobody looks nothing is. Who looks
asks for the next picture when the last one has come, so that a slow viewer gets fewer and no queue forms.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.scene import Scene
from edge_runtime.sinks.drawing import Overlay, picture_of, still

_QUALITY = 80

SPARED_S = 2.0
"""Between two pictures of a camera on a machine that cannot afford more."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A camera's picture.

    Args:
        camera: Whose.
        number: Grows with every picture of any camera.
        jpeg: Its bytes.
        made_s: When it was encoded, monotonic seconds.
    """

    camera: str
    number: int
    jpeg: bytes
    made_s: float


class LiveView:
    """Takes scenes from the pipeline's threads, gives pictures to one event loop.

    Args:
        overlays: What is drawn over each camera's pictures, by name; may change.
        height: Of the pictures, in pixels.
        fastest_s: Least time between two pictures of a camera.

    Attributes:
        encoded: Pictures encoded so far.
    """

    def __init__(self, overlays: Mapping[str, Overlay], *, height: int = 480, fastest_s: float = 0.2) -> None:
        self.name = "page"
        self.encoded = 0
        self._overlays = overlays
        self._height = height
        self._usual_s = self._fastest_s = fastest_s
        self._lock = threading.Lock()
        self._number = 0
        self._scenes: dict[str, tuple[int, Scene]] = {}
        self._made: dict[tuple[str, bool], Shown] = {}
        self._waiting: set[Callable[[], object]] = set()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="page-picture")

    def show(self, scene: Scene) -> None:
        """Take a scene, and wake who waits for one."""
        with self._lock:
            self._number += 1
            self._scenes[scene.frame.camera] = self._number, scene
            waiting = tuple(self._waiting)
        for wake in waiting:
            wake()

    def leave(self, cameras: Collection[str]) -> None:
        """Forget pictures of cameras that were stopped."""
        with self._lock:
            for camera in cameras:
                self._scenes.pop(camera, None)

    def spare(self, extras: bool) -> None:
        """Give pictures at the usual rate, or one every `SPARED_S` where the machine cannot afford more."""
        self._fastest_s = self._usual_s if extras else max(self._usual_s, SPARED_S)

    def close(self) -> None:
        """Encode nothing more. Idempotent."""
        with self._lock:
            self._scenes.clear()
        self._encoder.shutdown(wait=True, cancel_futures=True)

    async def newer(self, seen: Mapping[str, int], *, drawn: bool, patience_s: float) -> list[Shown]:
        """Give the newest picture of each camera that is newer than what was seen.

        Args:
            seen: By camera, the number of its last picture; 0: none yet.
            drawn: With boxes, zones and counts.
            patience_s: How long to wait until there is one at all.

        Returns:
            Those there are; empty: time ran out.
        """
        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        def wake() -> object:
            return loop.call_soon_threadsafe(news.set)

        with self._lock:
            self._waiting.add(wake)
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    due, wait_s = self._due(seen, drawn=drawn, now_s=time.monotonic())
                    if due:
                        break
                    if wait_s is None:
                        await news.wait()
                        news.clear()
                    else:
                        await asyncio.sleep(wait_s)
        except TimeoutError:
            return []
        finally:
            with self._lock:
                self._waiting.discard(wake)
        run = loop.run_in_executor
        return [
            one if isinstance(one, Shown) else await run(self._encoder, self._encoded, *one, drawn)
            for one in due
        ]

    def _due(
        self, seen: Mapping[str, int], *, drawn: bool, now_s: float
    ) -> tuple[list[Shown | tuple[int, Scene]], float | None]:
        """Say what can be given now, encoded or not yet, or how long until something can; None: not known."""
        with self._lock:
            scenes = {camera: self._scenes[camera] for camera in seen if camera in self._scenes}
        due: list[Shown | tuple[int, Scene]] = []
        waits: list[float] = []
        for camera, (number, scene) in scenes.items():
            if number <= seen[camera]:
                continue
            known = self._made.get((camera, drawn))
            left_s = 0.0 if known is None else known.made_s + self._fastest_s - now_s
            if known is not None and known.number == number:
                due.append(known)
            elif left_s <= 0 or known is None:
                due.append((number, scene))
            elif known.number > seen[camera]:
                due.append(known)  # another viewer's, which this one has not seen
            else:
                waits.append(left_s)
        return due, min(waits, default=None)

    def _encoded(self, number: int, scene: Scene, drawn: bool) -> Shown:
        """Encode, in the one thread that does; what was encoded already is given again."""
        camera = scene.frame.camera
        known = self._made.get((camera, drawn))
        if known is not None and known.number >= number:
            return known
        overlay = self._overlays.get(camera, Overlay())
        image = still(scene, overlay, height=self._height) if drawn else picture_of(scene, self._height)
        done, jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        if not done:
            raise InputError(f"camera '{camera}'", expected="a picture that can be encoded", got="another")
        self.encoded += 1
        self._made[camera, drawn] = shown = Shown(camera, number, jpeg.tobytes(), time.monotonic())
        return shown
