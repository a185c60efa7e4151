"""Tally: the running figures of one camera, written by its threads and read by whoever shows them."""

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from statistics import median

import numpy as np

from edge_runtime.contract.status import CameraState, CameraStatus, Condition, DropCause, Timing

RECENT = 512
"""Frames that percentiles are taken over."""

RATE_OVER_S = 5.0
"""Seconds that the rate is taken over."""


class Tally:
    """Counts for one camera. Every method may be called from any thread."""

    def __init__(self, camera: str, *, live: bool = False) -> None:
        self._lock = threading.Lock()
        self._live = live
        self._camera = camera
        self._state = CameraState.STARTING
        self._reason = ""
        self._decoded = self._inferred = self._reconnects = self._cpu_ns = 0
        self._dropped = dict.fromkeys(DropCause, 0)
        self._progress: float | None = None
        self._decoder = ""
        self._health: tuple[Condition, ...] = ()
        self._latency_ms: deque[float] = deque(maxlen=RECENT)
        self._inference_ms: deque[float] = deque(maxlen=RECENT)
        self._times_ns: deque[int] = deque(maxlen=RECENT)
        self._occupancy: Mapping[str, int] = {}
        self._crossings: Mapping[str, Mapping[str, int]] = {}

    def changed(self, state: CameraState, reason: str = "") -> bool:
        """Note a state; tell whether it is news."""
        with self._lock:
            news = (state, reason) != (self._state, self._reason)
            self._state, self._reason = state, reason
            if state is CameraState.ENDED:
                self._progress = 1.0
            return news

    def opened(self, decoder: str) -> bool:
        """Note what decodes the source; tell whether it is news."""
        with self._lock:
            news, self._decoder = decoder != self._decoder, decoder
            return news

    def judged(self, health: tuple[Condition, ...]) -> None:
        """Note what is wrong with the picture."""
        with self._lock:
            self._health = health

    def reconnected(self) -> None:
        """Count an attempt to open the source again."""
        with self._lock:
            self._reconnects += 1

    def spent(self, cpu_ns: int, progress: float | None) -> None:
        """Note the CPU time that reading took, and how far it came."""
        with self._lock:
            self._cpu_ns += cpu_ns
            self._progress = progress

    def decoded(self, frames: int) -> None:
        """Count frames that came."""
        with self._lock:
            self._decoded += frames

    def dropped(self, cause: DropCause, frames: int = 1) -> None:
        """Count frames that no model looked at."""
        with self._lock:
            self._dropped[cause] += frames

    def inferred(self, inference_ns: int, cpu_ns: int) -> None:
        """Count a frame that a model looked at."""
        with self._lock:
            self._inferred += 1
            self._cpu_ns += cpu_ns
            self._inference_ms.append(inference_ns / 1e6)

    def delivered(
        self,
        now_ns: int,
        latency_ns: int,
        cpu_ns: int,
        occupancy: Mapping[str, int],
        crossings: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Note a frame whose events are out."""
        with self._lock:
            self._cpu_ns += cpu_ns
            self._latency_ms.append(latency_ns / 1e6)
            self._times_ns.append(now_ns)
            self._occupancy, self._crossings = dict(occupancy), dict(crossings)

    def status(self, now_ns: int) -> CameraStatus:
        """Read everything at once."""
        with self._lock:
            recent = [time for time in self._times_ns if now_ns - time <= RATE_OVER_S * 1e9]
            span_s = (now_ns - recent[0]) / 1e9 if recent else 0.0
            return CameraStatus(
                name=self._camera,
                state=self._state,
                reason=self._reason,
                decoded=self._decoded,
                inferred=self._inferred,
                dropped={cause: count for cause, count in self._dropped.items() if count},
                reconnects=self._reconnects,
                inferred_fps=len(recent) / span_s if span_s > 0 else 0.0,
                progress=self._progress,
                latency=_timing(self._latency_ms),
                inference=_timing(self._inference_ms),
                cpu_ms=self._cpu_ns / 1e6 / self._decoded if self._decoded else 0.0,
                occupancy=self._occupancy,
                crossings=self._crossings,
                decoder=self._decoder,
                health=self._health,
                age_s=_middle_s(self._latency_ms, len(recent)) if self._live else None,
            )


def _middle_s(latency_ms: Sequence[float], last: int) -> float | None:
    """Give the median of the last ones, in seconds; they are as many as the times they belong to."""
    return median(islice(reversed(latency_ms), last)) / 1e3 if last else None


def _timing(values_ms: Iterable[float]) -> Timing:
    values = np.fromiter(values_ms, np.float64)
    if not values.size:
        return Timing()
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    return Timing(p50, p95, p99)
