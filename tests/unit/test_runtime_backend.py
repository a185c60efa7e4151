"""The runtime as a door asks it: bounded, on time, and not begun for whoever has gone."""

import asyncio
import threading
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edge_runtime.contract.errors import DeadlineError, EngineError, OverloadedError, UnknownModelError
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer, Values
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.protocol.backend import Piece
from edge_runtime.routing.local import Local
from edge_runtime.routing.policy import Mode, Policy
from edge_runtime.routing.routed import Routed
from edge_runtime.runtime.backend import RuntimeBackend


class Busy:
    """A router whose answers wait until they may."""

    def __init__(self, policy: Policy) -> None:
        self.may = threading.Event()
        self.begun: list[str] = []
        self.closed = threading.Event()
        local = Local("m", None, needs_bytes=100, budget_bytes=50)
        self.models = {"m": Routed("m", policy, local, "m")}

    def model(self, name: str) -> Routed:
        if name not in self.models:
            raise UnknownModelError(name)
        return self.models[name]

    def predict(self, request: Request, outputs: object = None) -> Answer[Any]:
        self.begun.append(request.id)
        assert self.may.wait(30)
        value = Values({"y": np.ones(1, np.float32)}, ())
        return Answer(value, Decision(Route.LOCAL, Reason.FITS), "bundle", "1", "fp32", 1.5, 1.0)

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        self.begun.append(request.id)
        try:
            for number in range(10**6):
                yield Piece(str(number))
        finally:
            self.closed.set()


@pytest.fixture
def busy() -> Busy:
    return Busy(Policy())


@pytest.fixture
def backend(busy: Busy) -> Iterator[RuntimeBackend]:
    runtime: Any = SimpleNamespace(
        router=busy, local=lambda name: busy.model(name).local, cloud=None, load=busy.model, unload=busy.model
    )
    one = RuntimeBackend(runtime, at_once=1)
    yield one
    busy.may.set()
    one.close()


def asked(number: int, timeout_s: float | None = None) -> Request:
    return Request(f"id-{number}", "m", {"x": np.ones(1, np.float32)}, timeout_s=timeout_s)


async def begun(busy: Busy, count: int) -> None:
    async with asyncio.timeout(30):
        while len(busy.begun) < count:
            await asyncio.sleep(0.005)


def test_too_many_are_sent_away_at_once(busy: Busy, backend: RuntimeBackend) -> None:
    async def run() -> None:
        waiting = [asyncio.ensure_future(backend.predict(asked(number))) for number in range(17)]
        await begun(busy, 1)
        with pytest.raises(OverloadedError, match="17 requests are waiting"):
            await backend.predict(asked(99))
        busy.may.set()
        assert len(await asyncio.gather(*waiting)) == 17

    asyncio.run(run())


def test_what_nobody_waits_for_is_not_begun(busy: Busy, backend: RuntimeBackend) -> None:
    async def run() -> None:
        first = asyncio.ensure_future(backend.predict(asked(1)))
        await begun(busy, 1)
        gone = asyncio.ensure_future(backend.predict(asked(2)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        busy.may.set()
        await first
        await backend.predict(asked(3))

    asyncio.run(run())
    assert busy.begun == ["id-1", "id-3"]


def test_time_in_the_queue_counts(busy: Busy, backend: RuntimeBackend) -> None:
    async def run() -> None:
        first = asyncio.ensure_future(backend.predict(asked(1)))
        await begun(busy, 1)
        late = asyncio.ensure_future(backend.predict(asked(2, timeout_s=0.0)))
        await asyncio.sleep(0)
        busy.may.set()
        await first
        with pytest.raises(DeadlineError, match="while it waited"):
            await late

    asyncio.run(run())
    assert busy.begun == ["id-1"]


def test_tensors_come_with_their_details(busy: Busy, backend: RuntimeBackend) -> None:
    busy.may.set()
    answer = asyncio.run(backend.infer(asked(1), None))
    assert (answer.model, answer.version) == ("m", "1")
    assert answer.details == {"route": "local", "reason": "fits", "variant": "fp32", "latency_ms": 1.5}


def test_closing_a_text_ends_its_work(busy: Busy, backend: RuntimeBackend) -> None:
    async def run() -> None:
        pieces = cast("Any", backend.generate(Request("1", "m", Prompt("x"))))
        assert (await anext(pieces)).text == "0"
        await pieces.aclose()
        assert await asyncio.to_thread(busy.closed.wait, 30)

    asyncio.run(run())


def test_an_error_of_a_text_comes_where_it_is_awaited(busy: Busy, backend: RuntimeBackend) -> None:
    def broken(request: Request) -> Generator[Piece, None, None]:
        yield Piece("a")
        raise EngineError("broken")

    busy.generate = broken  # type: ignore[method-assign]

    async def run() -> list[str]:
        texts: list[str] = []
        with pytest.raises(EngineError, match="broken"):
            async for piece in backend.generate(Request("1", "m", Prompt("x"))):
                texts.append(piece.text)  # noqa: PERF401 - what came before the error counts
        return texts

    assert asyncio.run(run()) == ["a"]


def test_a_model_that_is_not_open_is_told_with_its_reason(backend: RuntimeBackend) -> None:
    (state,) = backend.index()
    assert (state.state, state.reason) == ("UNAVAILABLE", "it does not fit the memory")
    assert not backend.ready()
    with pytest.raises(EngineError, match="does not fit"):
        backend.describe("m", None)
    with pytest.raises(UnknownModelError):
        backend.describe("n", None)
    with pytest.raises(EngineError, match="does not open"):
        asyncio.run(backend.load("m"))


def test_where_the_cloud_answers_a_model_is_ready(busy: Busy) -> None:
    busy.models = {"m": Routed("m", Policy(Mode.LOCAL_FIRST), busy.models["m"].local, "m")}
    runtime: Any = SimpleNamespace(router=busy, local=lambda name: busy.model(name).local, cloud=object())
    one = RuntimeBackend(runtime, at_once=1)
    assert one.ready()
    one.close()
