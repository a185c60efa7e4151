"""Callers that go away: the work for them is cancelled. Knows nothing of what the work is.

Waiting for a caller to go away takes a task, which a request that is answered at once is not worth; so a
`Lookout` begins to wait only for those that are still there when it comes round.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, TypeAlias

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]

_ROUND_S = 0.01


class Gone(Exception):  # noqa: N818 - nothing is wrong
    """The caller has closed its connection."""


class Lookout:
    """Goes round every hundredth of a second while there are watches. Belongs to a door."""

    def __init__(self) -> None:
        self._young: deque[Watch] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, watch: "Watch") -> None:
        """Look after a watch that has begun."""
        self._young.append(watch)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # none is going round, or one that ended with its loop
            self._loop = loop
            loop.call_later(_ROUND_S, self._go_round, len(self._young))

    def _go_round(self, seen: int) -> None:
        for _ in range(seen):
            self._young.popleft().wait()
        if self._young and self._loop is not None:
            self._loop.call_later(_ROUND_S, self._go_round, len(self._young))
        else:
            self._loop = None


class Watch:
    """Cancels the task that made it when the caller goes away, within a `with` block.

    Args:
        receive: ASGI's, after the body.
        lookout: Who begins to wait.
    """

    __slots__ = ("_gone", "_lookout", "_over", "_receive", "_task", "_waiting")

    def __init__(self, receive: Receive, lookout: Lookout) -> None:
        self._receive = receive
        self._lookout = lookout
        self._task = asyncio.current_task()
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
            self._waiting = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()
