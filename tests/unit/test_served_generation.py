"""Texts that the cloud generates: piece by piece, so many at a time, and never cut by an unload."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from cloud_fallback.serving.backend import ServedModels, ServingOptions
from edge_runtime.contract.errors import (
    InputError,
    OverloadedError,
    UnknownModelError,
)
from edge_runtime.contract.request import Message, Prompt, Sampling
from edge_runtime.contract.result import Finish, Generation
from edge_runtime.contract.route import Route
from edge_runtime.protocol.backend import Piece
from tests.simulators import tiny_decoder
from tests.simulators.served_bundles import bundle
from tests.simulators.served_play import X, asked, play


@pytest.fixture
def writer(tmp_path: Path) -> Path:
    """A decoder of random weights, which writes nonsense, always the same."""
    root = tmp_path / "models"
    bundle(
        root / "writer",
        tiny_decoder.decoder(),
        name="writer",
        task=tiny_decoder.spec(context_length=200),
        tokenizer=True,
    )
    return root


def prompt(max_tokens: int = 12) -> Prompt:
    return Prompt(text="good ", sampling=Sampling(max_tokens=max_tokens))


def test_a_text_is_generated_piece_by_piece(writer: Path) -> None:
    async def act(models: ServedModels) -> None:
        pieces = [piece async for piece in models.generate(asked(prompt(), "writer"))]
        assert all(piece.end is None for piece in pieces[:-1])
        end = pieces[-1].end
        assert end is not None
        assert isinstance(end.value, Generation)
        assert end.value.text == "".join(piece.text for piece in pieces)
        assert end.value.finish in {Finish.LENGTH, Finish.STOP}
        assert (end.model, end.version, end.decision.route) == ("writer", "1.0.0", Route.CLOUD)
        whole = await models.predict(asked(prompt(), "writer"))
        assert whole.value.text == end.value.text
        talk = Prompt(messages=(Message("user", "hello"),), sampling=Sampling(max_tokens=3))
        assert (await models.predict(asked(talk, "writer"))).value.tokens <= 3

    play(writer, act)


def test_a_reader_who_leaves_makes_room_for_the_next(writer: Path) -> None:
    async def act(models: ServedModels) -> None:
        for _ in range(5):
            async with aclosing(models.generate(asked(prompt(150), "writer"))) as pieces:
                async for _piece in pieces:
                    break
        task = asyncio.create_task(anext(models.generate(asked(prompt(150), "writer"))))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await models.predict(asked(prompt(), "writer"))).value.tokens

    play(writer, act, ServingOptions(writers=1))


def test_too_many_texts_at_a_time_are_refused(writer: Path) -> None:
    async def act(models: ServedModels) -> None:
        streams = [models.generate(asked(prompt(150), "writer")) for _ in range(6)]
        first = await anext(streams[0])
        assert isinstance(first, Piece)
        waiting = [asyncio.create_task(anext(stream)) for stream in streams[1:5]]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="1 under way, 4 waiting"):
            await anext(streams[5])
        with pytest.raises(OverloadedError):
            await anext(models.generate(asked(prompt(), "writer", timeout_s=0.001)))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for stream in streams:
            await stream.aclose()

    play(writer, act, ServingOptions(writers=1))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"x": X}, "a prompt"),
        (Prompt(), "a text or messages"),
        (Prompt(text="a" * 300), "at most 199 tokens"),
    ],
)
def test_prompts_that_are_none(writer: Path, value: Any, says: str) -> None:
    async def act(models: ServedModels) -> None:
        with pytest.raises(InputError, match=says):
            await models.predict(asked(value, "writer"))
        with pytest.raises(InputError, match="generates texts"):
            await models.infer(asked({"x": X}, "writer"), None)

    play(writer, act)


def test_unloading_waits_for_what_is_under_way(writer: Path) -> None:
    async def act(models: ServedModels) -> None:
        stream = models.generate(asked(prompt(), "writer"))
        texts = [await anext(stream)]
        unloading = asyncio.create_task(models.unload("writer"))
        await asyncio.sleep(0)
        assert {state.state for state in models.index()} == {"UNLOADING"}
        with pytest.raises(UnknownModelError, match="unloading"):
            await models.predict(asked(prompt(), "writer"))
        assert not unloading.done()
        texts += [piece async for piece in stream]
        assert texts[-1].end is not None
        await unloading
        assert {state.state for state in models.index()} == {"UNAVAILABLE"}

    play(writer, act)
