"""MainStream: the thread that reads a camera's second, larger stream for clips, packets only.

Decodes nothing; opens the stream again, with the pauses of any camera, when it fails. Its failure costs the
camera's clips and nothing else.
"""

import logging
import random
import threading
import time

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.video.backoff import backoff_s
from edge_runtime.video.clock import StreamClock
from edge_runtime.video.source import ON_TIME_S, SourceSpec, VideoSource
from edge_runtime.video.tape import StreamTape

log = logging.getLogger(__name__)

_STOP_S = 2.0
"""How long it is waited for: one that hangs must not hold up the others, and ends itself when it is left."""


class MainStream:
    """The reader of one main stream; runs from the moment it is made.

    Args:
        spec: What to read.
        tape: Keeps its packets; made with `own_reader`.
    """

    def __init__(self, spec: SourceSpec, tape: StreamTape) -> None:
        self._spec = spec
        self._tape = tape
        self._clock = StreamClock(live=True, period_ns=40_000_000)
        self._stop = threading.Event()
        self._attempt = 0
        self._thread = threading.Thread(target=self._run, name=f"main-{spec.camera}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        self._stop.set()

    def close(self) -> None:
        """End it. Idempotent."""
        self._stop.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except EdgeRuntimeError as error:
                self._fail(str(error))
            except Exception as error:
                log.exception("the main stream of camera '%s'", self._spec.camera)
                self._fail(f"fault of this program: {error!r}")

    def _fail(self, why: str) -> None:
        why = why.removeprefix(f"camera '{self._spec.camera}': ")
        if self._attempt == 0:
            log.warning("camera '%s' has no main stream, and no clips: %s", self._spec.camera, why)
        self._tape.lost(f"main stream: {why}")
        pause = backoff_s(self._attempt, random.random())  # noqa: S311 - spreads load, hides nothing
        self._attempt += 1
        self._clock.reopen()
        self._stop.wait(pause)

    def _read(self) -> None:
        source = VideoSource(self._spec, self._tape)
        try:
            self._clock.period_ns = source.period_ns
            asked_ns = time.monotonic_ns()
            for packet in source.packets():
                if self._stop.is_set():
                    return
                arrived_ns = time.monotonic_ns()
                stamp = self._clock.stamp(
                    packet.dts_ns,
                    arrived_ns=arrived_ns,
                    wall_ns=time.time_ns(),
                    on_time=arrived_ns - asked_ns > ON_TIME_S * 1e9,
                )
                self._tape.arrived(packet.dts_ns, stamp.time_ns)
                self._attempt = 0
                asked_ns = time.monotonic_ns()
        finally:
            source.close()
