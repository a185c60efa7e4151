"""Dispatcher: the asyncio shell around a batcher, one for each served version.

Joins the tensors of a batch and splits what comes back, runs batches on the crew's threads, or on the event
loop where a run is shorter than the way to a thread and back. Decides nothing about batches, and checks no
tensors.
"""

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from cloud_fallback.serving.batcher import Batch, Batcher, BatchLimits
from cloud_fallback.serving.instances import Crew
from cloud_fallback.serving.lanes import Item
from edge_runtime.contract.errors import DeadlineError, EdgeRuntimeError, EngineError, OverloadedError
from edge_runtime.contract.tensors import Tensors

_MOST_KEYS = 512
INLINE_S = 0.0002
"""Shorter runs stay on the event loop: the way to a thread and back took 20 µs more than a run in place."""


class Observer(Protocol):
    """Who counts what a dispatcher does; called on the event loop, raises nothing."""

    def batch_ran(self, model: str, version: str, *, rows: int, requests: int, run_s: float) -> None:
        """A batch ran, or failed."""
        ...

    def request_ran(self, model: str, version: str, *, rows: int, queue_s: float, run_s: float) -> None:
        """A request got its answer."""
        ...

    def request_shed(self, model: str, version: str, *, reason: str) -> None:
        """A request was not run: `overloaded`, `late` or `cancelled`."""
        ...


class Unobserved:
    """Counts nothing."""

    def batch_ran(self, model: str, version: str, *, rows: int, requests: int, run_s: float) -> None:
        """See `Observer`."""

    def request_ran(self, model: str, version: str, *, rows: int, queue_s: float, run_s: float) -> None:
        """See `Observer`."""

    def request_shed(self, model: str, version: str, *, reason: str) -> None:
        """See `Observer`."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a request.

    Args:
        tensors: All outputs, the request's rows only; views of the batch's where there were others in it.
        queue_s: Waited for an instance.
        run_s: The batch took.
        batch_rows: Rows of the batch.
    """

    tensors: Tensors
    queue_s: float
    run_s: float
    batch_rows: int


@dataclass(frozen=True, slots=True)
class _Asked:
    tensors: Tensors
    answer: "asyncio.Future[Ran]"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a batch ended.

    Args:
        answers: For each item its tensors, or why there are none.
        run_s: Seconds of the run.
        whole: Whether the batch ran as one, so that its time says what such a batch costs.
    """

    answers: Sequence[Tensors | EdgeRuntimeError]
    run_s: float
    whole: bool


class Dispatcher:
    """Runs one version's requests in batches.

    Args:
        run: Runs the model; may be called on several threads at once, and raises `EdgeRuntimeError`s.
        crew: The threads to run on.
        model: Its name.
        version: Of it.
        limits: Of the batcher.
        observer: Who counts.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        run: Callable[[Tensors], Tensors],
        crew: Crew,
        *,
        model: str,
        version: str,
        limits: BatchLimits | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._run = run
        self._crew = crew
        self._model = model
        self._version = version
        self._observer: Observer = observer or Unobserved()
        self._clock = clock
        self._batcher = Batcher[_Asked](limits, crew.size, f"model '{model}' {version}")
        self._short = False
        self._took: dict[Hashable, tuple[int, float]] = {}
        """Rows and seconds of the last run, by key: of the run alone, without the way to a thread."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._open = 0
        self._closing: asyncio.Future[None] | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows in the queue."""
        return self._batcher.waiting_rows

    def prime(self, key: Hashable, rows: int, seconds: float) -> None:
        """Tell what a run took that was made elsewhere, so that the first requests are planned with it.

        Args:
            key: What was run.
            rows: Of it.
            seconds: It took.
        """
        self._batcher.cost(key).learn(rows, seconds, self._clock())

    def expected_s(self, rows: int, key: Hashable) -> float:
        """Say how long a run of this kind is expected to take; 0: not known."""
        return self._batcher.cost(key).predict_s(rows)

    async def infer(
        self,
        tensors: Tensors,
        *,
        rows: int,
        key: Hashable,
        timeout_s: float | None = None,
        priority: int = 1,
    ) -> Ran:
        """Run the model on a request's tensors, with others' if that pays.

        Args:
            tensors: As the model takes them; not to be changed until the answer is there.
            rows: Of each of them, where batches are made; 1 otherwise.
            key: What may run together has the same.
            timeout_s: After this time nobody wants the answer; None: it can wait.
            priority: 0 is the highest.

        Raises:
            OverloadedError: There is no room, or not enough time behind what waits already.
            DeadlineError: There is not enough time even for it alone.
            EdgeRuntimeError: What `run` raised for these tensors.
        """
        if self._closing is not None:
            raise EngineError(f"model '{self._model}' {self._version} is being unloaded")
        loop = self._loop
        if loop is None:  # asked for once: each time costs a system call
            loop = self._loop = asyncio.get_running_loop()
        now = self._clock()
        asked = _Asked(tensors, loop.create_future())
        try:
            item = self._batcher.submit(
                asked,
                rows=rows,
                key=key,
                now=now,
                deadline=math.inf if timeout_s is None else now + timeout_s,
                priority=priority,
                size_bytes=sum(array.nbytes for array in tensors.values()),
            )
        except (OverloadedError, DeadlineError) as error:
            self._count_shed(error)
            raise
        self._open += 1
        self._pump_soon(loop)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            if self._batcher.cancel(item):
                self._observer.request_shed(self._model, self._version, reason="cancelled")
            raise
        finally:
            self._open -= 1
            if self._closing is not None and not self._open and not self._closing.done():
                self._closing.set_result(None)

    async def close(self) -> None:
        """Refuse further requests and wait until those under way are answered, and no batch runs."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
        self._tell_closed()
        await asyncio.shield(self._closing)

    def _tell_closed(self) -> None:
        closing = self._closing
        if closing is None or closing.done() or self._open or self._batcher.running:
            return
        self._crew.forget(self._pump)
        if self._alarm is not None:
            self._alarm.cancel()
        closing.set_result(None)

    def _pump_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Poll once the event loop has read what has arrived: what comes together, runs together."""
        if not self._due:
            self._due = True
            loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._due = False
        crew = self._crew
        # Two runs on the event loop one after the other are no faster than one; it reads in between.
        polled = self._batcher.poll(self._clock(), min(crew.idle, 1) if self._short else crew.idle)
        for item, error in polled.shed:
            self._count_shed(error)
            _give(item.value.answer, error)
        for batch in polled.batches:
            if self._short and self._is_quick(batch):
                self._finish(batch, self._work(batch))
            else:
                crew.start(partial(self._work_apart, batch, self._loop or asyncio.get_running_loop()))
        if self._batcher.waiting_rows:
            if crew.idle:  # after a run in place, however long it was
                self._pump_soon(self._loop or asyncio.get_running_loop())
            else:
                crew.want(self._pump)
        crew.offer()
        self._set_alarm()

    def _is_quick(self, batch: Batch[_Asked]) -> bool:
        """Tell whether a run is shorter than the way to a thread; of a shape that nobody has seen, it is not.

        What a batch costs as a whole does not tell: where it ran on a thread, that way is in it, and it would
        stay there for good.
        """
        rows, run_s = self._took.get(batch.key, (1, math.inf))
        return run_s * max(1.0, batch.rows / rows) <= INLINE_S

    def _set_alarm(self) -> None:
        """Wake up when something becomes late; an alarm that is too early finds nothing to do."""
        wake_at = self._batcher.wake_at()
        if wake_at is None or wake_at >= self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = wake_at
        delay_s = max(0.0, wake_at - self._clock())
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        self._pump()

    def _work_apart(self, batch: Batch[_Asked], loop: asyncio.AbstractEventLoop) -> None:
        outcome = self._work(batch)
        loop.call_soon_threadsafe(self._finish_apart, batch, outcome)

    def _finish_apart(self, batch: Batch[_Asked], outcome: _Outcome) -> None:
        self._finish(batch, outcome)
        self._crew.release()
        self._pump()

    def _work(self, batch: Batch[_Asked]) -> _Outcome:
        """Run a batch; where it fails as a whole, run each request alone, so that the others get theirs."""
        items, began = batch.items, self._clock()
        if len(items) == 1:
            answers = [self._try(items[0].value.tensors)]
            return _Outcome(answers, self._clock() - began, isinstance(answers[0], dict))
        joined = _join([item.value.tensors for item in items])
        outputs = self._try(joined)
        if isinstance(outputs, EdgeRuntimeError) or not _as_long(outputs, batch.rows):
            answers = [self._try(item.value.tensors) for item in items]
            return _Outcome(answers, self._clock() - began, whole=False)
        return _Outcome(_split(outputs, items), self._clock() - began, whole=True)

    def _try(self, tensors: Tensors) -> Tensors | EdgeRuntimeError:
        try:
            return self._run(tensors)
        except EdgeRuntimeError as error:
            return error
        except Exception as error:  # noqa: BLE001 - of a vendor's library; the caller must hear of it
            return EngineError(f"model '{self._model}' failed: {type(error).__name__}: {error}")

    def _finish(self, batch: Batch[_Asked], outcome: _Outcome) -> None:
        run_s, observer, version = outcome.run_s, self._observer, self._version
        now = self._clock()
        # The way to the thread and back is part of what a batch costs: its instance is busy all the while.
        self._batcher.done(batch, batch.rows, now - batch.began if outcome.whole else None, now)
        self._short = outcome.whole and run_s <= INLINE_S
        if outcome.whole:
            if len(self._took) >= _MOST_KEYS:
                self._took.clear()
            self._took[batch.key] = batch.rows, run_s
        observer.batch_ran(self._model, version, rows=batch.rows, requests=len(batch.items), run_s=run_s)
        for item, answer in zip(batch.items, outcome.answers, strict=True):
            if isinstance(answer, EdgeRuntimeError):
                _give(item.value.answer, answer)
                continue
            queue_s = batch.began - item.arrived
            observer.request_ran(self._model, version, rows=item.rows, queue_s=queue_s, run_s=run_s)
            _give(item.value.answer, Ran(answer, queue_s, run_s, batch.rows))
        self._tell_closed()

    def _count_shed(self, error: EdgeRuntimeError) -> None:
        reason = "late" if isinstance(error, DeadlineError) else "overloaded"
        self._observer.request_shed(self._model, self._version, reason=reason)


def _give(answer: "asyncio.Future[Ran]", what: Ran | EdgeRuntimeError) -> None:
    if answer.done():  # its caller went away
        return
    if isinstance(what, EdgeRuntimeError):
        answer.set_exception(what)
    else:
        answer.set_result(what)


def _join(parts: Sequence[Tensors]) -> Tensors:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _as_long(outputs: Tensors, rows: int) -> bool:
    return all(array.ndim and array.shape[0] == rows for array in outputs.values())


def _split(outputs: Tensors, items: Sequence[Item[_Asked]]) -> list[Tensors]:
    parts: list[Tensors] = []
    at = 0
    for item in items:
        parts.append({name: array[at : at + item.rows] for name, array in outputs.items()})
        at += item.rows
    return parts
