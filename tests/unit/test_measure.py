"""What two models that were measured in turns are to each other."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from edge_runtime.engines.measure import TURN_RUNS, Runner


def _measured(turns_ms: Sequence[float]) -> Runner:
    """A model that took so long in each of its turns."""
    return Runner(cast("Any", None), {}, [one for turn in turns_ms for one in [turn] * TURN_RUNS])


def test_a_model_that_goes_on_alone_on_a_quieter_machine_is_not_faster_for_it() -> None:
    slow = _measured([40.0, 40.0, 40.0])
    quick = _measured([12.0, 12.0, 12.0, 3.0, 3.0, 3.0, 3.0, 3.0])
    assert quick.latency(1, slow).times_fp32 == pytest.approx(0.3)


def test_load_that_comes_and_goes_is_felt_by_both() -> None:
    load = [1.0, 5.0, 1.0, 2.0, 9.0]
    slow = _measured([10 * one for one in load])
    quick = _measured([4 * one for one in load])
    assert quick.latency(1, slow).times_fp32 == pytest.approx(0.4)


def test_less_than_a_turn_is_compared_too() -> None:
    slow, quick = Runner(cast("Any", None), {}, [10.0, 10.0]), Runner(cast("Any", None), {}, [5.0])
    assert quick.latency(1, slow).times_fp32 == pytest.approx(0.5)
