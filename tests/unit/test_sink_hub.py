"""The hub: every sink at its own pace, nothing lost that was not counted."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import CameraStateChanged, Event
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.hub import EventHub, HubOptions
from tests.simulators.broker import wait_until

QUICK = HubOptions(capacity=10, patience_s=0.05, retry_first_s=0.01, retry_longest_s=0.02)


def events(count: int, start: int = 0) -> list[Event]:
    return [
        CameraStateChanged(
            id=str(n), site="s", camera="c", time="2026-01-01T00:00:00.000Z", pts_ns=n, state="online"
        )
        for n in range(start, start + count)
    ]


class Shelf:
    """A sink in memory. `gate` holds a write up; `fault` makes it fail."""

    def __init__(self, name: str = "shelf") -> None:
        self.name = name
        self.kept: list[int] = []
        self.syncs = 0
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Callable[[], Exception] | None = None
        self.attempts = 0

    def write(self, events: Sequence[Event]) -> None:
        self.attempts += 1
        self.gate.wait(20)
        if self.fault is not None:
            raise self.fault()
        self.kept += [event.pts_ns for event in events]

    def sync(self) -> None:
        self.syncs += 1

    def status(self) -> SinkStatus:
        return SinkStatus(self.name, written=len(self.kept))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.gate.set()


def test_all_sinks_get_all_events_in_order(shelf: Shelf) -> None:
    other = Shelf("other")
    hub = EventHub([shelf, other])
    for start in range(0, 1000, 10):
        hub.publish(events(10, start))
    assert hub.flush(10)
    assert hub.close()
    assert shelf.kept == other.kept == list(range(1000))
    assert shelf.closed
    assert shelf.syncs >= 1
    assert hub.status()[0] == SinkStatus("shelf", written=1000)


def test_a_stuck_sink_holds_neither_the_publisher_nor_the_others(shelf: Shelf) -> None:
    other = Shelf("other")
    shelf.gate.clear()
    hub = EventHub([shelf, other], QUICK)
    began = time.monotonic()
    for start in range(0, 40, 4):
        hub.publish(events(4, start))
        # The sink that works is waited for by nobody: it has everything at once.
        wait_until(lambda start=start: len(other.kept) == start + 4)
    # Ten calls at most `patience_s` each; an unbounded wait would never come here at all.
    assert time.monotonic() - began < 20
    assert not hub.flush(0.01)
    status = hub.status()[0]
    assert status.dropped > 0
    assert status.waiting + status.dropped == 40
    shelf.gate.set()
    assert hub.close()
    assert shelf.kept[-1] == 39
    assert len(shelf.kept) + hub.status()[0].dropped == 40
    assert other.kept == list(range(40))


def test_events_are_kept_and_tried_again_in_order(shelf: Shelf) -> None:
    shelf.fault = lambda: StorageError("the disk is full", do="Free it")
    hub = EventHub([shelf], QUICK)
    hub.publish(events(3))
    wait_until(lambda: shelf.attempts >= 3)
    hub.publish(events(3, 3))
    status = hub.status()[0]
    assert status.waiting == 6
    assert status.trouble == "the disk is full. Free it"
    shelf.fault = None
    assert hub.flush(10)
    assert shelf.kept == [0, 1, 2, 3, 4, 5]
    assert hub.status()[0].trouble == ""
    hub.close()


def test_the_oldest_are_dropped_and_counted(shelf: Shelf) -> None:
    shelf.fault = lambda: StorageError("the disk is full")
    hub = EventHub([shelf], QUICK)
    hub.publish(events(1))
    wait_until(lambda: hub.status()[0].trouble != "")
    hub.publish(events(24, 1))
    status = hub.status()[0]
    assert (status.waiting, status.dropped) == (10, 15)
    shelf.fault = None
    assert hub.close()
    assert shelf.kept == list(range(15, 25))


def test_a_fault_of_a_sink_is_shown_and_costs_nothing(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    shelf.fault = lambda: ZeroDivisionError("division by zero")
    hub = EventHub([shelf], QUICK)
    hub.publish(events(2))
    wait_until(lambda: "ZeroDivisionError" in hub.status()[0].trouble)
    assert "Traceback" in caplog.text
    shelf.fault = None
    assert hub.close()
    assert shelf.kept == [0, 1]


def test_close_gives_up_in_time_and_says_what_is_left(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    shelf.fault = lambda: StorageError("the disk is full")
    hub = EventHub([shelf], QUICK)
    hub.publish(events(3))
    assert not hub.close(timeout_s=0.1)
    assert (hub.status()[0].waiting, hub.status()[0].dropped) == (0, 3), "nobody will bring them any more"
    assert "closed with 3 events not taken: the disk is full" in caplog.text
    wait_until(lambda: shelf.closed)


def test_what_is_written_is_synced_without_another_event(shelf: Shelf) -> None:
    hub = EventHub([shelf])
    hub.publish(events(1))
    wait_until(lambda: shelf.syncs == 1)
    hub.close()
