"""Text, whatever it is: windows leave no token out, stop sequences do not depend on pieces, dice are fair."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.task import TextInput
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.tasks.generation.sampling import next_token, nucleus
from edge_runtime.tasks.generation.stops import StopScanner
from edge_runtime.tasks.generation.token_text import TokenText
from edge_runtime.tasks.text import TextTensors
from tests.simulators.text_bundles import write_words
from tests.simulators.tiny_decoder import write_tokenizer

INPUTS = [TensorSpec(name, "int64", (None, None)) for name in ("input_ids", "attention_mask")]
letters = st.text("ab", max_size=12)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words") / "tokenizer.json")


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(write_tokenizer(tmp_path_factory.mktemp("bytes") / "tokenizer.json")))


@given(count=st.integers(1, 60), length=st.integers(4, 12), data=st.data())
def test_windows_cover_every_token(words: Path, count: int, length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length - 3))
    spec = TextInput(max_length=length, overflow="window", overlap=overlap)
    text = " ".join(f"w{number}" for number in range(count))
    tensors, tokens = TextTensors(spec, INPUTS, words).fill(text)
    seen = [row[inside].tolist() for row, inside in zip(tensors["input_ids"], tokens.inside, strict=True)]
    joined = seen[0]
    for window in seen[1:]:
        assert joined[len(joined) - overlap :] == window[:overlap]
        joined = joined + window[overlap:]
    assert len(joined) == count
    assert joined == sorted(set(joined))  # the words have rising ids
    assert tokens.fresh.sum() == count
    assert tokens.fresh.min() >= 1
    assert tokens.weights.sum() == pytest.approx(1)
    assert tokens.count == count + 2
    assert not tokens.truncated
    assert tensors["input_ids"].shape[1] <= length


@given(text=letters, stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), data=st.data())
def test_pieces_do_not_matter_to_stop_sequences(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    scanner = StopScanner(stops)
    out, stopped = "", False
    for piece in pieces:
        free, stopped = scanner.push(piece)
        out += free
        assert expected.startswith(out)
        if stopped:
            break
    if not stopped:
        out += scanner.flush()
    assert (out, stopped) == (expected, bool(ends))


@given(text=st.text(max_size=12), prompt=st.text(max_size=12))
def test_tokens_give_the_text_back(bytewise: Any, text: str, prompt: str) -> None:
    before, after = bytewise.encode(prompt).ids, bytewise.encode(text).ids
    writer = TokenText(lambda some: bytewise.decode(list(some)), before)
    pieces = [writer.push(token) for token in after]
    assert "".join(pieces) + writer.flush() == text
    for number in range(1, len(after)):
        so_far = "".join(pieces[:number])
        assert text.startswith(so_far)


@given(
    weights=st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any),
    top_p=st.floats(0.05, 0.99),
)
def test_the_nucleus_is_the_smallest_that_reaches(weights: list[int], top_p: float) -> None:
    chances = np.array(weights, np.float64)
    chances /= chances.sum()
    found = nucleus(chances, top_p)
    assert chances[found].sum() >= top_p - 1e-9
    assert chances[found[:-1]].sum() < top_p + 1e-9
    assert chances[found].min() >= np.delete(chances, found).max(initial=0)


class Dice:
    """Throws what it is told."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value


@given(
    weights=st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_p=st.sampled_from([0.5, 0.9, 1.0]),
)
def test_tokens_come_as_often_as_they_are_likely(
    weights: list[int], temperature: float, top_p: float
) -> None:
    chances = np.array(weights, np.float64) / sum(weights)
    with np.errstate(divide="ignore"):
        logits = np.log(chances).astype(np.float32)
    expected = chances ** (1 / temperature)
    expected /= expected.sum()
    if top_p < 1:
        kept = nucleus(expected.astype(np.float64), top_p)
        left_out = np.delete(np.arange(len(expected)), kept)
        expected[left_out] = 0
        expected /= expected.sum()
    throws = (np.arange(2000) + 0.5) / 2000
    drawn = [
        next_token(logits, Dice(float(throw)), temperature=temperature, top_p=top_p)[0]  # type: ignore[arg-type]
        for throw in throws
    ]
    counted = np.bincount(drawn, minlength=len(weights)) / len(throws)
    if _tied(chances) and top_p < 1:
        # Rounding decides which of equals is the last one of the nucleus; how often is the same.
        counted, expected = np.sort(counted), np.sort(expected)
    np.testing.assert_allclose(counted, expected, atol=2e-3)


def _tied(chances: Any) -> bool:
    return len(np.unique(chances)) < len(chances)
