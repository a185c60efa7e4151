"""The time that one engine may be busy with a variant."""

import pytest

from converters.verify.allowance import Allowance


def test_only_what_is_counted_counts_even_where_it_fails() -> None:
    now = [10.0]
    allowance = Allowance(3.0, clock=lambda: now[0])
    with allowance.counted():
        now[0] += 2
    now[0] += 100
    assert (allowance.spent_s, allowance.used_up) == (2, False)
    with pytest.raises(ZeroDivisionError), allowance.counted():
        now[0] += 1
        raise ZeroDivisionError
    assert (allowance.spent_s, allowance.used_up) == (3, True)


def test_without_a_limit_it_is_never_used_up() -> None:
    now = [0.0]
    allowance = Allowance(clock=lambda: now[0])
    with allowance.counted():
        now[0] += 1e9
    assert not allowance.used_up
