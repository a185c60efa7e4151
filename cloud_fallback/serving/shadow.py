"""Copies of requests to a version whose answers nobody sees: compared and counted, then forgotten.

A copy is made after the caller's answer is there, waits behind every real request, and is not made at all
while too many others run. Chooses nothing; `traffic` does.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from cloud_fallback.serving.agreement import agree
from cloud_fallback.serving.call import current
from edge_runtime.contract.errors import EdgeRuntimeError

log = logging.getLogger(__name__)

SHADOW_PRIORITY = 9
"""Behind every real request: 0 is served first, and 1 is what a request has that does not say."""


class Outcome(StrEnum):
    """What became of a copy."""

    AGREED = "agreed"
    DIFFERED = "differed"
    FAILED = "failed"
    """The shadow gave an error where the other version answered."""
    DROPPED = "dropped"
    """Too many copies ran already."""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A copy that came to an end.

    Args:
        model: Whose.
        version: The shadow.
        outcome: What became of it.
    """

    model: str
    version: str
    outcome: Outcome


class Shadows:
    """Runs copies, a few at a time.

    Args:
        told: Called with each outcome.
        most: Copies that run at the same time.
    """

    def __init__(self, told: Callable[[Shadowed], None], most: int = 8) -> None:
        self._told = told
        self._most = most
        self._running: set[asyncio.Task[None]] = set()
        self.counts: Counter[Shadowed] = Counter()

    def mirror(self, model: str, version: str, given: object, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask a shadow the same in the background.

        Args:
            model: Whose request.
            version: The shadow.
            given: The value that the caller got.
            ask: Asks the shadow and gives its value.
        """
        if len(self._running) >= self._most:
            self._count(Shadowed(model, version, Outcome.DROPPED))
            return
        task = asyncio.create_task(self._compare(model, version, given, ask))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Give up on what still runs."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _compare(
        self, model: str, version: str, given: object, ask: Callable[[], Awaitable[object]]
    ) -> None:
        current.set(None)  # what the shadow takes is not the caller's
        try:
            outcome = Outcome.AGREED if agree(given, await ask()) else Outcome.DIFFERED
        except EdgeRuntimeError:
            outcome = Outcome.FAILED
        except Exception:
            log.exception("a copy for the shadow %s of '%s' failed", version, model)
            outcome = Outcome.FAILED
        self._count(Shadowed(model, version, outcome))

    def _count(self, shadowed: Shadowed) -> None:
        self.counts[shadowed] += 1
        self._told(shadowed)
