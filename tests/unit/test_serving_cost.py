"""What a batcher learns of a model: the line, the knee, and how little it tries."""

import random
from collections.abc import Callable

import pytest

from cloud_fallback.serving.cost import ENOUGH, Cost
from tests.simulators.queueing import conv, mlp


def learned(
    duration: Callable[[int], float], runs: int = 400, outlier: float = 0.0
) -> tuple[Cost, list[int]]:
    """A cost after a busy time: as many rows wait as anybody wants. Gives the sizes that were run, too."""
    cost, dice, now, sizes = Cost(64), random.Random(2), 0.0, list[int]()
    for _ in range(runs):
        rows = cost.trial(64, now) or cost.limit
        seconds = duration(rows) * dice.uniform(0.97, 1.03)
        if dice.random() < outlier:
            seconds *= 10
        now += seconds
        cost.learn(rows, seconds, now)
        sizes.append(rows)
    return cost, sizes


def test_nothing_is_known_at_first() -> None:
    cost = Cost(64)
    assert (cost.line, cost.limit, cost.per_row_s, cost.predict_s(9)) == ((0.0, 0.0), 1, 0.0, 0.0)
    assert cost.trial(64, 0.0) == 1


def test_a_small_convolutional_net_stays_alone() -> None:
    cost, sizes = learned(conv)
    assert cost.limit == 1
    assert cost.predict_s(1) == pytest.approx(conv(1), rel=0.1)
    assert sum(size > 1 for size in sizes) == 2 * ENOUGH  # two sizes were tried, each as often as must be


def test_products_of_matrices_grow() -> None:
    cost, _ = learned(mlp)
    assert cost.limit == 64
    a, b = cost.line
    assert a == pytest.approx(0.002, rel=0.15)
    assert b == pytest.approx(0.0003, rel=0.15)


def test_growth_stops_at_the_knee() -> None:
    def machine(rows: int) -> float:
        return 0.001 + 0.001 * max(rows, 8)  # up to 8 rows cost as much as one

    cost, sizes = learned(machine)
    assert 8 <= cost.limit <= 32
    assert max(sizes) <= 64


def test_a_dip_at_two_rows_does_not_hide_what_comes_after() -> None:
    times = {1: 0.001, 2: 0.0026, 4: 0.0022, 8: 0.003, 16: 0.006, 32: 0.012, 64: 0.024}
    assert learned(times.__getitem__)[0].limit == 8


def test_slow_moments_change_nothing() -> None:
    cost, _ = learned(mlp, outlier=0.1)
    assert cost.limit == 64
    assert cost.predict_s(32) == pytest.approx(mlp(32), rel=0.2)


def test_a_machine_that_changes_is_followed() -> None:
    cost, now = Cost(64), 0.0
    for duration in (mlp, conv):
        for _ in range(3000):
            rows = cost.trial(64, now) or cost.limit
            now += max(duration(rows), 0.03)  # half a minute is a thousand runs
            cost.learn(rows, duration(rows), now)
    assert cost.limit == 1


def test_times_that_fall_with_size_give_no_negative_slope() -> None:
    cost = Cost(64)
    for rows, seconds in ((1, 0.01), (8, 0.004), (64, 0.002)):
        for _ in range(ENOUGH):
            cost.learn(rows, seconds, 1.0)
    a, b = cost.line
    assert b == 0
    assert 0.002 <= a <= 0.01
    assert cost.within(0.02) == 64


def test_one_size_alone_is_taken_for_proportional() -> None:
    cost = Cost(64)
    cost.learn(4, 0.008, 1.0)
    assert cost.line == pytest.approx((0.0, 0.002))
    assert cost.within(0.0055) == 2
    assert cost.within(0.001) == 0


def test_a_machine_that_is_slow_now_and_then_is_not_trusted_to_its_median() -> None:
    steady, restless = Cost(64), Cost(64)
    for at in range(64):
        steady.learn(1, 0.010, float(at))
        restless.learn(1, 0.030 if at % 4 == 0 else 0.010, float(at))
    assert (steady.usual, steady.slow) == pytest.approx((1.0, 1.0))
    assert restless.predict_s(1) == pytest.approx(0.010)
    assert restless.usual == pytest.approx(1.5, rel=0.05)
    assert restless.slow == pytest.approx(3.0, rel=0.05)


def test_a_machine_that_is_faster_than_it_was_is_no_reason_to_hurry() -> None:
    cost = Cost(64)
    for at in range(64):
        cost.learn(1, 0.020 if at < 32 else 0.005, float(at))
    assert (cost.usual, cost.slow) == (1.0, 1.0)
