"""What holds for every way of sharing out requests between versions; and a table of decisions."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fallback.serving.traffic import (
    HISTORY,
    Split,
    Steering,
    choose,
    mirrors,
    promote,
    roll_back,
    steer,
)
from edge_runtime.contract.errors import InputError

VERSIONS = ("1", "2", "3", "4")


@st.composite
def weights(draw: st.DrawFn) -> dict[str, float]:
    """Percent that sum to 100, zeros among them."""
    parts = draw(st.lists(st.integers(0, 10), min_size=1, max_size=4).filter(any))
    return {version: 100 * part / sum(parts) for version, part in zip(VERSIONS, parts, strict=False)}


splits = st.builds(Split, weights())
stickies = st.text(max_size=20)
dices = st.floats(0, 1, exclude_max=True)


def sent(split: Split, sticky: str | None, dice: float = 0.5, available: tuple[str, ...] = VERSIONS) -> str:
    version = choose(split, available, model="m", sticky=sticky, dice=dice)
    assert version is not None
    return version


@given(splits, st.none() | stickies, dices)
def test_only_a_version_with_weight_answers(split: Split, sticky: str | None, dice: float) -> None:
    assert split.weights[sent(split, sticky, dice)] > 0


@given(splits, st.integers(0, 2**32))
def test_dice_follow_the_weights(split: Split, seed: int) -> None:
    count, dice = 4000, random.Random(seed)
    got = [sent(split, None, dice.random()) for _ in range(count)]
    for version, weight in split.weights.items():
        assert abs(got.count(version) / count - weight / 100) < 0.05  # more than six standard deviations


@given(splits)
def test_sticky_keys_follow_the_weights(split: Split) -> None:
    count = 2000
    got = [sent(split, f"till-{number}") for number in range(count)]
    for version, weight in split.weights.items():
        assert abs(got.count(version) / count - weight / 100) < 0.07


@given(splits, stickies, dices, dices)
def test_a_sticky_key_stays(split: Split, sticky: str, one: float, other: float) -> None:
    assert sent(split, sticky, one) == sent(split, sticky, other)


@given(weights(), weights(), stickies)
def test_a_key_moves_only_from_a_loser_or_to_a_winner(
    before: dict[str, float], after: dict[str, float], sticky: str
) -> None:
    old, new = sent(Split(before), sticky), sent(Split(after), sticky)
    assert old == new or after.get(old, 0) < before[old] or after[new] > before.get(new, 0)


@given(splits, stickies, dices)
def test_models_share_keys_out_independently(split: Split, sticky: str, dice: float) -> None:
    other = choose(split, VERSIONS, model="other", sticky=sticky, dice=dice)
    assert other is not None and split.weights[other] > 0


def test_two_models_do_not_send_the_same_callers_to_their_canaries() -> None:
    split = Split({"1": 50, "2": 50})
    keys = [f"till-{number}" for number in range(400)]
    same = sum(
        choose(split, VERSIONS, model="a", sticky=key, dice=0)
        == choose(split, VERSIONS, model="b", sticky=key, dice=0)
        for key in keys
    )
    assert 140 < same < 260


@given(splits, st.sets(st.sampled_from(VERSIONS)), st.none() | stickies, dices)
def test_what_is_not_loaded_does_not_answer(
    split: Split, available: set[str], sticky: str | None, dice: float
) -> None:
    version = choose(split, available, model="m", sticky=sticky, dice=dice)
    could = {one for one in available if split.weights.get(one, 0) > 0}
    assert version in could if could else version is None


@given(st.dictionaries(st.sampled_from(VERSIONS), st.floats(0, 100), max_size=4))
def test_weights_sum_to_a_hundred_or_are_refused(parts: dict[str, float]) -> None:
    if abs(sum(parts.values()) - 100) <= 1e-7:
        Split(parts)
    elif abs(sum(parts.values()) - 100) > 1e-5:
        with pytest.raises(InputError, match="sum of 100"):
            Split(parts)


@given(st.lists(splits, min_size=1, max_size=30))
def test_rolling_back_walks_the_history_backwards(history: list[Split]) -> None:
    steering: Steering | None = None
    stack: list[Split] = []
    for split in history:
        steering = steer(steering, split)
        if not stack or stack[-1] != split:
            stack.append(split)
    for split in reversed(stack[-HISTORY - 1 :]):
        assert steering is not None and steering.split == split
        if steering.before:
            steering = roll_back(steering)
    with pytest.raises(InputError, match="no earlier split"):
        roll_back(steering)


@given(st.floats(0, 100), dices)
def test_a_share_of_requests_is_mirrored(percent: float, dice: float) -> None:
    split = Split({"1": 100}, "2", percent)
    assert mirrors(split, VERSIONS, dice=dice) == ("2" if dice * 100 < percent else None)
    assert mirrors(split, ("1",), dice=dice) is None


@pytest.mark.parametrize(
    ("split", "available", "dice", "chosen"),
    [
        pytest.param({"1": 100}, "12", 0.99, "1", id="all to one"),
        pytest.param({"1": 90, "2": 10}, "12", 0.89, "1", id="below the canary's share"),
        pytest.param({"1": 90, "2": 10}, "12", 0.91, "2", id="inside the canary's share"),
        pytest.param({"1": 90, "2": 10}, "2", 0.1, "2", id="the main version is not loaded"),
        pytest.param({"1": 90, "2": 10}, "1", 0.95, "1", id="the canary is not loaded"),
        pytest.param({"1": 90, "2": 10}, "3", 0.5, None, id="neither is loaded"),
        pytest.param({"1": 0, "2": 100}, "12", 0.0, "2", id="no weight"),
    ],
)
def test_who_answers(split: dict[str, float], available: str, dice: float, chosen: str | None) -> None:
    assert choose(Split(split), tuple(available), model="m", sticky=None, dice=dice) == chosen


def test_promotion_ends_the_canary_and_its_shadow() -> None:
    canary = steer(None, Split({"1": 90, "2": 10}, "3"))
    assert promote(canary, "2") == Steering(Split({"2": 100}), (canary.split,))
    assert roll_back(promote(canary, "2")) == canary
    assert promote(None, "2") == Steering(Split({"2": 100}))


def test_saying_the_same_again_is_no_change() -> None:
    once = steer(None, Split({"1": 100}))
    assert steer(once, Split({"1": 100})) == once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(({},), "sum of 100", id="nothing"),
        pytest.param(({"1": 60, "2": 60},), "sum of 100", id="too much"),
        pytest.param(({"1": 110, "2": -10},), "0 to 100", id="negative"),
        pytest.param(({"1": float("nan")},), "0 to 100", id="no number"),
        pytest.param(({"1": 90, "2": 10}, "2"), "answers requests itself", id="a shadow with weight"),
        pytest.param(({"1": 100}, "2", 101.0), "shadow_percent", id="more than all are copied"),
    ],
)
def test_a_wrong_split_is_refused(arguments: tuple[dict[str, float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split(*arguments)
