"""Signals as wishes: Ctrl-C and SIGTERM to stop, SIGHUP to read the settings again.

The first wish to stop drains, the second ends at once. Stops and reads nothing itself. Imports nothing that
takes time: `run` listens before anything else is loaded.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress


def leave_on_sigterm() -> None:
    """End with 0 on a SIGTERM that comes while the program still loads: there is nothing to drain yet."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: object) -> None:
    sys.exit(0)


@contextmanager
def unwind_on_sigterm() -> Generator[None, None, None]:
    """Let SIGTERM unwind like Ctrl-C, where nobody else decided about it.

    Raises:
        SystemExit: It came; its code is 143.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def stop_on_signals(told: Callable[[], None] | None = None) -> Generator[threading.Event, None, None]:
    """Give an event that SIGINT and SIGTERM set.

    After the first signal the earlier handlers are back, so that a second Ctrl-C is not ignored.

    Args:
        told: Called with the first signal; must not take time.

    Yields:
        The event. Outside the main thread, where Python takes no signals, nothing sets it.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}
    if before[signal.SIGTERM] is _leave:
        before[signal.SIGTERM] = signal.SIG_DFL

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: object) -> None:
        stop.set()
        restore()
        if told is not None:
            told()

    for number in watched:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def reload_on_hangup(stop: threading.Event) -> Generator[threading.Event, None, None]:
    """Give an event that SIGHUP sets.

    When it comes because the terminal was closed, it is a wish to stop. Where somebody has it ignored
    (nohup), it stays ignored.

    Args:
        stop: Set when the terminal is gone.

    Yields:
        The event. Outside the main thread, and where there is no such signal (Windows), nothing sets it.
    """
    reload = threading.Event()
    number = getattr(signal, "SIGHUP", None)
    here = threading.current_thread() is threading.main_thread()
    if number is None or not here or signal.getsignal(number) is signal.SIG_IGN:
        yield reload
        return
    terminals = [descriptor for descriptor in (0, 1, 2) if _is_terminal(descriptor)]

    def handle(_number: int, _frame: object) -> None:
        alive = all(_is_terminal(descriptor) for descriptor in terminals)
        (reload if alive else stop).set()

    before = signal.signal(number, handle)
    try:
        yield reload
    finally:
        signal.signal(number, before)


def _is_terminal(descriptor: int) -> bool:
    with suppress(OSError):
        return os.isatty(descriptor)
    return False
