"""A server in virtual time: Poisson arrivals, a batching policy, and a machine that takes a known time.

`Ours` is the real batcher; `FixedWindow` is what it is compared with: wait a fixed time or for a full batch,
first come first served, shed nothing.
"""

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from cloud_fallback.serving.batcher import Batcher, BatchLimits
from edge_runtime.contract.errors import DeadlineError, OverloadedError

Duration = Callable[[int], float]
"""Seconds of a run by its rows."""


def conv(rows: int) -> float:
    """A small convolutional net on a CPU: each row slower in company (1754 rows/s alone, 1293 at 32)."""
    return rows / (1754 - 461 * min(1.0, math.log2(rows) / 5))


def mlp(rows: int) -> float:
    """A net of matrix products: reading its weights is most of a run."""
    return 0.002 + 0.0003 * rows


@dataclass
class Job:
    arrived: float
    deadline: float


class Policy(Protocol):
    def arrive(self, job: Job, now: float) -> bool:
        """False: refused."""
        ...

    def start(self, now: float) -> list[tuple[Any, list[Job]]]: ...
    def done(self, handle: Any, seconds: float, now: float) -> None: ...
    def wake_at(self) -> float | None: ...


@dataclass
class Ours:
    batcher: Batcher[Job]
    shed: int = 0

    def arrive(self, job: Job, now: float) -> bool:
        try:
            self.batcher.submit(job, rows=1, key="k", now=now, deadline=job.deadline)
        except (OverloadedError, DeadlineError):
            return False
        return True

    def start(self, now: float) -> list[tuple[Any, list[Job]]]:
        polled = self.batcher.poll(now)
        self.shed += len(polled.shed)
        return [(batch, [item.value for item in batch.items]) for batch in polled.batches]

    def done(self, handle: Any, seconds: float, now: float) -> None:
        self.batcher.done(handle, handle.rows, seconds, now)

    def wake_at(self) -> float | None:
        return self.batcher.wake_at()


def ours(instances: int = 1, max_rows: int = 64) -> Ours:
    return Ours(Batcher(BatchLimits(max_rows=max_rows), instances))


@dataclass
class FixedWindow:
    window_s: float = 0.005
    max_rows: int = 32
    waiting: list[Job] = field(default_factory=list[Job])
    busy: bool = False

    def arrive(self, job: Job, now: float) -> bool:
        self.waiting.append(job)
        return True

    def _due(self) -> float:
        return self.waiting[0].arrived + self.window_s

    def start(self, now: float) -> list[tuple[Any, list[Job]]]:
        if self.busy or not self.waiting:
            return []
        if len(self.waiting) < self.max_rows and now < self._due():
            return []
        jobs, self.waiting = self.waiting[: self.max_rows], self.waiting[self.max_rows :]
        self.busy = True
        return [(None, jobs)]

    def done(self, handle: Any, seconds: float, now: float) -> None:
        self.busy = False

    def wake_at(self) -> float | None:
        return None if self.busy or not self.waiting else self._due()


@dataclass
class Outcome:
    """What came of a load.

    Args:
        good: Requests answered within their deadline, a second.
        late: Answered too late.
        refused: Told at once, or while they waited.
        sizes: Rows of each batch, in order.
        waits_s: From arrival to answer, of all answered.
    """

    good: float
    late: int
    refused: int
    sizes: list[int]
    waits_s: list[float]


def simulate(
    policy: Policy,
    duration: Duration,
    rate: float,
    *,
    deadline_s: float = 0.05,
    length_s: float = 20.0,
    warm_s: float = 2.0,
    seed: int = 1,
    spell: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> Outcome:
    """Offer a load for a while; runs take 5 % more or less than they should, one in a hundred four times.

    In a spell `(from, until, times)` the machine is so much slower.
    """
    dice = random.Random(seed)
    moments: list[tuple[float, int, str, Any]] = []
    number = 0

    def at(time: float, what: str, value: Any = None) -> None:
        nonlocal number
        number += 1
        heapq.heappush(moments, (time, number, what, value))

    at(dice.expovariate(rate), "arrive")
    good = late = refused = 0
    sizes: list[int] = []
    waits: list[float] = []
    alarm = math.inf
    while moments:
        now, _, what, value = heapq.heappop(moments)
        if what == "arrive":
            if not policy.arrive(Job(now, now + deadline_s), now):
                refused += 1
            following = now + dice.expovariate(rate)
            if following < length_s:
                at(following, "arrive")
        elif what == "done":
            handle, jobs, seconds = value
            policy.done(handle, seconds, now)
            for job in jobs:
                waits.append(now - job.arrived)
                if now > job.deadline:
                    late += 1
                elif now > warm_s:
                    good += 1
        else:
            alarm = math.inf
        for handle, jobs in policy.start(now):
            seconds = duration(len(jobs)) * dice.uniform(0.95, 1.05) * (4 if dice.random() < 0.01 else 1)
            seconds *= spell[2] if spell[0] <= now < spell[1] else 1.0
            sizes.append(len(jobs))
            at(now + seconds, "done", (handle, jobs, seconds))
        wake = policy.wake_at()
        if wake is not None and wake < alarm:
            alarm = max(wake, now)
            at(alarm, "wake")
    return Outcome(good / (length_s - warm_s), late, refused, sizes, waits)
