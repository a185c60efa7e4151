"""Ctrl-C and SIGTERM as a wish to stop: the first one drains, the second one ends at once.

Stops nothing itself.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def stop_on_signals() -> Generator[threading.Event, None, None]:
    """Give an event that SIGINT and SIGTERM set.

    After the first signal the earlier handlers are back, so that a second Ctrl-C is not ignored.

    Yields:
        The event. Outside the main thread, where Python takes no signals, nothing sets it.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: object) -> None:
        stop.set()
        restore()

    for number in watched:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
