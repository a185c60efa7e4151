"""EventHub: hands every event to every sink, each at its own pace.

A sink that is slow or broken holds nobody but itself: it has its own bounded queue and its own thread. The
hub writes no file and opens no socket, and it does not know what an event means.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.base import EventSink

log = logging.getLogger(__name__)

_BATCH = 256
_SYNC_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class HubOptions:
    """How patient the hub is.

    Args:
        capacity: Events each sink's queue holds in memory; ten thousand take about 20 MB.
        patience_s: How long one `publish` waits, all sinks together, for room in the queue of a sink that is
            only slow. A sink in trouble, or waited for in vain since its last write, is not waited for.
        retry_first_s: Wait before a failed write is tried again; doubles with every failure.
        retry_longest_s: Longest such wait.
    """

    capacity: int = 10_000
    patience_s: float = 0.25
    retry_first_s: float = 0.25
    retry_longest_s: float = 10.0


class EventHub:
    """Fans events out to sinks. Safe to share between threads.

    When a queue stays full, its oldest events are dropped and counted: what happens now matters more than
    what happened when the trouble began, and memory is bounded.

    Args:
        sinks: Where events go. The hub closes them.
        options: How patient to be.
    """

    def __init__(self, sinks: Sequence[EventSink], options: HubOptions | None = None) -> None:
        self._options = options or HubOptions()
        self._lanes = [_Lane(sink, self._options) for sink in sinks]

    def publish(self, events: Sequence[Event]) -> None:
        """Queue events for every sink; waits at most `patience_s` in all.

        Args:
            events: In the order they happened.
        """
        deadline = time.monotonic() + self._options.patience_s
        for lane in self._lanes:
            lane.put(events, deadline)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every sink has written all that was published before.

        Returns:
            False when time ran out first.
        """
        deadline = time.monotonic() + timeout_s
        drained = [lane.drained(deadline) for lane in self._lanes]
        return all(drained)

    def status(self) -> tuple[SinkStatus, ...]:
        """Say how each sink is doing."""
        return tuple(lane.status() for lane in self._lanes)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Drain the queues, then close the sinks. Idempotent.

        Args:
            timeout_s: How long to try. Events that a sink in trouble has not taken by then are lost: its
                status counts them as dropped, and the log says how many.

        Returns:
            Whether every sink took everything.
        """
        deadline = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.finish()
        done = [lane.join(deadline) for lane in self._lanes]
        return all(done)


class _Lane:
    """One sink's queue and thread. `_changed` guards every field; the sink is called without it."""

    def __init__(self, sink: EventSink, options: HubOptions) -> None:
        self._sink = sink
        self._options = options
        self._queue: deque[Event] = deque()
        self._in_hand = 0
        self._dropped = 0
        self._trouble = ""
        self._failures = 0
        self._stalled = False
        self._unsynced_since: float | None = None
        self._finishing = False
        self._abandoned = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    def put(self, events: Sequence[Event], deadline: float) -> None:
        with self._changed:
            if not self._failures and not self._stalled:
                room = self._changed.wait_for(lambda: self._fits(len(events)), deadline - time.monotonic())
                self._stalled = not room
            self._queue.extend(events)
            self._drop_oldest()
            self._changed.notify_all()

    def drained(self, deadline: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._owed() == 0, deadline - time.monotonic())

    def status(self) -> SinkStatus:
        own = self._sink.status()
        with self._changed:
            lost = self._owed() if self._abandoned else 0
            return replace(
                own,
                waiting=own.waiting + self._owed() - lost,
                dropped=own.dropped + self._dropped + lost,
                trouble=self._trouble or own.trouble,
            )

    def finish(self) -> None:
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def join(self, deadline: float) -> bool:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            owed = self._owed()
            if owed and not self._abandoned:
                log.error("sink %s closed with %d events not taken: %s", self._sink.name, owed, self._trouble)
            self._abandoned = True
            self._changed.notify_all()
            return owed == 0

    def _run(self) -> None:
        while self._wait_for_work():
            batch = self._take()
            if batch:
                self._write(batch)
            self._sync_if_due()
        self._attempt(self._sink.sync)
        self._attempt(self._sink.close)

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to write or to sync; False when it is time to leave."""
        with self._changed:
            if self._failures:
                pause = self._options.retry_first_s * 2.0 ** min(self._failures - 1, 16)
                self._changed.wait_for(lambda: self._abandoned, min(pause, self._options.retry_longest_s))
            else:
                due = self._unsynced_since
                pause = None if due is None else max(0.0, due + _SYNC_EVERY_S - time.monotonic())
                self._changed.wait_for(lambda: bool(self._queue) or self._finishing, pause)
            return not self._abandoned and (bool(self._queue) or not self._finishing)

    def _take(self) -> list[Event]:
        with self._changed:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            self._in_hand = len(batch)
            return batch

    def _write(self, batch: list[Event]) -> None:
        trouble = self._attempt(lambda: self._sink.write(batch))
        with self._changed:
            self._in_hand = 0
            self._stalled = False
            if trouble:
                self._failures += 1
                self._queue.extendleft(reversed(batch))
                self._drop_oldest()
            else:
                if self._failures:
                    log.info("sink %s takes events again", self._sink.name)
                self._failures = 0
                self._unsynced_since = self._unsynced_since or time.monotonic()
            self._trouble = trouble
            self._changed.notify_all()

    def _sync_if_due(self) -> None:
        since = self._unsynced_since
        if since is None or time.monotonic() < since + _SYNC_EVERY_S:
            return
        trouble = self._attempt(self._sink.sync)
        with self._changed:
            self._unsynced_since = None
            self._trouble = trouble or self._trouble

    def _attempt(self, action: Callable[[], None]) -> str:
        """Do it; on failure log once and give back what to tell a person."""
        try:
            action()
        except StorageError as error:
            trouble = str(error)
            if trouble != self._trouble:
                log.warning("sink %s: %s", self._sink.name, trouble)
            return trouble
        except Exception as error:
            # A fault of the sink: keep the events, as with a full disk.
            log.exception("sink %s failed", self._sink.name)
            return f"{type(error).__name__}: {error}. This is a fault of the sink itself; see the log"
        return ""

    def _fits(self, count: int) -> bool:
        return self._owed() + count <= self._options.capacity

    def _owed(self) -> int:
        return len(self._queue) + self._in_hand

    def _drop_oldest(self) -> None:
        surplus = min(self._owed() - self._options.capacity, len(self._queue))
        for _ in range(surplus):
            self._queue.popleft()
        self._dropped += max(0, surplus)
