"""A dispatcher with a model that is a function and may be held, and counts of all that was told."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from cloud_fallback.serving.batcher import BatchLimits
from cloud_fallback.serving.dispatcher import Dispatcher, Ran
from cloud_fallback.serving.instances import Crew
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.tensors import Tensors

KEY = "k"


@dataclass
class Model:
    """Doubles its input. Runs wait until they are let go, unless the gate is open from the start."""

    gate: threading.Event = field(default_factory=threading.Event)
    sizes: list[int] = field(default_factory=list[int])
    threads: set[str] = field(default_factory=set[str])
    seen: list[int] = field(default_factory=list[int])

    def run(self, tensors: Tensors) -> Tensors:
        assert self.gate.wait(60)
        x = tensors["x"]
        self.sizes.append(len(x))
        self.threads.add(threading.current_thread().name)
        self.seen.append(id(x))
        if (x == 13).any():
            raise EngineError("13 brings bad luck")
        if (x == 14).any():
            raise ZeroDivisionError("14 is worse")
        return {"y": x * 2}


@dataclass
class Counts:
    batches: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    requests: int = 0
    shed: list[str] = field(default_factory=list[str])

    def batch_ran(self, model: str, version: str, *, rows: int, requests: int, run_s: float) -> None:
        assert (model, version) == ("m", "1")
        assert run_s >= 0
        self.batches.append((rows, requests))

    def request_ran(self, model: str, version: str, *, rows: int, queue_s: float, run_s: float) -> None:
        assert rows >= 1
        assert queue_s >= 0
        self.requests += 1

    def request_shed(self, model: str, version: str, *, reason: str) -> None:
        self.shed.append(reason)


@dataclass
class Scene:
    model: Model
    crew: Crew
    dispatcher: Dispatcher
    counts: Counts

    async def ask(self, *values: float, **told: object) -> list[float]:
        ran = await self.ran(*values, **told)
        return ran.tensors["y"][:, 0].tolist()

    async def ran(self, *values: float, **told: object) -> Ran:
        x = np.array(values, np.float32)[:, None]
        given: dict[str, object] = {"rows": len(values), "key": KEY, **told}
        return await self.dispatcher.infer({"x": x}, **given)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)


def play(
    act: Callable[[Scene], Awaitable[None]], *, size: int = 1, held: bool = False, queue_rows: int = 1000
) -> Scene:
    """Run a scene; `held`: runs wait until the scene opens the model's gate."""
    model, counts, crew = Model(), Counts(), Crew(size)
    limits = BatchLimits(max_rows=8, queue_rows=queue_rows)
    dispatcher = Dispatcher(model.run, crew, model="m", version="1", limits=limits, observer=counts)
    scene = Scene(model, crew, dispatcher, counts)
    if not held:
        model.gate.set()

    async def whole() -> None:
        await act(scene)
        await dispatcher.close()

    with ExitStack() as last:
        last.callback(crew.close)
        last.callback(model.gate.set)
        asyncio.run(whole())
    return scene
