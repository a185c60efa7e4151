"""Keeping a session's callers apart: who is inside, who may come in, and when all have left.

Knows no engine. Starts no threads and schedules nobody: a caller runs on its own thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, TypeVar

from edge_runtime.contract.errors import EngineError

T = TypeVar("T")


class Gate:
    """Counts the runs under way, so that closing can wait for them and later ones are refused.

    Args:
        what: What is behind the gate, for the message of a refusal.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._inside = 0
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise EngineError(
                    f"session of {self._what} is closed", do="Open the model again before running it"
                )
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            if self._closed and not self._inside:
                self._changed.notify_all()

    def close(self) -> None:
        """Refuse newcomers and wait until everybody has left. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._inside)


class Pool(Generic[T]):
    """As many runners as there are callers at the same time, and no more.

    For engines whose runner (an interpreter, an infer request) one thread may use at a time. A runner is made
    when a caller finds none idle, and is kept for the next one; one that raised is thrown away.

    Args:
        what: The model, for messages.
        make: Makes one more runner.
        first: A runner that exists already.
    """

    def __init__(self, what: str, make: Callable[[], T], first: T) -> None:
        self._gate = Gate(what)
        self._make = make
        self._idle: deque[T] = deque([first])  # append and pop are atomic

    @contextmanager
    def lend(self) -> Generator[T]:
        """Give a runner to the caller alone.

        Raises:
            EngineError: The pool is closed.
        """
        with self._gate:
            try:
                runner = self._idle.pop()  # the one used last: its memory is warm
            except IndexError:
                runner = self._make()
            yield runner
            self._idle.append(runner)

    def close(self) -> None:
        """Wait for the runners lent, then let go of all of them. Idempotent."""
        self._gate.close()
        self._idle.clear()
