"""The threads beside the engines': what goes there, how many may wait, and who is let in during an unload."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from cloud_fallback.serving.desk import HEAVY_CHARACTERS, Desk, is_heavy
from cloud_fallback.serving.visits import Visits
from edge_runtime.contract.errors import InputError, OverloadedError
from edge_runtime.contract.frame import Picture


@pytest.mark.parametrize(
    ("value", "heavy"),
    [
        (Picture.from_bgr(np.zeros((2, 2, 3), np.uint8)), True),
        ("a short text", False),
        ("a" * (HEAVY_CHARACTERS + 1), True),
        ({"x": np.zeros(3)}, False),
    ],
)
def test_what_is_heavy(value: Any, heavy: bool) -> None:
    assert is_heavy(value) is heavy


def test_light_work_is_done_here_and_heavy_work_apart() -> None:
    async def act() -> None:
        desk = Desk(1)
        here = threading.current_thread().name
        assert await desk.do(False, lambda: threading.current_thread().name) == here
        assert await desk.do(True, lambda: threading.current_thread().name) == "desk_0"
        desk.close()

    asyncio.run(act())


def test_an_error_comes_back_as_it_was() -> None:
    def refuse() -> None:
        raise InputError("picture", expected="pixels", got="none")

    async def act() -> None:
        desk = Desk(1)
        for apart in (False, True):
            with pytest.raises(InputError, match="expected pixels"):
                await desk.do(apart, refuse)
        desk.close()

    asyncio.run(act())


def test_too_many_jobs_are_refused_until_there_is_room() -> None:
    gate = threading.Event()

    async def act() -> None:
        desk = Desk(2)
        jobs = [asyncio.create_task(desk.do(True, gate.wait)) for _ in range(34)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="34 jobs waiting") as told:
            await desk.do(True, gate.wait)
        assert told.value.retry_after_s > 0
        gate.set()
        assert all(await asyncio.gather(*jobs))
        assert await desk.do(True, gate.wait)
        desk.close()

    asyncio.run(act())


def test_closing_waits_for_visitors_and_lets_nobody_in() -> None:
    async def act() -> None:
        visits = Visits("model 'm'")
        with visits.inside():
            closing = asyncio.create_task(visits.close())
            await asyncio.sleep(0)
            assert not closing.done()
            with pytest.raises(OverloadedError, match="model 'm' is being unloaded"), visits.inside():
                pass
        await closing
        await visits.close()  # again: nothing happens

    asyncio.run(act())
