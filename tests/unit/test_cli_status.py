"""How an agent is doing, laid out for a person; and the exit code a run deserves."""

import io
import signal
import threading

import pytest
from rich.console import Console

from edge_runtime.cli.run import outcome
from edge_runtime.cli.status_table import counts, status_lines, status_table
from edge_runtime.cli.stopping import stop_on_signals
from edge_runtime.contract.errors import BundleError, EdgeRuntimeError, EngineError
from edge_runtime.contract.status import AgentStatus, CameraState, CameraStatus, DropCause, SinkStatus

DOOR = CameraStatus(
    "door",
    CameraState.ONLINE,
    decoded=100,
    inferred=90,
    dropped={DropCause.STILL: 7, DropCause.LATE: 3},
    inferred_fps=9.94,
    occupancy={"aisle": 2},
    crossings={"entry": {"in": 3, "out": 1}},
)
GONE = CameraStatus("back", CameraState.FAILED, "no such file [/bold]", progress=0.5)


def status(*cameras: CameraStatus, sinks: tuple[SinkStatus, ...] = ()) -> AgentStatus:
    return AgentStatus(cameras, sinks, uptime_s=12.0, cpu_cores=0.5, rss_bytes=150 * 2**20)


def test_the_table_says_what_counts() -> None:
    screen = Console(file=io.StringIO(), width=200)
    screen.print(status_table(status(DOOR, GONE, sinks=(SinkStatus("jsonl", 5, 2, 1, "disk full"),))))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for part in ("door", "online", "9.9", "aisle 2 · entry in 3 out 1", "failed", "no such file [/bold]"):
        assert part in text
    assert "sink jsonl: 5 events written, 2 waiting, 1 dropped: disk full" in text
    assert "live" in text
    assert "0.50 cores busy, 150 MiB" in text


def test_a_file_that_failed_is_not_called_live() -> None:
    screen = Console(file=io.StringIO(), width=200)
    unread = CameraStatus("back", CameraState.FAILED, "no such file")
    screen.print(status_table(status(unread, sinks=(SinkStatus("video", 5, what="pictures"),))))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "live" not in text
    assert "sink video: 5 pictures written" in text


def test_a_decoder_that_is_not_the_wanted_one_is_shown() -> None:
    screen = Console(file=io.StringIO(), width=200)
    wanted = CameraStatus("a", CameraState.ONLINE, decoder="cuda")
    missed = CameraStatus("b", CameraState.ONLINE, decoder="processor: vaapi does not open here")
    screen.print(status_table(status(wanted, missed)))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "camera b is decoded by the processor: vaapi does not open here" in text
    assert "camera a is decoded" not in text


def test_the_lines_say_the_same() -> None:
    (line,) = status_lines(status(DOOR))
    assert line == (
        "camera=door state=online fps=9.9 decoded=100 inferred=90 dropped=10 aisle 2 · entry in 3 out 1"
    )


def test_counts_of_a_camera_without_rules_are_empty() -> None:
    assert counts(CameraStatus("x", CameraState.ONLINE)) == ""


@pytest.mark.parametrize(
    ("cameras", "sinks", "code"),
    [
        ((DOOR,), (), 0),
        ((DOOR,), (SinkStatus("mqtt", 5, waiting=9, trouble="away"),), 0),
        ((DOOR, GONE), (), 7),
        ((DOOR, GONE), (SinkStatus("jsonl", dropped=1),), 8),
        ((DOOR,), (SinkStatus("video", dropped=1, what="pictures"),), 0),
    ],
)
def test_a_run_ends_with_the_code_it_deserves(
    cameras: tuple[CameraStatus, ...], sinks: tuple[SinkStatus, ...], code: int
) -> None:
    assert outcome(status(*cameras, sinks=sinks), stopped=False) == code


@pytest.mark.parametrize(
    ("problems", "dropped", "stopped", "code"),
    [
        ([BundleError("damaged")], 0, False, 5),
        ([EngineError("missing")], 0, False, 6),
        ([EngineError("missing"), BundleError("damaged")], 0, False, 5),
        ([BundleError("damaged")], 1, False, 8),
        ([BundleError("damaged")], 0, True, 0),
    ],
)
def test_a_model_that_does_not_open_gives_its_own_code(
    problems: list[EdgeRuntimeError], dropped: int, stopped: bool, code: int
) -> None:
    sinks = (SinkStatus("jsonl", dropped=dropped),)
    assert outcome(status(DOOR, GONE, sinks=sinks), stopped=stopped, problems=problems) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_is_not_ours(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert signal.getsignal(number) is not before
        signal.raise_signal(number)
        assert stop.wait(5)
        assert signal.getsignal(number) is before


def test_without_a_signal_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        assert not stop.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def look() -> None:
        with stop_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
