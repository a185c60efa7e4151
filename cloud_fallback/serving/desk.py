"""Desk: a few threads beside the engines', for pictures and long texts to be prepared, and for generation.

Bounded: what finds too many before it is refused at once, with the time after which to try again. Knows no
model.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from edge_runtime.contract.errors import OverloadedError
from edge_runtime.contract.frame import Picture

T = TypeVar("T")

HEAVY_CHARACTERS = 4000
"""Tokenizing this many takes about as long as the way to a thread and back is worth."""
_PATIENCE = 16
"""Jobs that may wait for each thread."""
_USUAL_S = 0.01


def is_heavy(value: Any) -> bool:
    """Tell whether preparing a value would hold up the event loop."""
    return isinstance(value, Picture) or (isinstance(value, str) and len(value) > HEAVY_CHARACTERS)


class Desk:
    """Runs jobs on its own threads. Its methods belong to the event loop's thread.

    Args:
        threads: How many.
        name: Of the threads.
    """

    def __init__(self, threads: int, name: str = "desk") -> None:
        self._threads = threads
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._jobs = 0
        self._mean_s = _USUAL_S

    async def do(self, apart: bool, job: Callable[[], T]) -> T:
        """Do a job.

        Args:
            apart: On a thread; False: here and now.
            job: What to do.

        Raises:
            OverloadedError: Too many wait already.
            EdgeRuntimeError: As the job raises it.
        """
        if not apart:
            return job()
        if self._jobs >= self._threads * (1 + _PATIENCE):
            raise OverloadedError(
                f"the {self._name} is full",
                retry_after_s=self._mean_s * self._jobs / self._threads,
                got=f"{self._jobs} jobs waiting",
            )
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._jobs += 1
        try:
            return await loop.run_in_executor(self._pool, job)
        finally:
            share_s = (loop.time() - began) * self._threads / self._jobs
            self._mean_s += 0.1 * (share_s - self._mean_s)
            self._jobs -= 1

    def close(self) -> None:
        """Let go of the threads once their jobs are done."""
        self._pool.shutdown(wait=False, cancel_futures=True)
