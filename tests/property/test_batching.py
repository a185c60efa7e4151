"""What holds for a batcher whatever comes, in whatever order."""

import math
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloud_fallback.serving.batcher import PATIENCE, Batch, Batcher, BatchLimits
from cloud_fallback.serving.cost import Cost
from cloud_fallback.serving.lanes import Item, State
from edge_runtime.contract.errors import DeadlineError, OverloadedError

LIMITS = BatchLimits(max_rows=8, queue_rows=64, queue_bytes=1000)
PRIORITIES = 3


@dataclass
class Fate:
    """What became of a submitted item, as its owner heard."""

    item: Item[int]
    ends: list[str] = field(default_factory=list[str])


class Queue(RuleBasedStateMachine):
    """Callers submit and go away, time passes, batches end, somebody polls."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.batcher = Batcher[int](LIMITS, instances=2)
        for rows in (1, 2, 4, 8) * 3:  # so that large batches pay from the start
            self.batcher.cost("a").learn(rows, 0.002, self.now)
        self.fates: dict[int, Fate] = {}
        self.running: list[Batch[int]] = []
        self.passed: dict[int, int] = {}
        self.next = 0

    def waiting(self) -> list[Item[int]]:
        return [fate.item for fate in self.fates.values() if not fate.ends]

    @rule(
        rows=st.integers(1, 12),
        key=st.sampled_from("ab"),
        left=st.sampled_from([-0.1, 0.001, 0.02, 0.1, 1.0, math.inf]),
        priority=st.integers(0, PRIORITIES - 1),
        size=st.integers(0, 200),
    )
    def submit(self, rows: int, key: str, left: float, priority: int, size: int) -> None:
        self.next += 1
        before = self.batcher.waiting_rows, self.batcher.waiting_bytes
        try:
            item = self.batcher.submit(
                self.next,
                rows=rows,
                key=key,
                now=self.now,
                deadline=self.now + left,
                priority=priority,
                size_bytes=size,
            )
        except OverloadedError as error:
            assert error.retry_after_s > 0
            assert before == (self.batcher.waiting_rows, self.batcher.waiting_bytes)
        except DeadlineError:
            assert left < math.inf
        else:
            self.fates[self.next] = Fate(item)

    @precondition(lambda self: bool(self.fates))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        fate = self.fates[data.draw(st.sampled_from(sorted(self.fates)))]
        assert self.batcher.cancel(fate.item) == (not fate.ends)
        if not fate.ends:
            fate.ends.append("cancelled")

    @rule(seconds=st.sampled_from([0.0005, 0.01, 0.3, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: bool(self.running))
    @rule(data=st.data(), seconds=st.sampled_from([0.0001, 0.004, 0.05, None]))
    def finish(self, data: st.DataObject, seconds: float | None) -> None:
        batch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.batcher.done(batch, batch.rows, seconds, self.now)

    @rule(room=st.sampled_from([None, None, 1, 0]))
    def poll(self, room: int | None) -> None:
        idle = 2 - len(self.running)
        polled = self.batcher.poll(self.now, room)
        for item, _ in polled.shed:
            assert item.start_by <= self.now
            assert item.state is State.SHED
            self.fates[item.value].ends.append("shed")
        for batch in polled.batches:
            self.check(batch)
        assert len(polled.batches) <= (idle if room is None else min(idle, room))
        self.running += polled.batches
        if room is None and len(self.running) < 2:
            assert not self.waiting(), "an instance is idle while there is work"
        wake_at = self.batcher.wake_at()
        assert wake_at is None or wake_at > self.now

    def check(self, batch: Batch[int]) -> None:
        head = batch.items[0]
        waiting = self.waiting()
        lane = [item for item in waiting if item.priority == head.priority]
        assert all((head.deadline, head.number) <= (item.deadline, item.number) for item in lane)
        for priority in {item.priority for item in waiting}:
            self.passed[priority] = 0 if priority == head.priority else self.passed.get(priority, 0) + 1
            assert self.passed[priority] <= PATIENCE + PRIORITIES
        for item in batch.items:
            assert item.key == batch.key
            assert item.start_by > self.now
            self.fates[item.value].ends.append("run")
        assert batch.rows == sum(item.rows for item in batch.items)
        assert batch.rows <= max(LIMITS.max_rows, head.rows)
        for item in batch.items:
            left = [i for i in self.waiting() if (i.priority, i.key) == (item.priority, item.key)]
            assert all((item.deadline, item.number) < (i.deadline, i.number) for i in left)

    @invariant()
    def everybody_ends_once(self) -> None:
        assert all(len(fate.ends) <= 1 for fate in self.fates.values())
        assert all((fate.item.state is State.WAITING) == (not fate.ends) for fate in self.fates.values())

    @invariant()
    def the_queue_is_what_waits(self) -> None:
        waiting = self.waiting()
        assert self.batcher.waiting_rows == sum(item.rows for item in waiting)
        assert self.batcher.waiting_bytes == sum(item.size_bytes for item in waiting)
        assert len(waiting) <= 1 or self.batcher.waiting_rows <= LIMITS.queue_rows
        assert len(waiting) <= 1 or self.batcher.waiting_bytes <= LIMITS.queue_bytes

    def teardown(self) -> None:
        """When nobody comes any more and time goes on, everybody has ended."""
        while self.waiting():
            self.poll(None)
            while self.running:
                batch = self.running.pop()
                self.batcher.done(batch, batch.rows, 0.001, self.now)
        assert all(len(fate.ends) == 1 for fate in self.fates.values())


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


class Learning(RuleBasedStateMachine):
    """Any runs at all leave a cost that can be used."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost(64)
        self.now = 0.0

    @rule(
        rows=st.integers(1, 300),
        seconds=st.floats(0, 10) | st.sampled_from([0.0, 1e-9, 1e4]),
        pause=st.sampled_from([0.0, 0.01, 31.0, 1e5, 1e9]),
    )
    def run(self, rows: int, seconds: float, pause: float) -> None:
        self.now += pause
        self.cost.learn(rows, seconds, self.now)

    @rule(waiting=st.integers(0, 200))
    def ask(self, waiting: int) -> None:
        trial = self.cost.trial(waiting, self.now)
        assert trial is None or 1 <= trial <= min(waiting, 64)

    @invariant()
    def the_line_is_sound(self) -> None:
        a, b = self.cost.line
        assert a >= 0
        assert b >= 0
        assert math.isfinite(a + b)
        assert 1 <= self.cost.limit <= 64
        rows = self.cost.within(0.01)
        assert 0 <= rows <= 64
        assert rows == 0 or self.cost.predict_s(rows) <= 0.01 * (1 + 1e-9)


TestLearning = Learning.TestCase
TestLearning.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
