"""Instances: the threads in which models run, shared by all of them, so that no two fight for one core.

How many there are and how many threads an engine may use is planned from the cores. Chooses no work: a
dispatcher does, and asks for room.
"""

import ctypes
import gc
import os
import platform
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

_USUAL_THREADS = 4


@dataclass(frozen=True, slots=True)
class Instances:
    """How the cores are shared out.

    Args:
        count: Batches that run at the same time, of all models together.
        threads: Threads that each of them may use in its engine.
    """

    count: int
    threads: int


def plan_instances(cores: int, count: int | None = None, threads: int | None = None) -> Instances:
    """Share the cores out.

    Left to itself it gives a run up to four threads, so that one caller alone is answered soon, and makes as
    many runs as the cores have room for: more threads a run bring small models little.

    Args:
        cores: That this process may use.
        count: Runs at the same time; None: as many as the cores have room for.
        threads: Threads a run; None: the cores, shared out among the runs, at most four.
    """
    if count is None:
        count = max(1, cores // (threads or _USUAL_THREADS))
    return Instances(count, threads or max(1, min(_USUAL_THREADS, cores // count)))


def usable_cores() -> int:
    """Count the cores that this process may use, by its affinity and its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        # cgroup v2: "max 100000" or "<microseconds of CPU> <of this many>"
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:  # noqa: PTH123
            quota, period = file.read().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def give_memory_back() -> None:
    """Return what was freed to the system, after a model has gone; where the C library cannot, nothing."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if platform.libc_ver()[0] == "glibc" else None
    if trim is not None:
        trim(0)


class Crew:
    """Threads that run jobs. Its methods belong to the event loop's thread; jobs run on the crew's.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.idle = size
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._wanted: deque[Callable[[], None]] = deque()

    def start(self, job: Callable[[], None]) -> None:
        """Run a job on an idle thread; `release` is to be called when it has ended.

        Args:
            job: Raises nothing.
        """
        self.idle -= 1
        busy = self.size - self.idle
        if len(self._threads) < busy:
            thread = threading.Thread(target=self._work, name=f"engine-{busy}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def release(self) -> None:
        """Take a thread back."""
        self.idle += 1
        self.offer()

    def offer(self) -> None:
        """Tell who has waited the longest for an idle thread, if there is one; it may have no use for it."""
        if self.idle and self._wanted:
            self._wanted.popleft()()

    def want(self, tell: Callable[[], None]) -> None:
        """Ask to be told when a thread is idle; first come, first served, and once a call.

        Args:
            tell: Takes a thread with `start`, or calls `offer`.
        """
        if tell not in self._wanted:
            self._wanted.append(tell)

    def forget(self, tell: Callable[[], None]) -> None:
        """Take back a `want`."""
        if tell in self._wanted:
            self._wanted.remove(tell)

    def close(self) -> None:
        """Let the threads end after what they do, and wait for them."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # The last batch's tensors lie in its engine's memory, which would outlive the model.
            del job
