"""Attempt: one step in one child process, watched until it ends or has to be ended.

Decides neither what runs nor when, and keeps no result. POSIX only, for process groups and inherited pipes.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from converters import worker
from converters.environments import AbandonedError, Launch
from converters.own_code import packages_of
from converters.step import Facts, Step, Tell
from converters.store import Draft

_POLL_S = 0.1
_READ_BYTES = 65536
_ENVIRONMENT = {
    # What tools print must be in the log when they crash.
    "PYTHONUNBUFFERED": "1",
    # Sets of strings come in the same order each time, and with them, names and nodes.
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended.

    Args:
        seconds: How long it took.
        facts: What the step said of its result; None unless it succeeded.
        peak_memory_bytes: The most memory it had in use; None unless it succeeded.
        error: What the worker said of an error; None where it said nothing.
        returncode: Of the process; negative: the signal that ended it.
        timed_out: Whether it was ended for its time.
    """

    seconds: float
    facts: Facts | None
    peak_memory_bytes: int | None
    error: Mapping[str, Any] | None
    returncode: int
    timed_out: bool


def attempt(
    step: Step,
    launch: Launch,
    draft: Draft,
    inputs: Mapping[str, Path],
    *,
    shared: bool,
    tell: Tell,
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Ended:
    """Run a step.

    Args:
        step: What to run.
        launch: How to start its tool's Python.
        draft: Where it works.
        inputs: Name of an input -> its folder or file.
        shared: Whether the tool's environment may import what this one can.
        tell: Told the step's progress.
        stop: Set by another thread to give up.
        clock: Gives seconds, for the time limit.

    Raises:
        AbandonedError: `stop` was set; the process is gone.
        OSError: The process cannot be started, or the disk is full.
    """
    report, report_end = os.pipe()
    life_end, life = os.pipe()
    try:
        job = _job(step, draft, inputs, report_end, life_end, shared)
        began = clock()
        with draft.log.open("wb") as log:
            process = subprocess.Popen(
                [*launch.command, worker.__file__, str(job)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**launch.environment, **_ENVIRONMENT, "TMPDIR": str(draft.temporary)},
                pass_fds=(report_end, life_end),
                start_new_session=True,
            )
    except BaseException:
        os.close(report)
        os.close(life)
        raise
    finally:
        os.close(report_end)
        os.close(life_end)
    watch = _Watch(report, tell)
    try:
        timed_out = watch.follow(process, stop, lambda: clock() - began > step.timeout_s)
    finally:
        _end(process)
        os.close(life)
        watch.close()
    return Ended(
        clock() - began, watch.facts, watch.peak_memory_bytes, watch.error, process.returncode, timed_out
    )


def _job(step: Step, draft: Draft, inputs: Mapping[str, Path], report: int, life: int, shared: bool) -> Path:
    job = {
        "function": step.function,
        "inputs": {name: str(path.absolute()) for name, path in inputs.items()},
        "out": str(draft.out),
        "options": dict(step.options),
        "memory_bytes": step.memory_bytes,
        "packages": {package.name: asdict(package) for package in packages_of(step.function)},
        # What can be imported here (a model's own code, too) can be imported there, but hides nothing there.
        "path": [str(Path(entry).absolute()) for entry in (*sys.path, "")] if shared else [],
        "report": report,
        "life": life,
    }
    file = draft.folder / "job.json"
    file.write_text(json.dumps(job))
    return file


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process and of all it started."""
    # Not yet waited for, so its number cannot be anybody else's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Watch:
    """Reads what the worker reports."""

    def __init__(self, report: int, tell: Tell) -> None:
        self.facts: Facts | None = None
        self.peak_memory_bytes: int | None = None
        self.error: Mapping[str, Any] | None = None
        self._report = report
        self._tell = tell
        self._rest = b""
        self._open = True
        os.set_blocking(report, False)

    def follow(
        self, process: subprocess.Popen[bytes], stop: threading.Event, late: Callable[[], bool]
    ) -> bool:
        """Read until the process ends or must be ended; tells whether that was for its time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._report, selectors.EVENT_READ)
            while not _exited(process):
                if stop.is_set():
                    raise AbandonedError
                if late():
                    return True
                if not self._open:
                    # The pipe closes as the worker ends, which takes another moment.
                    time.sleep(0.001)
                elif selector.select(_POLL_S):
                    self._read()
                    if not self._open:
                        selector.unregister(self._report)
        self._read()
        return False

    def close(self) -> None:
        os.close(self._report)

    def _read(self) -> None:
        while self._open:
            try:
                data = os.read(self._report, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._open = False
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(cast(dict[str, Any], json.loads(line)))

    def _take(self, message: dict[str, Any]) -> None:
        if "tell" in message:
            share, doing = message["tell"]
            self._tell(share, doing)
        elif "done" in message:
            self.facts = message["done"]
            self.peak_memory_bytes = message["peak_memory_bytes"]
        else:
            self.error = message["error"]


def _exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended; it is left to be waited for, so that its number stays its own."""
    if sys.platform == "darwin" and sys.version_info < (3, 13):
        # There is no other way there.
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
