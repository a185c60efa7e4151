"""Batcher: which requests run together, when, and which are told at once that they will not be answered.

Pure: `now` is an argument, nothing runs here. A shell submits, polls, runs the batches it is given, and
reports each with `done`; `wake_at` says when to poll though nothing happened.

    order      an idle instance never waits while there is work. Priorities first (0 is the highest), in each
               the earliest deadline; a priority that was passed over `PATIENCE` times is next, whatever waits
               above it
    together   only what has the same key (shapes, dtypes, parameters, outputs), counted in rows
    how many   up to the knee of rows per second that `Cost` learnt for the key, and only as many as run
               within `MARGIN` of the time that the earliest deadline leaves
    shedding   what cannot be done in time by what is queued and what it costs is refused when it comes; what
               became late while it waited, as soon as it is
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cloud_fallback.serving.cost import TRUST_S, Cost
from cloud_fallback.serving.lanes import Item, Lane, State
from edge_runtime.contract.errors import DeadlineError, OverloadedError, RemoteError

T = TypeVar("T")

MARGIN = 0.7
"""Share of the time left that a plan may use: costs are medians, half of all runs take longer."""
PATIENCE = 8
"""Batches that may start before a waiting lower priority gets one."""
_MOST_KEYS = 512
"""Kinds of batches whose cost is remembered; shapes come from callers, who may send any number."""
_SPLIT_GAIN = 0.75
"""Work is spread over idle instances where that ends it in three quarters of the time or less."""
_WAIT_SHARE = 0.9
"""Share of the time for waiting that the estimate of a wait may take."""
_SOONEST_RETRY_S = 0.001


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batcher may hold and make.

    Args:
        max_rows: Rows of a batch of several requests; a larger request runs alone. 1: never together.
        queue_rows: Rows that may wait.
        queue_bytes: Bytes that may wait.
    """

    max_rows: int = 64
    queue_rows: int = 4096
    queue_bytes: int = 256 << 20


@dataclass(slots=True, eq=False)
class Batch(Generic[T]):
    """Requests to run together now.

    Args:
        items: At least one.
        key: Theirs.
        rows: Theirs together.
        began: When it was made.
        expected_s: What the run should take; 0: not known yet.
    """

    items: tuple[Item[T], ...]
    key: Hashable
    rows: int
    began: float
    expected_s: float


@dataclass(slots=True)
class Polled(Generic[T]):
    """What there is to do.

    Args:
        batches: To be run, one an instance.
        shed: Requests that get an error instead, and which.
    """

    batches: list[Batch[T]] = field(default_factory=list[Batch[T]])
    shed: list[tuple[Item[T], RemoteError]] = field(default_factory=list[tuple[Item[T], RemoteError]])


class Batcher(Generic[T]):
    """Forms batches for one model.

    Args:
        limits: What it may hold and make.
        instances: Batches that may run at the same time.
        name: The model's, for messages.
    """

    def __init__(
        self, limits: BatchLimits | None = None, instances: int = 1, name: str = "the model"
    ) -> None:
        self._limits = limits or BatchLimits()
        self._instances = instances
        self._name = name
        self._lanes: dict[int, Lane[T]] = {}
        self._rows_of: dict[Hashable, int] = {}
        self._costs: dict[Hashable, Cost] = {}
        self._running: list[Batch[T]] = []
        self._count = 0
        self._rows = 0
        self._bytes = 0

    @property
    def waiting_rows(self) -> int:
        """Rows in the queue."""
        return self._rows

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the queue."""
        return self._bytes

    @property
    def running(self) -> int:
        """Batches under way."""
        return len(self._running)

    def cost(self, key: Hashable) -> Cost:
        """Give what is known of the cost of a kind of batch."""
        found = self._costs.pop(key, None)
        if found is None:
            found = Cost(self._limits.max_rows)
            if len(self._costs) >= _MOST_KEYS:
                del self._costs[next(iter(self._costs))]
        self._costs[key] = found  # the ones used last stand last
        return found

    def submit(
        self,
        value: T,
        *,
        rows: int,
        key: Hashable,
        now: float,
        deadline: float = math.inf,
        priority: int = 1,
        size_bytes: int = 0,
    ) -> Item[T]:
        """Queue a request.

        Args:
            value: Handed back with the batch.
            rows: Of its tensors, at least 1.
            key: Shapes, dtypes, parameters and outputs; only equal ones run together.
            now: Monotonic seconds.
            deadline: Monotonic seconds.
            priority: 0 is the highest.
            size_bytes: Of its tensors.

        Raises:
            DeadlineError: It would be late even if it ran at once.
            OverloadedError: The queue is full, or what is in it leaves too little time.
        """
        cost = self.cost(key)
        need_s = cost.predict_s(rows)
        if cost.unheard_since(now) > max(TRUST_S, 10 * need_s):
            need_s = 0.0
        self._count += 1
        item = Item(
            value, rows, key, deadline, priority, size_bytes, self._count,
            arrived=now, start_by=deadline - need_s, cost_s=rows * cost.per_row_s,
        )  # fmt: skip
        self._admit(item, now)
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = Lane()
        lane.put(item)
        self._rows += rows
        self._bytes += size_bytes
        self._rows_of[key] = self._rows_of.get(key, 0) + rows
        return item

    def cancel(self, item: Item[T]) -> bool:
        """Take a request out of the queue.

        Returns:
            False where it runs, or has ended.
        """
        if item.state is not State.WAITING:
            return False
        lane = self._lanes[item.priority]
        self._leave(lane, lane.place(item), State.CANCELLED)
        return True

    def poll(self, now: float, room: int | None = None) -> Polled[T]:
        """Find out what is to be done.

        Args:
            now: Monotonic seconds.
            room: Batches that the caller can start, if it is fewer than there are idle instances.
        """
        polled: Polled[T] = Polled()
        for priority in sorted(self._lanes):
            lane = self._lanes[priority]
            while lane and lane[0].start_by <= now:
                self._shed(lane, 0, now, polled)
        idle = self._instances - len(self._running)
        idle = idle if room is None else min(idle, room)
        while idle > 0 and self._rows:
            batch = self._form(now, idle, polled)
            if batch is None:
                continue  # only late work was there, and it has been shed
            self._running.append(batch)
            polled.batches.append(batch)
            idle -= 1
        return polled

    def done(self, batch: Batch[T], rows: int, seconds: float | None, now: float) -> None:
        """Report that a batch ended, so that its instance is idle again.

        Args:
            batch: Of `poll`.
            rows: That really ran.
            seconds: The run took; None: it failed, or its time says nothing.
            now: Monotonic seconds.
        """
        self._running.remove(batch)
        if seconds is not None and rows:
            self.cost(batch.key).learn(rows, seconds, now)

    def wake_at(self) -> float | None:
        """Give the time at which something that waits becomes late; None: there is no such time."""
        times = [lane[0].start_by for lane in self._lanes.values() if lane]
        first = min(times, default=math.inf)
        return None if first == math.inf else first

    def backlog_s(self, now: float) -> float:
        """Give the seconds until what runs and what waits is done, as far as its cost is known."""
        ahead = sum(max(0.0, batch.began + batch.expected_s - now) for batch in self._running)
        return (ahead + sum(lane.cost_s for lane in self._lanes.values())) / self._instances

    def _admit(self, item: Item[T], now: float) -> None:
        if item.start_by <= now:
            need = item.deadline - item.start_by
            raise DeadlineError(
                f"{self._name}: would be late", got=f"{item.deadline - now:.3g} s for a run of {need:.3g} s"
            )
        rows, size_bytes = self._rows + item.rows, self._bytes + item.size_bytes
        if self._rows and (rows > self._limits.queue_rows or size_bytes > self._limits.queue_bytes):
            raise OverloadedError(
                f"{self._name}: the queue is full",
                retry_after_s=max(self.backlog_s(now), _SOONEST_RETRY_S),
                got=f"{self._rows} rows and {self._bytes} bytes waiting",
            )
        excess_s = self._wait_s(item, now) - self._patience_s(item, now)
        if excess_s > 0:
            raise OverloadedError(
                f"{self._name}: cannot be done in time",
                retry_after_s=max(excess_s, _SOONEST_RETRY_S),
                got=f"{item.deadline - now:.3g} s behind {self._rows} rows waiting",
            )

    def _patience_s(self, item: Item[T], now: float) -> float:
        """How long a request may wait and still run in a batch as large as pays, or twice that, to learn.

        At most half of its time is kept free for that run; large batches are what ends an overload.
        """
        if item.deadline == math.inf:
            return math.inf
        cost, left_s = self.cost(item.key), item.deadline - now
        rows = min(2 * cost.limit, self._limits.max_rows, cost.within(MARGIN * left_s / cost.slow / 2))
        run_s = max(cost.predict_s(rows) * cost.slow / MARGIN if rows else 0.0, item.deadline - item.start_by)
        return _WAIT_SHARE * (left_s - run_s)

    def _wait_s(self, item: Item[T], now: float) -> float:
        """Estimate how long a request will wait: what runs, what is above it, and what is due before it."""
        ahead_s = 0.0
        for priority, lane in self._lanes.items():
            if priority < item.priority:
                ahead_s += lane.cost_s
            elif priority == item.priority and lane:
                ahead_s += lane.cost_s * lane.place(item) / len(lane)
        if len(self._running) >= self._instances:
            ahead_s += sum(max(0.0, batch.began + batch.expected_s - now) for batch in self._running)
        return ahead_s * self.cost(item.key).usual / self._instances

    def _form(self, now: float, idle: int, polled: Polled[T]) -> Batch[T] | None:
        first = self._next_priority()
        lane = self._lanes[first]
        head = lane[0]
        if head.start_by <= now:
            self._shed(lane, 0, now, polled)
            return None
        cost = self.cost(head.key)
        size = self._size(head, cost, now, idle)
        self._leave(lane, 0, State.RUN)
        items = [head]
        for priority in (first, *(each for each in sorted(self._lanes) if each != first)):
            self._fill(items, size, self._lanes[priority], now, polled)
        for priority, other in self._lanes.items():
            other.passed = other.passed + 1 if other and priority > first else 0
        rows = sum(item.rows for item in items)
        return Batch(tuple(items), head.key, rows, now, cost.predict_s(rows))

    def _next_priority(self) -> int:
        waiting = {priority: lane.passed for priority, lane in self._lanes.items() if lane}
        starved = [priority for priority, passed in waiting.items() if passed >= PATIENCE]
        return max(starved, key=lambda each: waiting[each]) if starved else min(waiting)

    def _size(self, head: Item[T], cost: Cost, now: float, idle: int) -> int:
        """Choose how many rows the head's batch has, its own included."""
        most = self._limits.max_rows
        waiting = self._rows_of[head.key]
        left_s = MARGIN * (head.deadline - now) / cost.slow
        trial = cost.trial(waiting, now)
        size = min(cost.limit if trial is None else trial, most, cost.within(left_s))
        if idle > 1 and waiting <= size:
            share = -(-waiting // idle)
            if cost.predict_s(share) <= _SPLIT_GAIN * cost.predict_s(waiting):
                size = share
        return max(size, head.rows)

    def _fill(self, items: list[Item[T]], size: int, lane: Lane[T], now: float, polled: Polled[T]) -> None:
        """Add what fits, the earliest deadline first, and nothing that overtakes what did not fit."""
        rows = sum(item.rows for item in items)
        key, at = items[0].key, 0
        while rows < size and at < len(lane) and key in self._rows_of:
            item = lane[at]
            if item.start_by <= now:
                self._shed(lane, at, now, polled)
            elif item.key != key:
                at += 1
            elif rows + item.rows > size:
                break
            else:
                self._leave(lane, at, State.RUN)
                items.append(item)
                rows += item.rows

    def _shed(self, lane: Lane[T], at: int, now: float, polled: Polled[T]) -> None:
        item = self._leave(lane, at, State.SHED)
        waited = f"{now - item.arrived:.3g} s in the queue"
        error: RemoteError
        if item.deadline <= now:
            error = DeadlineError(f"{self._name}: the time is over", got=waited)
        else:
            retry_s = max(self.backlog_s(now), _SOONEST_RETRY_S)
            error = OverloadedError(
                f"{self._name}: cannot be done in time any more", retry_after_s=retry_s, got=waited
            )
        polled.shed.append((item, error))

    def _leave(self, lane: Lane[T], at: int, state: State) -> Item[T]:
        item = lane.take(at)
        item.state = state
        self._rows -= item.rows
        self._bytes -= item.size_bytes
        left = self._rows_of[item.key] - item.rows
        if left:
            self._rows_of[item.key] = left
        else:
            del self._rows_of[item.key]
        return item
