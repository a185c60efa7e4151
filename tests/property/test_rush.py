"""Only what an earlier refusal covers is refused early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fallback.serving.rush import MOMENT_S, Rush
from edge_runtime.contract.errors import OverloadedError

times = st.floats(0.001, 10)
priorities = st.integers(0, 9)


def early(rush: Rush, asked: str, timeout_s: float | None, priority: int, now_s: float) -> bool:
    try:
        rush.check(asked, timeout_s=timeout_s, priority=priority, now_s=now_s)
    except OverloadedError:
        return True
    return False


@given(times, priorities, times, priorities, st.floats(0, 0.02), st.floats(0.0001, 1))
def test_a_refusal_covers_what_is_no_better_off_for_a_moment(
    had_s: float, was: int, has_s: float, priority: int, later_s: float, retry_s: float
) -> None:
    rush = Rush()
    error = OverloadedError("model 'm': cannot be done in time", retry_after_s=retry_s)
    rush.refused("m", error, timeout_s=had_s, priority=was, now_s=0)
    covered = has_s <= had_s and priority >= was and later_s < min(retry_s, MOMENT_S)
    assert early(rush, "m", has_s, priority, later_s) == covered


@given(times, priorities)
def test_others_are_not_touched(had_s: float, priority: int) -> None:
    rush = Rush()
    error = OverloadedError("full", retry_after_s=1)
    rush.refused("m", error, timeout_s=had_s, priority=priority, now_s=0)
    assert not early(rush, "other", had_s, priority, 0)
    assert not early(rush, "m", None, priority, 0)
    rush.refused("n", error, timeout_s=None, priority=priority, now_s=0)
    assert not early(rush, "n", had_s, priority, 0)


def test_the_refusal_says_the_same() -> None:
    rush = Rush()
    error = OverloadedError("model 'm': the queue is full", retry_after_s=0.5, got="9 rows waiting")
    rush.refused("m", error, timeout_s=1, priority=1, now_s=0)
    with pytest.raises(OverloadedError) as caught:
        rush.check("m", timeout_s=1, priority=1, now_s=0.001)
    assert str(caught.value) == str(error) and caught.value.retry_after_s == 0.5
