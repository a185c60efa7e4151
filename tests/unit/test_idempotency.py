"""One id, one answer: repetitions, concurrent ones, other requests under the same id, bounds, restarts."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_fallback.serving.idempotency import Bounds, MemoryShelf, Once, Shelf, SqliteShelf
from edge_runtime.contract.errors import EngineError, InputError, StorageError

MakeShelf = Callable[[Bounds], Shelf]


class Model:
    """Counts how often it was asked; answers when it is let."""

    def __init__(self, *, open_: bool = True) -> None:
        self.asked = 0
        self.let = asyncio.Event()
        self.fails = False
        if open_:
            self.let.set()

    async def __call__(self) -> bytes:
        self.asked += 1
        await self.let.wait()
        if self.fails:
            raise EngineError("the engine failed")
        return f"answer {self.asked}".encode()


@pytest.fixture(params=["memory", "sqlite"])
def make_shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeShelf]:
    made: list[Shelf] = []

    def make(bounds: Bounds) -> Shelf:
        shelf = (
            MemoryShelf(bounds) if request.param == "memory" else SqliteShelf(tmp_path / "kept.db", bounds)
        )
        made.append(shelf)
        return shelf

    yield make
    for shelf in made:
        shelf.close()


def test_a_repetition_gets_the_first_answer(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once, model = Once(make_shelf(Bounds()), lambda: 0.0), Model()
        assert await once.answer("a", b"1", model) == (b"answer 1", False)
        assert await once.answer("a", b"1", model) == (b"answer 1", True)
        assert await once.answer("b", b"1", model) == (b"answer 2", False)

    asyncio.run(scene())


def test_concurrent_repetitions_share_one_computation(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once, model = Once(make_shelf(Bounds()), lambda: 0.0), Model(open_=False)
        asked = [asyncio.create_task(once.answer("a", b"1", model)) for _ in range(20)]
        while not model.asked:
            await asyncio.sleep(0)
        model.let.set()
        answers = await asyncio.gather(*asked)
        assert {answer for answer, _ in answers} == {b"answer 1"}
        assert sorted(repeated for _, repeated in answers) == [False] + [True] * 19

    asyncio.run(scene())


def test_another_request_under_the_same_id_is_refused(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once, model = Once(make_shelf(Bounds()), lambda: 0.0), Model(open_=False)
        first = asyncio.create_task(once.answer("a", b"1", model))
        while not model.asked:
            await asyncio.sleep(0)
        with pytest.raises(InputError, match="used for another request"):
            await once.answer("a", b"2", model)
        model.let.set()
        await first
        with pytest.raises(InputError, match="used for another request"):
            await once.answer("a", b"2", model)

    asyncio.run(scene())


def test_a_failure_is_shared_and_not_kept(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once, model = Once(make_shelf(Bounds()), lambda: 0.0), Model(open_=False)
        model.fails = True
        asked = [asyncio.create_task(once.answer("a", b"1", model)) for _ in range(3)]
        while not model.asked:
            await asyncio.sleep(0)
        model.let.set()
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in failed] == [EngineError] * 3 and model.asked == 1
        model.fails = False
        assert await once.answer("a", b"1", model) == (b"answer 2", False)

    asyncio.run(scene())


def test_who_goes_away_does_not_take_the_answer_from_the_others(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once, model = Once(make_shelf(Bounds()), lambda: 0.0), Model(open_=False)
        first, second = (asyncio.create_task(once.answer("a", b"1", model)) for _ in range(2))
        while not model.asked:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        model.let.set()
        assert await second == (b"answer 1", True)

    asyncio.run(scene())


def test_work_that_nobody_waits_for_is_cancelled(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once, model = Once(make_shelf(Bounds()), lambda: 0.0), Model(open_=False)
        only = asyncio.create_task(once.answer("a", b"1", model))
        while not model.asked:
            await asyncio.sleep(0)
        only.cancel()
        await asyncio.gather(only, return_exceptions=True)
        model.let.set()
        assert await once.answer("a", b"1", model) == (b"answer 2", False)

    asyncio.run(scene())


def test_old_answers_are_forgotten(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        now = [1000.0]
        once, model = Once(make_shelf(Bounds(max_age_s=60)), lambda: now[0]), Model()
        await once.answer("a", b"1", model)
        now[0] += 59
        assert await once.answer("a", b"1", model) == (b"answer 1", True)
        now[0] += 2
        assert await once.answer("a", b"1", model) == (b"answer 2", False)

    asyncio.run(scene())


def test_the_oldest_answers_make_room(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once, model = Once(make_shelf(Bounds(max_bytes=1000)), lambda: 0.0), Model()
        for name in "abcdef":
            await once.answer(name, b"1", model)
        assert (await once.answer("f", b"1", model))[1] and (await once.answer("e", b"1", model))[1]
        assert not (await once.answer("a", b"1", model))[1]

    asyncio.run(scene())


def test_an_answer_larger_than_all_room_is_given_and_not_kept(make_shelf: MakeShelf) -> None:
    async def scene() -> None:
        once = Once(make_shelf(Bounds(max_bytes=1000)), lambda: 0.0)

        async def large() -> bytes:
            return bytes(5000)

        assert await once.answer("a", b"1", large) == (bytes(5000), False)
        assert await once.answer("a", b"1", large) == (bytes(5000), False)

    asyncio.run(scene())


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from cloud_fallback.serving.idempotency import Bounds, Once, SqliteShelf

async def answer():
    return b"from before"

async def main():
    once = Once(SqliteShelf(Path(sys.argv[1]), Bounds()), lambda: 0.0)
    await once.answer("a", b"1", answer)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_answers_survive_a_kill(tmp_path: Path, repository: Path) -> None:
    file = tmp_path / "kept.db"
    killed = subprocess.run(
        (sys.executable, "-c", KILLED, str(file)), cwd=repository, env={**os.environ}, check=False
    )
    assert killed.returncode == -signal.SIGKILL

    async def scene() -> None:
        shelf = SqliteShelf(file, Bounds())
        assert await Once(shelf, lambda: 0.0).answer("a", b"1", Model()) == (b"from before", True)
        shelf.close()

    asyncio.run(scene())


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "kept.db").write_text("not a database, and long enough to be looked at" * 10)
    with pytest.raises(StorageError, match=r"kept\.db"):
        SqliteShelf(tmp_path / "kept.db", Bounds())
