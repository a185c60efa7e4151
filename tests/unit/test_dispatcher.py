"""The asyncio shell around the batcher, with models that are functions and threads that are real."""

import asyncio
import random
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from cloud_fallback.serving.batcher import BatchLimits
from cloud_fallback.serving.dispatcher import INLINE_S, Dispatcher
from cloud_fallback.serving.instances import Crew
from edge_runtime.contract.errors import DeadlineError, EngineError, InputError, OverloadedError
from edge_runtime.contract.tensors import Tensors
from tests.simulators.dispatching import KEY, Scene, play, until


def test_everybody_gets_their_own_rows() -> None:
    async def act(scene: Scene) -> None:
        asked = [asyncio.create_task(scene.ask(*range(at, at + 1 + at % 3))) for at in range(100, 150)]
        answers = await asyncio.gather(*asked)
        assert answers == [[2.0 * v for v in range(at, at + 1 + at % 3)] for at in range(100, 150)]

    scene = play(act)
    assert scene.counts.requests == 50
    assert sum(rows for rows, _ in scene.counts.batches) == sum(scene.model.sizes)


def test_what_comes_while_a_run_is_under_way_runs_together() -> None:
    async def act(scene: Scene) -> None:
        for rows in (1, 2, 4, 8) * 3:
            scene.dispatcher.prime(KEY, rows, 0.001)
        first = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        rest = [asyncio.create_task(scene.ask(at)) for at in (2, 3, 4)]
        await until(lambda: scene.dispatcher.waiting_rows == 3)
        scene.model.gate.set()
        assert await asyncio.gather(first, *rest) == [[2], [4], [6], [8]]

    scene = play(act, held=True)
    assert scene.model.sizes == [1, 3]
    assert scene.counts.batches == [(1, 1), (3, 3)]


def test_one_request_is_passed_through_without_a_copy() -> None:
    x = np.ones((2, 1), np.float32)

    async def act(scene: Scene) -> None:
        await scene.dispatcher.infer({"x": x}, rows=2, key=KEY)

    assert play(act).model.seen == [id(x)]


@pytest.mark.parametrize(
    ("takes_s", "threads"), [(INLINE_S / 2, {"engine-1", "MainThread"}), (INLINE_S * 2, {"engine-1"})]
)
def test_only_short_runs_stay_on_the_event_loop(takes_s: float, threads: set[str]) -> None:
    """The first run is made on a thread: nobody knows yet how long it will take."""
    seen: list[str] = []
    now = 0.0

    def run(tensors: Tensors) -> Tensors:
        nonlocal now
        now += takes_s
        seen.append(threading.current_thread().name)
        return tensors

    async def whole() -> None:
        crew = Crew(1)
        dispatcher = Dispatcher(run, crew, model="m", version="1", clock=lambda: now)
        for _ in range(4):
            await dispatcher.infer({"x": np.zeros((1, 1))}, rows=1, key=KEY)
        await dispatcher.close()
        crew.close()

    asyncio.run(whole())
    assert set(seen) == threads
    assert seen[0] == "engine-1"


def test_a_run_in_place_that_takes_long_leaves_nobody_waiting() -> None:
    """The first run, on a thread, is short; so the next is made in place, and is slow for once."""
    now, takes_s = 0.0, [INLINE_S / 2, INLINE_S * 5]

    def run(tensors: Tensors) -> Tensors:
        nonlocal now
        now += takes_s.pop(0) if takes_s else INLINE_S * 5
        return tensors

    async def whole() -> None:
        crew = Crew(1)
        limits = BatchLimits(max_rows=1)
        dispatcher = Dispatcher(run, crew, model="m", version="1", limits=limits, clock=lambda: now)
        one = {"x": np.zeros((1, 1))}
        await dispatcher.infer(one, rows=1, key=KEY)
        async with asyncio.timeout(60):
            await asyncio.gather(*(dispatcher.infer(one, rows=1, key=KEY) for _ in range(5)))
        await dispatcher.close()
        crew.close()

    asyncio.run(whole())


@pytest.mark.parametrize(("bad", "says"), [(13, "bad luck"), (14, "ZeroDivisionError")])
def test_a_request_that_fails_fails_alone(bad: int, says: str) -> None:
    async def act(scene: Scene) -> None:
        for _ in range(3):
            scene.dispatcher.prime(KEY, 1, 0.01)
            scene.dispatcher.prime(KEY, 8, 0.01)
        first = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        rest = [asyncio.create_task(scene.ask(at)) for at in (2, bad, 4)]
        await until(lambda: scene.dispatcher.waiting_rows == 3)
        scene.model.gate.set()
        assert await first == [2]
        answers = await asyncio.gather(*rest, return_exceptions=True)
        assert (answers[0], answers[2]) == ([4], [8])
        assert isinstance(answers[1], EngineError)
        assert says in str(answers[1])

    assert play(act, held=True).model.sizes == [1, 3, 1, 1, 1]


def test_a_caller_who_leaves_takes_the_work_along() -> None:
    async def act(scene: Scene) -> None:
        first = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        gone, stays = asyncio.create_task(scene.ask(2)), asyncio.create_task(scene.ask(3))
        await until(lambda: scene.dispatcher.waiting_rows == 2)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert scene.dispatcher.waiting_rows == 1
        scene.model.gate.set()
        assert await asyncio.gather(first, stays) == [[2], [6]]

    scene = play(act, held=True)
    assert sum(scene.model.sizes) == 2
    assert scene.counts.shed == ["cancelled"]


def test_a_caller_who_leaves_a_run_under_way_disturbs_nobody() -> None:
    async def act(scene: Scene) -> None:
        gone = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        stays = asyncio.create_task(scene.ask(2))
        gone.cancel()
        scene.model.gate.set()
        assert await stays == [4]

    assert play(act, held=True).counts.shed == []


def test_what_becomes_late_in_the_queue_is_told_though_nothing_else_happens() -> None:
    async def act(scene: Scene) -> None:
        first = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        with pytest.raises(DeadlineError, match="time is over"):
            await scene.ask(2, timeout_s=0.02)
        scene.model.gate.set()
        await first

    scene = play(act, held=True)
    assert scene.model.sizes == [1]
    assert scene.counts.shed == ["late"]


def test_a_full_queue_refuses() -> None:
    async def act(scene: Scene) -> None:
        first = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        second = asyncio.create_task(scene.ask(2, 2))
        await until(lambda: scene.dispatcher.waiting_rows == 2)
        with pytest.raises(OverloadedError, match="2 rows"):
            await scene.ask(3)
        scene.model.gate.set()
        await asyncio.gather(first, second)

    assert play(act, held=True, queue_rows=2).counts.shed == ["overloaded"]


def test_closing_answers_what_is_under_way_and_refuses_the_rest() -> None:
    async def act(scene: Scene) -> None:
        under_way = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        waiting = asyncio.create_task(scene.ask(2))
        await until(lambda: scene.dispatcher.waiting_rows == 1)
        closing = asyncio.create_task(scene.dispatcher.close())
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="being unloaded"):
            await scene.ask(3)
        assert not closing.done()
        scene.model.gate.set()
        await closing
        assert (under_way.done(), waiting.done()) == (True, True)
        assert await asyncio.gather(under_way, waiting) == [[2], [4]]

    play(act, held=True)


def test_closing_waits_for_a_run_whose_caller_has_left() -> None:
    async def act(scene: Scene) -> None:
        gone = asyncio.create_task(scene.ask(1))
        await until(lambda: scene.crew.idle == 0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        closing = asyncio.create_task(scene.dispatcher.close())
        await asyncio.sleep(0)
        assert not closing.done()
        scene.model.gate.set()
        await closing
        assert scene.model.sizes == [1]

    play(act, held=True)


def test_models_take_turns_on_the_threads_they_share() -> None:
    """Two models, one thread, both with work for a long time: neither has to wait until the other is done."""
    crew, order, gate = Crew(1), list[str](), threading.Event()

    def model(name: str) -> Callable[[Tensors], Tensors]:
        def run(tensors: Tensors) -> Tensors:
            assert gate.wait(60)
            order.append(name)
            return tensors

        return run

    async def whole() -> None:
        one = {"x": np.zeros((1, 1), np.float32)}
        limits = BatchLimits(max_rows=1)
        both = [Dispatcher(model(n), crew, model=n, version="1", limits=limits) for n in "ab"]
        for each in both:
            each.prime(KEY, 1, 0.01)
        asked = [asyncio.create_task(each.infer(one, rows=1, key=KEY)) for each in both for _ in range(6)]
        await until(lambda: crew.idle == 0)
        gate.set()
        await asyncio.gather(*asked)
        for each in both:
            await each.close()

    asyncio.run(whole())
    crew.close()
    assert abs(order[:6].count("a") - order[:6].count("b")) <= 2


def test_a_model_that_gives_other_rows_than_it_got_is_asked_one_by_one() -> None:
    """Proven before a version is ready; a shape may still bring out what the proof did not."""

    def total(tensors: Tensors) -> Tensors:
        return {"y": tensors["x"].sum(axis=0, keepdims=True)}

    async def whole() -> None:
        crew = Crew(1)
        dispatcher = Dispatcher(total, crew, model="m", version="1")
        for _ in range(3):
            dispatcher.prime(KEY, 1, 1.0)
            dispatcher.prime(KEY, 8, 1.0)
        ones = [np.full((1, 1), value, np.float32) for value in range(8)]
        ran = await asyncio.gather(*(dispatcher.infer({"x": one}, rows=1, key=KEY) for one in ones))
        assert [float(each.tensors["y"][0, 0]) for each in ran] == list(range(8))
        await dispatcher.close()
        crew.close()

    asyncio.run(whole())


@pytest.mark.parametrize("seed", range(8))
def test_nobody_is_forgotten(seed: int) -> None:
    """Three models on two threads, runs short and long, callers who leave and who are in a hurry."""
    dice = random.Random(seed)

    def run(tensors: Tensors) -> Tensors:
        time.sleep(dice.choice((0.0, 0.0, 0.0001, 0.001)))
        return tensors

    async def ask(dispatcher: Dispatcher, crowd: list[int]) -> None:
        for _ in range(20):
            rows = dice.randint(1, 3)
            asking = dispatcher.infer(
                {"x": np.zeros((rows, 1))},
                rows=rows,
                key=dice.choice("kl"),
                timeout_s=dice.choice((None, None, 0.0005, 0.01)),
                priority=dice.randint(0, 2),
            )
            try:
                async with asyncio.timeout(dice.choice((None, None, 0.001))):
                    await asking
            except (OverloadedError, DeadlineError, TimeoutError):
                await asyncio.sleep(0)
            crowd.append(1)

    async def whole() -> None:
        crew, crowd = Crew(2), list[int]()
        limits = BatchLimits(max_rows=8, queue_rows=12)
        three = [Dispatcher(run, crew, model=name, version="1", limits=limits) for name in "abc"]
        async with asyncio.timeout(100):
            await asyncio.gather(*(ask(each, crowd) for each in three for _ in range(10)))
            for each in three:
                await each.close()
        assert len(crowd) == 600
        assert crew.idle == 2
        crew.close()

    asyncio.run(whole())


def test_an_error_is_the_one_that_was_raised() -> None:
    def refuse(tensors: Tensors) -> Tensors:
        raise InputError("input 'x'", expected="less", got="more")

    async def whole() -> None:
        crew = Crew(1)
        dispatcher = Dispatcher(refuse, crew, model="m", version="1")
        with pytest.raises(InputError, match="expected less"):
            await dispatcher.infer({"x": np.zeros((1, 1))}, rows=1, key=KEY)
        await dispatcher.close()
        crew.close()

    asyncio.run(whole())
