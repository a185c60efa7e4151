"""Overload in virtual time: what is answered within the deadline stays near the peak, whatever comes."""

from collections.abc import Callable

import pytest

from tests.simulators.queueing import FixedWindow, Outcome, conv, mlp, ours, simulate

CONV_CAPACITY = 1754.0
MLP_CAPACITY = 64 / mlp(64)


def goodput(duration: Callable[[int], float], capacity: float) -> dict[float, Outcome]:
    loads = (0.5, 0.8, 1.0, 2.0, 4.0)
    return {load: simulate(ours(), duration, capacity * load, length_s=8.0) for load in loads}


@pytest.mark.parametrize(
    ("duration", "capacity"), [(conv, CONV_CAPACITY), (mlp, MLP_CAPACITY)], ids=["conv", "mlp"]
)
def test_goodput_stays_near_the_peak(duration: Callable[[int], float], capacity: float) -> None:
    outcomes = goodput(duration, capacity)
    peak = max(outcome.good for outcome in outcomes.values())
    for load in (2.0, 4.0):
        overloaded = outcomes[load]
        assert overloaded.good >= 0.8 * peak
        assert overloaded.late <= 0.02 * len(overloaded.waits_s)
        window = simulate(FixedWindow(), duration, capacity * load, length_s=8.0)
        assert window.good < 0.1 * peak


def test_a_convolutional_net_runs_alone_at_every_load() -> None:
    for outcome in goodput(conv, CONV_CAPACITY).values():
        later = outcome.sizes[len(outcome.sizes) // 4 :]
        assert sum(size == 1 for size in later) > 0.98 * len(later)


def test_batches_of_an_mlp_grow_with_the_load() -> None:
    def usual(load: float) -> int:
        sizes = simulate(ours(), mlp, MLP_CAPACITY * load, length_s=8.0).sizes
        return sorted(sizes[len(sizes) // 4 :])[len(sizes) * 3 // 8]

    assert usual(0.1) <= 2
    assert usual(4.0) >= 32


def test_one_client_never_waits() -> None:
    """A load far below the capacity: answers take what a run takes."""
    outcome = simulate(ours(), mlp, 20.0, length_s=20.0)
    assert sorted(outcome.waits_s)[len(outcome.waits_s) // 2] < 1.1 * mlp(1)
    assert outcome.refused == 0


def test_two_instances_do_twice_the_work() -> None:
    one = simulate(ours(1), conv, 4 * CONV_CAPACITY, length_s=4.0)
    two = simulate(ours(2), conv, 4 * CONV_CAPACITY, length_s=4.0)
    assert two.good > 1.9 * one.good


@pytest.mark.parametrize("times", [3.0, 8.0, 40.0])
@pytest.mark.parametrize(
    ("duration", "capacity"), [(conv, CONV_CAPACITY), (mlp, MLP_CAPACITY)], ids=["conv", "mlp"]
)
def test_a_slow_spell_is_over_when_it_is_over(
    duration: Callable[[int], float], capacity: float, times: float
) -> None:
    spell = (2.0, 5.0, times)
    after = simulate(ours(), duration, 1.1 * capacity, length_s=11.0, warm_s=7.0, spell=spell)
    assert after.good >= 0.8 * capacity
