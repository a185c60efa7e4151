"""What holds for all numbers: the search, the ranges, the scheme and the rounding in blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters.quantize.gptq import round_blocks
from converters.quantize.onnx_graph import Network
from converters.quantize.onnx_ranges import Method, Seen, ranges
from converters.quantize.scheme import Scheme, quantized_weights
from converters.quantize.search import fewest
from tests.unit import quantize_nets as nets

SCHEMES = [Scheme(), Scheme("int8"), Scheme("int8", symmetric=True)]
floats = st.floats(-1e4, 1e4, width=32)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_fewest_finds_the_least_with_few_questions(most: int, least: int) -> None:
    asked: list[int] = []

    def good(number: int) -> bool:
        asked.append(number)
        return number >= least

    assert fewest(most, good) == min(least, most)
    assert len(asked) == len(set(asked)) <= 2 * max(1, most).bit_length() + 1
    assert all(0 <= number < max(most, 1) for number in asked)


@settings(deadline=None)
@given(st.integers(1, 60), st.data())
def test_fewest_is_good_even_where_good_has_holes(most: int, data: st.DataObject) -> None:
    answers = data.draw(st.lists(st.booleans(), min_size=most, max_size=most))
    found = fewest(most, lambda number: answers[number])
    assert found == most or answers[found]


@pytest.mark.parametrize("scheme", SCHEMES, ids=["u8", "s8", "s8 symmetric"])
@settings(deadline=None)
@given(low=floats, high=floats)
def test_a_range_holds_zero_exactly_and_its_ends_within_a_step(
    scheme: Scheme, low: float, high: float
) -> None:
    low, high = min(low, high), max(low, high)
    scale, zero = scheme.affine((low, high))
    first, last = scheme.levels
    assert scale > 0
    assert first <= zero <= last
    assert zero == 0 or not scheme.symmetric
    for value in (low, high):
        stored = np.clip(np.rint(value / float(scale)) + zero, first, last)
        assert abs((stored - zero) * float(scale) - value) <= 1.01 * float(scale)


@settings(deadline=None)
@given(arrays.arrays(np.float32, (5, 7), elements=st.floats(-100, 100, width=32)), st.sampled_from([64, 127]))
def test_weights_come_back_within_half_a_step(values: np.ndarray, limit: int) -> None:
    stored, scale = quantized_weights(values, 0, limit)
    assert stored.dtype == np.int8
    assert np.abs(stored).max() <= limit
    assert (np.abs(stored * scale[:, None] - values) <= scale[:, None] * 0.501 + 1e-30).all()


@given(
    st.sampled_from(["minmax", "percentile", "entropy", "mse"]), st.integers(0, 2**32 - 1), st.floats(0, 50)
)
@settings(max_examples=60, deadline=None)
def test_ranges_lie_inside_what_was_seen(method: Method, seed: int, shift: float) -> None:
    sample = np.random.default_rng(seed).standard_t(3, 2000).astype(np.float32) + np.float32(shift)
    seen = Seen(float(sample.min()), float(sample.max()), sample)
    low, high = ranges(Network(nets.chain(1)), {"x": seen}, method)["x"]
    assert min(seen.low, 0) <= low <= high <= max(seen.high, 0)


@given(st.integers(1, 40), st.sampled_from([4, 8]), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_blocks_come_back_within_a_step(count: int, bits: int, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    made = round_blocks(weights, 16, bits)
    scales, zeros = (part.repeat(16, axis=0)[:count].astype(np.float64) for part in (made.scales, made.zeros))
    assert made.codes.max() < 2**bits
    assert (np.abs(scales * (made.codes - zeros) - weights) <= scales).all()


def test_making_errors_good_makes_the_product_better() -> None:
    dice = np.random.default_rng(1)
    mixing = dice.normal(size=(64, 64))
    inputs = dice.normal(size=(500, 64)) @ mixing  # correlated, as activations are
    weights = dice.normal(size=(64, 32)).astype(np.float32)

    def error(known: np.ndarray | None) -> float:
        made = round_blocks(weights, 32, 4, known)
        back = made.scales.repeat(32, axis=0) * (made.codes.astype(float) - made.zeros.repeat(32, axis=0))
        return float(np.square(inputs @ (back - weights)).mean())

    assert error(inputs.T @ inputs) < 0.6 * error(None)
