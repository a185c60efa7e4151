"""Callers that go away, or that send too slowly: the work for them is cancelled. Knows nothing of the work.

Waiting for a caller to go away takes a task, which a request that is answered at once is not worth; so a
`Lookout` begins to wait only for those that are still there when it comes round. Likewise a timer for each
body: it comes round to all that are being read.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, TypeAlias

from edge_runtime.contract.errors import InputError

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]

_ROUND_S = 0.01
_IDS = 256
_USUAL_PATIENCE_S = 30.0
_LEAST_BYTES_S = 64 << 10
"""A body gains a second for so many bytes that came: a large one over a slow network is no attack."""


class Gone(Exception):  # noqa: N818 - nothing is wrong
    """The caller has closed its connection."""


class Lookout:
    """Goes round every hundredth of a second while there are watches. Belongs to a door.

    Args:
        patience_s: For a body, and a second more for each 64 KiB of it that came.
    """

    def __init__(self, patience_s: float = _USUAL_PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._young: deque[Watch] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ids: list[bytes] = []
        self._readings: set[Reading] = set()
        self._reading_loop: asyncio.AbstractEventLoop | None = None

    def new_id(self) -> str:
        """Make an id of a request that nobody can guess; asks the system for many at once."""
        if not self._ids:
            some = os.urandom(16 * _IDS)
            self._ids = [some[at : at + 16] for at in range(0, len(some), 16)]
        return self._ids.pop().hex()

    def reading(self) -> "Reading":
        """Give a body so much time, within a `with` block of the task that reads it."""
        loop = asyncio.get_running_loop()
        reading = Reading(self._patience_s, self._readings, asyncio.current_task(loop))
        if loop is not self._reading_loop:
            self._reading_loop = loop
            loop.call_later(self._patience_s / 4, self._look_at_readings)
        return reading

    def add(self, watch: "Watch") -> None:
        """Look after a watch that has begun."""
        self._young.append(watch)
        if watch.loop is not self._loop:  # none is going round, or one that ended with its loop
            self._loop = watch.loop
            watch.loop.call_later(_ROUND_S, self._go_round, len(self._young))

    def _look_at_readings(self) -> None:
        for reading in tuple(self._readings):
            reading.look()
        if self._readings and self._reading_loop is not None:
            self._reading_loop.call_later(self._patience_s / 4, self._look_at_readings)
        else:
            self._reading_loop = None

    def _go_round(self, seen: int) -> None:
        for _ in range(seen):
            self._young.popleft().wait()
        if self._young and self._loop is not None:
            self._loop.call_later(_ROUND_S, self._go_round, len(self._young))
        else:
            self._loop = None


class Reading:
    """A body that is being read; ends the reading where it comes too slowly.

    Args:
        patience_s: For the body.
        others: All that are being read, this one while it is.
        task: That reads it.

    Attributes:
        size: Bytes that came; whoever reads counts them.
        late: Whether it was ended.
    """

    __slots__ = ("_began_s", "_others", "_patience_s", "_task", "late", "size")

    def __init__(
        self, patience_s: float, others: "set[Reading]", task: "asyncio.Task[object] | None"
    ) -> None:
        self._patience_s = patience_s
        self._others = others
        self._task = task
        self._began_s = time.monotonic()
        self.size = 0
        self.late = False

    def __enter__(self) -> "Reading":
        self._others.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._others.discard(self)
        if self.late and self._task is not None and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise InputError(
                "body",
                expected=f"all of it in {self._patience_s:g} s, and a second more for each 64 KiB",
                got=f"{self.size} bytes in {time.monotonic() - self._began_s:.0f} s",
            ) from error

    def look(self) -> None:
        """End the reading if the body is too slow."""
        allowed_s = self._patience_s + self.size / _LEAST_BYTES_S
        if self._task is not None and time.monotonic() - self._began_s > allowed_s:
            self.late = True
            self._task.cancel()


class Watch:
    """Cancels the task that made it when the caller goes away, within a `with` block.

    Args:
        receive: ASGI's, after the body.
        lookout: Who begins to wait.
    """

    __slots__ = ("_gone", "_lookout", "_over", "_receive", "_task", "_waiting", "loop")

    def __init__(self, receive: Receive, lookout: Lookout) -> None:
        self._receive = receive
        self._lookout = lookout
        self.loop = asyncio.get_running_loop()  # once: each time costs a system call
        self._task = asyncio.current_task(self.loop)
        self._waiting: asyncio.Task[None] | None = None
        self._gone = False
        self._over = False

    def __enter__(self) -> "Watch":
        self._lookout.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._gone and self._task is not None and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise Gone from error

    def wait(self) -> None:
        """Begin to wait for the caller to go away, if its work is not done."""
        if not self._over:
            self._waiting = self.loop.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()
