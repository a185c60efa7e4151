"""The loop between a spool and a server, with a server that a test plays."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_runtime.contract.errors import RemoteError
from edge_runtime.contract.event import EVENTS
from edge_runtime.sinks.forwarding import Forwarder, ForwardOptions
from edge_runtime.sinks.pace import PaceOptions, RejectedError
from edge_runtime.sinks.spool import Letter, Spool
from tests.simulators.broker import wait_until
from tests.simulators.doings import numbered, quick


class Far:
    """A server: takes letters, or raises what it was told to."""

    target = "far"

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.sizes: list[int] = []
        self.trouble: RemoteError | None = None
        self.poison: set[int] = set()
        self.open = threading.Event()
        self.open.set()
        self.closed = False

    def send(self, letters: Sequence[Letter]) -> None:
        self.open.wait(10)
        if self.trouble is not None:
            raise self.trouble
        read = [(letter.topic, EVENTS.validate_json(letter.payload).pts_ns) for letter in letters]
        self.sizes.append(len(read))
        if self.poison & {number for _, number in read}:
            raise RejectedError("far: wrong")
        self.taken += read

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def far() -> Far:
    return Far()


def test_everything_arrives_in_order_and_in_batches(far: Far, tmp_path: Path) -> None:
    far.open.clear()
    sink = Forwarder(far, tmp_path / "s.sqlite", name="far", options=quick(batch=40))
    for start in range(0, 100, 10):
        sink.write(numbered(10, start))
    far.open.set()
    wait_until(lambda: sink.status().written == 100)
    sink.close()
    assert far.taken == [("door", n) for n in range(100)]
    assert max(far.sizes) == 40
    assert far.closed
    assert (sink.status().waiting, sink.status().dropped, sink.status().trouble) == (0, 0, "")


def test_only_what_is_wanted_is_kept(far: Far, tmp_path: Path) -> None:
    options = ForwardOptions(events=frozenset({"camera_state"}), cameras=frozenset({"till"}))
    sink = Forwarder(far, tmp_path / "s.sqlite", name="far", options=options)
    sink.write([*numbered(3), *numbered(2, camera="till")])
    wait_until(lambda: sink.status().written == 2)
    sink.close()
    assert far.taken == [("till", 0), ("till", 1)]
    none = ForwardOptions(events=frozenset({"zone_left"}))
    sink = Forwarder(far, tmp_path / "t.sqlite", name="far", options=none)
    sink.write(numbered(3))
    assert sink.status().waiting == 0
    sink.close()


@pytest.mark.parametrize("retryable", [True, False])
def test_a_server_in_trouble_loses_nothing(far: Far, tmp_path: Path, retryable: bool) -> None:
    far.trouble = RemoteError("far: is away", retryable=retryable)
    sink = Forwarder(far, tmp_path / "s.sqlite", name="far", options=quick())
    sink.write(numbered(10))
    wait_until(lambda: "is away" in sink.status().trouble)
    assert sink.status().waiting == 10
    far.trouble = None
    wait_until(lambda: sink.status().written == 10)
    assert sink.status().trouble == ""
    sink.close()


def test_what_a_server_rejects_is_set_aside_and_holds_nothing_back(far: Far, tmp_path: Path) -> None:
    far.poison = {3, 7}
    sink = Forwarder(far, tmp_path / "s.sqlite", name="far", options=quick(batch=10))
    sink.write(numbered(12))
    wait_until(lambda: sink.status().written == 10)
    wait_until(lambda: sink.status().waiting == 0)
    sink.close()
    assert far.taken == [("door", n) for n in range(12) if n not in {3, 7}]
    assert sink.status().dropped == 2
    aside = Spool(tmp_path / "s.rejected.sqlite", max_bytes=2**20)
    kept = [EVENTS.validate_json(letter.payload).pts_ns for letter in aside.peek(10)]
    aside.close()
    assert kept == [3, 7]


def test_what_was_not_acknowledged_is_sent_by_the_next_process(far: Far, tmp_path: Path) -> None:
    far.trouble = RemoteError("far: is away", retryable=True)
    options = ForwardOptions(farewell_s=0.0, pace=PaceOptions(first_s=0.01, longest_s=0.01))
    first = Forwarder(far, tmp_path / "s.sqlite", name="far", options=options)
    first.write(numbered(5))
    first.close()
    far.trouble = None
    second = Forwarder(far, tmp_path / "s.sqlite", name="far", options=options)
    wait_until(lambda: second.status().written == 5)
    second.close()
    assert far.taken == [("door", n) for n in range(5)]


def test_a_damaged_spool_is_begun_anew_and_goes_on(far: Far, tmp_path: Path) -> None:
    spool = tmp_path / "s.sqlite"
    sink = Forwarder(far, spool, name="far", options=quick(batch=7))
    sink.write(numbered(30))
    wait_until(lambda: sink.status().written == 30)
    wait_until(lambda: sink.status().waiting == 0)
    # A memory card that lies: the file is read again, and is none.
    sink._spool.close()
    spool.write_bytes(b"nothing of the kind" * 1000)
    sink.write(numbered(10, 30))
    wait_until(lambda: sink.status().written == 40)
    assert "was damaged" in sink.status().trouble
    sink.close()
    assert far.taken == [("door", n) for n in range(40)]


def test_closing_hands_over_what_waits(far: Far, tmp_path: Path) -> None:
    far.open.clear()
    sink = Forwarder(far, tmp_path / "s.sqlite", name="far", options=quick(batch=7))
    sink.write(numbered(50))
    far.open.set()
    sink.close()
    assert len(far.taken) == 50


def test_a_full_spool_drops_the_oldest_and_counts_them(far: Far, tmp_path: Path) -> None:
    far.trouble = RemoteError("far: is away", retryable=True)
    options = ForwardOptions(queue_max_bytes=2**16, pace=quick().pace)
    sink = Forwarder(far, tmp_path / "s.sqlite", name="far", options=options)
    for start in range(0, 1000, 50):
        sink.write(numbered(50, start))
    status = sink.status()
    assert status.dropped > 0
    assert status.dropped + status.waiting == 1000
    far.trouble = None
    wait_until(lambda: sink.status().waiting == 0)
    sink.close()
    assert far.taken == [("door", n) for n in range(status.dropped, 1000)]
