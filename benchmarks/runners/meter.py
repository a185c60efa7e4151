"""What one runner's process used between two of its frames: CPU, wall time, memory.

Imported by every environment's Python. Judges nothing.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def order() -> dict[str, Any]:
    """Read what the benchmark asked this process for, and stay on the cores it gives."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    os.sched_setaffinity(0, asked["cores"])
    return asked


def one_thread_sessions() -> None:
    """Give every onnxruntime session of this process one thread that does not spin, as ours has.

    A rival leaves the default, which on a shared core burns its time waiting: three times its CPU here.
    """
    import onnxruntime

    class OneThread(onnxruntime.InferenceSession):
        def __init__(self, path_or_bytes: Any, sess_options: Any = None, **more: Any) -> None:
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            super().__init__(path_or_bytes, options, **more)

    onnxruntime.InferenceSession = OneThread


class Meter:
    """Counts frames; the section between frame `warm_up` and frame `warm_up + frames` is measured.

    The section ends before the recording does, so that frames a pipeline decoded ahead at its beginning are
    made up for by frames it has decoded ahead at its end.
    """

    def __init__(self, warm_up: int, frames: int) -> None:
        self.warm_up = warm_up
        self.last = warm_up + frames
        self.seen = 0
        self._marks: list[tuple[int, float, float]] = []
        self._rss: list[float] = []

    def count(self, seen: int) -> bool:
        """Take the number of frames finished so far; True when the measured section is over."""
        self.seen = seen
        if (not self._marks and seen >= self.warm_up) or (len(self._marks) == 1 and seen >= self.last):
            self._marks.append((seen, cpu_s(), time.perf_counter()))
        if self._marks:
            self._rss.append(rss_mb())
        return len(self._marks) == 2

    def frame(self) -> bool:
        """Count one more finished frame; True when the measured section is over."""
        return self.count(self.seen + 1)

    def report(self, **more: object) -> None:
        """Print the measurement as this process's last line."""
        if len(self._marks) < 2:
            raise SystemExit(f"only {self.seen} frames came, {self.last} were to be measured")
        (first, cpu_0, wall_0), (last, cpu_1, wall_1) = self._marks
        frames = last - first
        measured = {
            "frames": frames,
            "cpu_ms": 1e3 * (cpu_1 - cpu_0) / frames,
            "fps": frames / (wall_1 - wall_0),
            "cores": (cpu_1 - cpu_0) / (wall_1 - wall_0),
            "rss_mb": max(self._rss),
        }
        print(json.dumps(measured | more), flush=True)


def cpu_s() -> float:
    """User and system time of this process so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb() -> float:
    """Resident memory now, in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
