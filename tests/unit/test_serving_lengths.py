"""Texts of different lengths run together, and nobody can tell from the answers."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from cloud_fallback.serving.backend import ServedModels
from cloud_fallback.serving.dispatcher import Unobserved
from cloud_fallback.serving.lengths import can_be_longer, common_length, cut, filled_up
from cloud_fallback.serving.repository import Repository
from edge_runtime.contract.request import Request
from edge_runtime.contract.tensors import TensorSpec
from tests.simulators.sentiment import sentiment_bundle


class Ran(Unobserved):
    """Remembers how many requests each run had."""

    def __init__(self) -> None:
        self.requests: list[int] = []

    def batch_ran(self, model: str, version: str, *, rows: int, requests: int, run_s: float) -> None:
        self.requests.append(requests)


def test_lengths_are_few_and_a_quarter_longer_at_most() -> None:
    lengths = {common_length(length) for length in range(1, 129)}
    assert sorted(lengths) == [8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128]
    assert all(length <= common_length(length) <= max(8, length * 1.25) for length in range(1, 3000))


def test_filling_is_taken_away_again() -> None:
    tokens = {"input_ids": np.ones((2, 9), np.int64), "attention_mask": np.ones((2, 9), np.int64)}
    filled = filled_up(tokens, 10)
    assert filled["attention_mask"].sum() == 18
    outputs = {"tokens": np.zeros((2, 10, 3)), "whole": np.zeros((2, 10))}
    back = cut(outputs, 9, 10)
    assert (back["tokens"].shape, back["whole"].shape) == ((2, 9, 3), (2, 10))
    assert filled_up(tokens, 9) is tokens
    assert cut(outputs, 10, 10) is outputs


@pytest.mark.parametrize(
    ("names", "length", "can"),
    [
        (("input_ids", "attention_mask"), None, True),
        (("input_ids", "attention_mask", "token_type_ids"), None, True),
        (("input_ids",), None, False),  # nothing would say that the filling does not count
        (("input_ids", "attention_mask"), 64, False),
        (("input_ids", "attention_mask", "pixels"), None, False),
    ],
)
def test_which_models_can_be_given_more(names: tuple[str, ...], length: int | None, can: bool) -> None:
    assert can_be_longer([TensorSpec(name, "int64", (None, length)) for name in names]) is can


def test_texts_of_different_lengths_share_a_run(tmp_path: Path) -> None:
    sentiment_bundle(tmp_path / "models" / "sentiment")
    texts = ["good", "bad queue", "good kind staff", "rude staff bad", "good good good bad queue"]

    async def whole() -> None:
        ran = Ran()
        models = ServedModels(Repository(tmp_path / "models"), observer=ran)
        await models.start()
        alone = [await models.predict(Request("a", "sentiment", text)) for text in texts]
        many = await asyncio.gather(*(models.predict(Request("m", "sentiment", text)) for text in texts * 20))
        for at, answer in enumerate(many):
            np.testing.assert_allclose(answer.value.scores, alone[at % 5].value.scores, rtol=1e-5)
            assert answer.value.tokens == alone[at % 5].value.tokens
        assert max(ran.requests) > 1
        await models.close()

    asyncio.run(whole())
