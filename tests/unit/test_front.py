"""Before the served models: canary, shadow, repetitions and quotas, over a backend that talks back."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_fallback.serving.call import Call, current
from cloud_fallback.serving.front import Front
from cloud_fallback.serving.gate import Gate
from cloud_fallback.serving.idempotency import Bounds, MemoryShelf, Once
from cloud_fallback.serving.keys import KeyRing
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.shadow import Outcome, Shadows
from cloud_fallback.serving.steering import SteeringTable
from cloud_fallback.serving.traffic import Split, promote, roll_back, steer
from edge_runtime.contract.errors import (
    EngineError,
    InputError,
    OverloadedError,
    QuotaError,
    StorageError,
    UnknownModelError,
)
from edge_runtime.contract.request import Prompt, Request
from tests.simulators.parrot import NAME, Parrot

X = np.array([[1, 2, 3]], np.float32)


class House:
    """A front with all that it stands on."""

    def __init__(self, *versions: str, keys: KeyRing | None = None, seed: int = 0) -> None:
        self.parrot = Parrot(versions=versions or ("1",))
        self.now_s = 0.0
        self.table = SteeringTable(None)
        self.gate = Gate(keys, Metrics(), clock_s=lambda: 0.0)
        self.shadows = Shadows(lambda _: None, most=2)
        self.front = Front(
            self.parrot,
            gate=self.gate,
            table=self.table,
            shadows=self.shadows,
            once=Once(MemoryShelf(Bounds()), lambda: 0.0),
            dice=random.Random(seed).random,
            clock_s=lambda: self.now_s,
        )

    def split(self, weights: dict[str, float], shadow: str | None = None, percent: float = 100.0) -> None:
        self.table.change(NAME, lambda held: steer(held, Split(weights, shadow, percent)))

    async def ask(
        self, version: str | None = None, *, scale: float = 1.0, sticky: str = "", **call: Any
    ) -> str:
        current.set(Call("infer", **call))
        parameters = {"tone": "soft"} | ({"sticky": sticky} if sticky else {})
        name = call.get("request_id", "r")
        request = Request(name, NAME, {"x": X * np.float32(scale)}, version, parameters=parameters)
        return (await self.front.infer(request, None)).version

    def outcomes(self) -> dict[Outcome, int]:
        found: dict[Outcome, int] = {}
        for shadowed, count in self.shadows.counts.items():
            found[shadowed.outcome] = found.get(shadowed.outcome, 0) + count
        return found

    async def settle(self) -> None:
        """Let copies that are not held come to their end."""
        for _ in range(20):
            await asyncio.sleep(0)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene()

    asyncio.run(run())


def test_without_a_split_the_models_choose() -> None:
    async def scene() -> None:
        house = House("1", "2")
        assert await house.ask() == "2" and await house.ask("1") == "1"

    play(scene)


def test_a_canary_gets_its_share() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 80, "2": 20})
        answers = [await house.ask() for _ in range(1000)]
        assert 150 < answers.count("2") < 250

    play(scene)


def test_a_sticky_caller_stays_with_its_version() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 50, "2": 50})
        for key in (f"till-{number}" for number in range(30)):
            assert len({await house.ask(sticky=key) for _ in range(5)}) == 1
        assert {await house.ask(sticky=f"till-{number}") for number in range(30)} == {"1", "2"}

    play(scene)


def test_a_named_version_is_not_steered() -> None:
    async def scene() -> None:
        house = House("1", "2", "3")
        house.split({"1": 100}, shadow="2")
        assert await house.ask("3") == "3"
        await house.settle()
        assert not house.shadows.counts

    play(scene)


def test_promotion_and_rollback() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 100})
        house.table.change(NAME, lambda held: promote(held, "2"))
        assert await house.ask() == "2"
        assert house.front.describe(NAME, None).version == "2"
        house.table.change(NAME, roll_back)
        assert await house.ask() == "1"
        assert house.front.describe(NAME, None).version == "1"

    play(scene)


def test_no_version_with_traffic_is_loaded() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"3": 100})
        with pytest.raises(UnknownModelError, match="no version of 'parrot' that has traffic"):
            await house.ask()

    play(scene)


def test_a_shadow_is_asked_behind_all_others_and_never_answers() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 100}, shadow="2")
        assert await house.ask(sticky="till-1") == "1"
        await house.settle()
        real, copy = house.parrot.asked
        assert real.version == "1" and real.parameters == {"tone": "soft"}
        assert copy.version == "2" and copy.parameters == {"tone": "soft", "priority": 9}
        # The parrot says who it is in `who`, and so the copy differs.
        assert house.outcomes() == {Outcome.DIFFERED: 1}

    play(scene)


def test_shadow_answers_are_counted_by_how_they_compare() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 100}, shadow="2")

        async def ask(text: str) -> int:
            answer = await house.front.predict(Request("r", NAME, text))
            await house.settle()
            return int(answer.value.classes[0])

        assert [await ask("good"), await ask("bad")] == [1, 0]
        assert house.outcomes() == {Outcome.AGREED: 2}
        house.parrot.louder["2"] = 1.0  # now of the other opinion
        assert await ask("good") == 1
        assert house.outcomes() == {Outcome.AGREED: 2, Outcome.DIFFERED: 1}
        house.parrot.failing["2"] = EngineError("the shadow fell over")
        assert await ask("good") == 1
        assert house.outcomes() == {Outcome.AGREED: 2, Outcome.DIFFERED: 1, Outcome.FAILED: 1}

    play(scene)


def test_a_shadow_that_hangs_delays_nobody_and_piles_up_no_further() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 100}, shadow="2")
        house.parrot.held["2"] = asyncio.Event()
        for _ in range(10):
            assert await house.ask() == "1"
            await house.settle()
        assert house.outcomes() == {Outcome.DROPPED: 8}
        house.parrot.held["2"].set()
        await house.settle()
        assert house.outcomes() == {Outcome.DROPPED: 8, Outcome.DIFFERED: 2}

    play(scene)


def test_a_share_of_the_requests_is_copied() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 100}, shadow="2", percent=25)
        for _ in range(400):
            await house.ask()
            await house.settle()
        assert 70 < sum(house.outcomes().values()) < 130

    play(scene)


def test_a_repeated_request_is_answered_once_and_alike() -> None:
    async def scene() -> None:
        house = House("1", "2")
        request = Request("r", NAME, {"x": X, "t": np.array([["ü", ""]], object)})
        answers = []
        for _ in range(3):
            current.set(call := Call("infer", request_id="a"))
            answers.append(await house.front.infer(request, None))
            house.parrot.versions.append("9")  # newer ones that come between change nothing
        assert len(house.parrot.asked) == 1 and call.repeated and call.version == "2"
        for answer in answers:
            assert answer.version == "2" and answer.details == answers[0].details
            assert {name: array.tolist() for name, array in answer.tensors.items()} == {
                "x": X.tolist(),
                "t": [["ü", ""]],
                "who": ["2"],
            }

    play(scene)


def test_a_repeated_task_is_answered_once_and_alike() -> None:
    async def scene() -> None:
        house = House()
        answers = []
        for _ in range(2):
            current.set(Call("predict", request_id="a"))
            answers.append(await house.front.predict(Request("r", NAME, "good")))
        assert len(house.parrot.asked) == 1
        assert [answer.value.labels[int(answer.value.classes[0])] for answer in answers] == ["good", "good"]
        assert answers[0].decision == answers[1].decision

    play(scene)


def test_concurrent_repetitions_run_once() -> None:
    async def scene() -> None:
        house = House()
        house.parrot.held["1"] = asyncio.Event()
        asked = [asyncio.create_task(house.ask(request_id="a")) for _ in range(10)]
        await house.settle()
        house.parrot.held["1"].set()
        assert set(await asyncio.gather(*asked)) == {"1"} and len(house.parrot.asked) == 1

    play(scene)


def test_several_questions_under_one_id_are_each_answered_once() -> None:
    async def scene() -> None:
        house = House()
        for _ in range(2):
            current.set(Call("predict", request_id="a"))
            both = [
                await house.front.predict(Request(f"a-{index}", NAME, text))
                for index, text in enumerate(("good", "bad"))
            ]
            assert [int(answer.value.classes[0]) for answer in both] == [1, 0]
        assert len(house.parrot.asked) == 2

    play(scene)


def test_ids_belong_to_their_caller_and_model() -> None:
    async def scene() -> None:
        keys = KeyRing(None)
        one, other = (keys.quotas.owner(keys.create(name)) for name in ("one", "other"))
        house = House(keys=keys)
        await house.ask(request_id="a", key=one)
        await house.ask(request_id="a", key=other)
        await house.ask(request_id="a", key=one)
        assert len(house.parrot.asked) == 2
        with pytest.raises(InputError, match="used for another request"):
            await house.ask(request_id="a", key=one, scale=2)

    play(scene)


def test_requests_without_an_id_of_the_callers_are_all_run() -> None:
    async def scene() -> None:
        house = House()
        for _ in range(3):
            await house.ask()
        assert len(house.parrot.asked) == 3

    play(scene)


def test_rows_are_charged() -> None:
    async def scene() -> None:
        keys = KeyRing(None)
        key = keys.quotas.owner(keys.create("shop", rows_per_minute=10))
        house = House(keys=keys)
        current.set(call := Call("infer", key=key))
        await house.front.infer(Request("r", NAME, {"x": np.zeros((8, 3), np.float32)}), None)
        assert call.rows == 8
        with pytest.raises(QuotaError, match="used up its rows") as caught:
            await house.front.infer(Request("r", NAME, {"x": np.zeros((5, 3), np.float32)}), None)
        assert caught.value.retry_after_s == pytest.approx(18)
        assert len(house.parrot.asked) == 1

    play(scene)


def test_a_stream_is_steered_and_closed_with_its_reader() -> None:
    async def scene() -> None:
        house = House("1", "2")
        house.split({"1": 100})
        current.set(call := Call("chat"))
        pieces = house.front.generate(Request("r", NAME, Prompt("one two three")))
        assert [piece.text async for piece in pieces] == ["one", "two", "three", ""]
        assert call.version == "1"
        begun: Any = house.front.generate(Request("r", NAME, Prompt("one two three")))
        await anext(begun)
        assert house.parrot.open_streams == 1
        await begun.aclose()
        assert house.parrot.open_streams == 0

    play(scene)


def test_splits_and_keys_survive_a_restart(tmp_path: Path) -> None:
    table = SteeringTable(tmp_path / "traffic.json")
    table.change("m", lambda held: steer(held, Split({"1": 90, "2": 10}, "3", 5)))
    table.change("m", lambda held: promote(held, "2"))
    again = SteeringTable(tmp_path / "traffic.json")
    assert again.all() == table.all() and roll_back(again.get("m")).split.shadow == "3"
    table.change("m", lambda _: None)
    assert not SteeringTable(tmp_path / "traffic.json").all()

    keys = KeyRing(tmp_path / "keys.json", must_exist=False)
    secret = keys.create("shop", requests_per_minute=5)
    assert secret not in (tmp_path / "keys.json").read_text()
    owner = KeyRing(tmp_path / "keys.json").quotas.owner(secret)
    assert owner is not None and owner.name == "shop" and owner.requests_per_minute == 5
    assert keys.revoke("shop") == 1 and keys.revoke("shop") == 0
    assert KeyRing(tmp_path / "keys.json").quotas.owner(secret) is None


def test_a_broken_file_of_splits_is_said(tmp_path: Path) -> None:
    (tmp_path / "traffic.json").write_text('{"models": {"m": {"split": {"weights": {"1": 50}}}}}')
    with pytest.raises(StorageError, match="sum of 100"):
        SteeringTable(tmp_path / "traffic.json")


def test_a_refusal_is_remembered_for_a_moment() -> None:
    async def scene() -> None:
        house = House()
        path = "/v2/models/parrot/infer"
        house.parrot.failing["1"] = OverloadedError("busy", retry_after_s=1)
        current.set(Call("infer", asked=path, timeout_s=0.05))
        assert not house.front.rush.knows(path)
        with pytest.raises(OverloadedError):
            await house.front.infer(Request("r", NAME, {"x": X}), None)
        with pytest.raises(OverloadedError, match="busy"):
            house.front.rush.check(path, timeout_s=0.05, priority=1, now_s=house.now_s)
        house.front.rush.check(path, timeout_s=0.05, priority=1, now_s=house.now_s + 0.011)
        assert not house.front.rush.knows(path)

    play(scene)
