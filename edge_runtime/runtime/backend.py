"""RuntimeBackend: the runtime as the door asks it: many at once on one event loop, the work in a few threads.

Speaks no HTTP and decides no route.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from edge_runtime.contract.errors import (
    DeadlineError,
    EngineError,
    InputError,
    OverloadedError,
    UnknownModelError,
)
from edge_runtime.contract.given import GivenAnswer
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Answer, Values
from edge_runtime.protocol.backend import ModelDescription, ModelState, Piece, TensorAnswer
from edge_runtime.routing.local import Opened
from edge_runtime.routing.policy import Mode
from edge_runtime.runtime.runtime import Runtime
from edge_runtime.web.predict_routes import Late

_T = TypeVar("_T")

_WAITING_A_WORKER = 16
"""Requests that wait for each worker; more are sent away at once, for they would wait too long anyway."""

_GIVEN = 20
"""Answers that are remembered for whoever looks."""

_END = object()


class RuntimeBackend:
    """Answers a door. Belongs to one event loop; close it after the door.

    Args:
        runtime: Who answers.
        at_once: Requests worked on at the same time; as many again of those that may have to wait for the
            cloud.

    Attributes:
        given: The last answers, the newest first; appended to by the event loop's thread alone.
    """

    def __init__(self, runtime: Runtime, at_once: int) -> None:
        self._runtime = runtime
        self.given: deque[GivenAnswer] = deque(maxlen=_GIVEN)
        # Who waits for a cloud that says nothing must not hold the workers of those who need none.
        self._here = _Workers(at_once, "request")
        self._maybe_there = _Workers(at_once, "request-cloud")

    def ready(self) -> bool:
        """Say whether every model is open, or the cloud answers for it."""
        return all(state.state == "READY" for state in self.index())

    def index(self) -> Sequence[ModelState]:
        """List every model: open here, or in the cloud, or why neither."""
        return [self._state(name) for name in self._runtime.router.models]

    def describe(self, model: str, version: str | None) -> ModelDescription:
        """Describe a model; of one that only the cloud has, nobody here knows the tensors.

        Raises:
            UnknownModelError: There is none of that name or version.
            EngineError: It is not open here, and no cloud may answer for it.
        """
        self._runtime.router.model(model)
        opened = self._opened(model)
        if opened is None:
            state = self._state(model)
            if state.state != "READY":
                raise EngineError(f"model '{model}'", expected="a model that is open here", got=state.reason)
            served = version or ""
            return ModelDescription(model, (), served, "cloud", "", (), ())
        if version is not None and version != opened.version:
            raise UnknownModelError(
                f"model '{model}'", expected=f"version {opened.version}", got=version[:80]
            )
        return ModelDescription(
            name=model,
            versions=(opened.version,),
            version=opened.version,
            platform=opened.platform,
            kind=opened.kind,
            inputs=tuple(opened.session.inputs),
            outputs=tuple(opened.session.outputs),
        )

    async def infer(self, request: Request, outputs: Sequence[str] | None) -> TensorAnswer:
        """Run a model on tensors, here or in the cloud.

        Raises:
            EdgeRuntimeError: As `Router.predict`.
        """
        answer = await self._work(request, lambda asked: self._runtime.router.predict(asked, outputs))
        self._note(request, answer)
        if not isinstance(answer.value, Values):
            raise InputError(f"model '{request.model}'", expected="tensors", got=type(request.value).__name__)
        details = {
            "route": answer.decision.route.value,
            "reason": answer.decision.reason.value,
            "variant": answer.variant,
            "latency_ms": round(answer.latency_ms, 3),
        }
        return TensorAnswer(answer.value.tensors, request.model, answer.version, details)

    async def predict(self, request: Request) -> Answer[Any]:
        """Answer a picture, a text or a prompt, here or from the cloud.

        Raises:
            EdgeRuntimeError: As `Router.predict`.
        """
        answer = await self._work(request, self._runtime.router.predict)
        self._note(request, answer)
        return answer

    async def generate(self, request: Request) -> AsyncIterator[Piece]:
        """Generate a text piece by piece; closing the iterator ends the work.

        Raises:
            EdgeRuntimeError: As `Router.generate`.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[object] = asyncio.Queue()
        gone = threading.Event()

        def hand_over(piece: object) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def pump(asked: Request) -> None:
            if gone.is_set():
                return
            text = self._runtime.router.generate(asked)
            try:
                for piece in text:
                    hand_over(piece)
                    if gone.is_set():
                        return
                hand_over(_END)
            except Exception as error:  # noqa: BLE001 - raised again where the caller waits
                hand_over(error)
            finally:
                text.close()

        work = asyncio.ensure_future(self._work(request, pump))
        work.add_done_callback(lambda done: _overtaken(done, pieces))
        try:
            while (piece := await pieces.get()) is not _END:
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, Piece):
                    if piece.end is not None:
                        self._note(request, piece.end)
                    yield piece
        finally:
            gone.set()
            work.cancel()

    async def load(self, model: str) -> None:
        """Open a model that is closed, if it fits.

        Raises:
            EdgeRuntimeError: As `Runtime.load`.
        """
        await asyncio.to_thread(self._runtime.load, model)
        if self._opened(model) is None:
            raise EngineError(f"model '{model}' does not open", got=self._state(model).reason)

    async def unload(self, model: str) -> None:
        """Close a model; requests under way are answered first.

        Raises:
            EdgeRuntimeError: As `Runtime.unload`.
        """
        await asyncio.to_thread(self._runtime.unload, model)

    async def find(self, request_id: str) -> Late | None:
        """Look a late answer up, for the door's `/v1/answers`.

        Raises:
            StorageError: The outbox cannot be read.
        """
        cloud = self._runtime.cloud
        found = False if cloud is None else await asyncio.to_thread(cloud.desk.find, request_id)
        if found is False:
            return None
        return Late(found if isinstance(found, Answer) else None)

    def _note(self, request: Request, answer: Answer[Any]) -> None:
        route, reason = answer.decision.route.value, answer.decision.reason.value
        self.given.appendleft(
            GivenAnswer(
                time.time(),
                request.model,
                answer.version,
                answer.variant,
                route,
                reason,
                answer.latency_ms,
            )
        )

    def close(self) -> None:
        """Wait for what is under way; take nothing more."""
        self._here.close()
        self._maybe_there.close()

    async def _work(self, request: Request, work: Callable[[Request], _T]) -> _T:
        """Have a thread do it; its time starts now, and what nobody waits for any more is not begun."""
        routed = self._runtime.router.model(request.model)
        until_s = time.monotonic() + (routed.timeout_s if request.timeout_s is None else request.timeout_s)

        def run() -> _T:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise DeadlineError(f"model '{request.model}'", got="the time went by while it waited")
            return work(replace(request, timeout_s=left_s))

        alone = self._runtime.cloud is None or routed.policy.mode is Mode.LOCAL_ONLY
        return await (self._here if alone else self._maybe_there).run(run)

    def _opened(self, model: str) -> Opened | None:
        local = self._runtime.local(model)
        return None if local is None else local.opened

    def _state(self, name: str) -> ModelState:
        routed = self._runtime.router.model(name)
        opened = self._opened(name)
        if opened is not None:
            return ModelState(name, opened.version, "READY")
        if self._runtime.cloud is not None and routed.policy.mode is not Mode.LOCAL_ONLY:
            return ModelState(name, "", "READY", "the cloud answers")
        facts = None if routed.local is None else routed.local.facts(None, 0.0)
        why = "the device has no bundle of it" if facts is None else facts.why_not
        return ModelState(name, "", "UNAVAILABLE", why or "it does not fit the memory")


class _Workers:
    """Some threads, and a bounded line before them. Belongs to the event loop's thread."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._waiting = 0

    async def run(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= self._count * (1 + _WAITING_A_WORKER):
            raise OverloadedError("the door", retry_after_s=1.0, got=f"{self._waiting} requests are waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _overtaken(done: "asyncio.Future[None]", pieces: "asyncio.Queue[object]") -> None:
    """Hand over why the work was never begun."""
    error = None if done.cancelled() else done.exception()
    if error is not None:
        pieces.put_nowait(error)
