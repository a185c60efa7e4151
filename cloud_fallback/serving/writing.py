"""Writing: a served version that generates texts, each on a thread of its own, a piece when one is asked for.

Generated texts are not batched: each has a past of its own, and a token of one is a run of the whole model.
So many are written at a time, some wait, the rest are refused. A reader who is slow is waited for; one who
leaves ends the work after the token under way.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from cloud_fallback.serving.visits import Visits
from edge_runtime.contract.errors import DeadlineError, EngineError, OverloadedError
from edge_runtime.contract.request import Prompt
from edge_runtime.contract.result import Generation
from edge_runtime.local_model import AnyModel
from edge_runtime.predict import GenerationPredictor

_WAITING = 4
"""Texts that may wait for each one that is written at a time."""
_USUAL_S = 5.0


class ServedGenerator:
    """A version that generates, ready.

    Args:
        opened: The model.
        predictor: Its generator.
        writers: Texts written at the same time.
    """

    def __init__(self, opened: AnyModel, predictor: GenerationPredictor, writers: int) -> None:
        manifest = opened.bundle.manifest
        self.opened = opened
        self._name = f"model '{manifest.name}' {manifest.version}"
        self._predictor = predictor
        self._writers = writers
        self._room = asyncio.Semaphore(writers)
        self._pool = ThreadPoolExecutor(writers, thread_name_prefix="writer")
        self._visits = Visits(self._name)
        self._waiting = 0
        self._mean_s = _USUAL_S

    async def generate(
        self, prompt: Prompt | str, timeout_s: float | None
    ) -> AsyncGenerator[tuple[str, Generation | None], None]:
        """Write a text.

        Args:
            prompt: What to go on from.
            timeout_s: After this nobody wants the rest; None: it can take its time.

        Returns:
            New characters after every token; with the last item, which has none, the whole.

        Raises:
            OverloadedError: Too many texts are being written and wait.
            DeadlineError: The time was over before the text was.
            EdgeRuntimeError: As `GenerationPredictor.stream`.
        """
        with self._visits.inside():
            began = time.perf_counter()
            deadline = None if timeout_s is None else began + timeout_s
            await self._enter(timeout_s)
            try:
                loop = asyncio.get_running_loop()
                stream = await loop.run_in_executor(self._pool, self._predictor.stream, prompt)
                async with aclosing(self._follow(stream, deadline)) as pieces:
                    async for each in pieces:
                        yield each
            finally:
                self._room.release()
                self._mean_s += 0.2 * (time.perf_counter() - began - self._mean_s)

    async def close(self) -> None:
        """Let the texts under way end, then give the memory back."""
        await self._visits.close()
        await asyncio.to_thread(self._predictor.close)
        self._pool.shutdown(wait=False)

    async def _enter(self, timeout_s: float | None) -> None:
        wait_s = self._mean_s * (self._waiting + 1) / self._writers
        if self._room.locked():
            late = timeout_s is not None and wait_s > timeout_s
            if late or self._waiting >= _WAITING * self._writers:
                raise OverloadedError(
                    f"{self._name}: too many texts are being written",
                    retry_after_s=wait_s,
                    got=f"{self._writers} under way, {self._waiting} waiting",
                )
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.acquire()
        except TimeoutError as error:
            raise DeadlineError(f"{self._name}: the time is over", got=f"{timeout_s} s of waiting") from error
        finally:
            self._waiting -= 1

    async def _follow(
        self, stream: Generator[str | Generation], deadline: float | None
    ) -> AsyncGenerator[tuple[str, Generation | None], None]:
        """Take item after item on a thread; leaving closes the stream once its item under way is there."""
        step: asyncio.Future[str | Generation | None] | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                if deadline is not None and time.perf_counter() > deadline:
                    raise DeadlineError(f"{self._name}: the time is over", got="an unfinished text")
                step = loop.run_in_executor(self._pool, next, stream, None)
                item = await asyncio.shield(step)
                if item is None:
                    raise EngineError(f"{self._name}: the text ended without an end")
                if isinstance(item, Generation):
                    yield "", item
                    return
                yield item, None
        finally:
            if step is not None and not step.done():
                await asyncio.wait({step})
            if step is not None and not step.cancelled():
                step.exception()  # told to the caller already, or nobody waits for it any more
            await loop.run_in_executor(self._pool, stream.close)
