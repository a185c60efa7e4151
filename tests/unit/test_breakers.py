"""Breakers of an endpoint and of its models: whose breaker a failure opens, as one table."""

import pytest

from edge_runtime.routing.breaker import BreakerOptions, BreakerState
from edge_runtime.routing.breakers import Breakers
from edge_runtime.routing.retry import Failure

CLOSED, OPEN, HALF_OPEN, PROBING = (
    BreakerState.CLOSED,
    BreakerState.OPEN,
    BreakerState.HALF_OPEN,
    BreakerState.PROBING,
)
SICK, WELL = "sick", "well"

#   failure of `sick`       the endpoint   `sick`  `well`
TABLE = [
    (Failure.UNREACHABLE,   OPEN,          OPEN,   OPEN),
    (Failure.UNTRUSTED,     OPEN,          OPEN,   OPEN),
    (Failure.NOT_OURS,      OPEN,          OPEN,   OPEN),
    (Failure.CUT,           OPEN,          OPEN,   OPEN),
    (Failure.GATEWAY,       OPEN,          OPEN,   OPEN),
    (Failure.TIMEOUT,       CLOSED,        OPEN,   CLOSED),
    (Failure.OVERLOADED,    CLOSED,        OPEN,   CLOSED),
    (Failure.SERVER,        CLOSED,        OPEN,   CLOSED),
    (Failure.QUOTA,         CLOSED,        CLOSED, CLOSED),
    (Failure.UNAUTHORIZED,  CLOSED,        CLOSED, CLOSED),
    (Failure.REQUEST,       CLOSED,        CLOSED, CLOSED),
    (None,                  CLOSED,        CLOSED, CLOSED),
]  # fmt: skip


def breakers() -> Breakers:
    return Breakers(BreakerOptions(minimum_calls=2, cooldown_s=4, slow_s=1))


def call(one: Breakers, model: str, now_s: float, failure: Failure | None, took_s: float = 0.1) -> None:
    leave = one.acquire(model, now_s)
    assert leave is not None
    one.done(leave, now_s, failure, took_s=took_s, dice=1.0)


def test_the_table_has_every_failure() -> None:
    assert {row[0] for row in TABLE} == {*Failure, None}


@pytest.mark.parametrize(("failure", "endpoint", "sick", "well"), TABLE)
def test_whose_breaker_opens(
    failure: Failure | None, endpoint: BreakerState, sick: BreakerState, well: BreakerState
) -> None:
    one = breakers()
    for now_s in (0.0, 1.0):
        call(one, SICK, now_s, failure)
    assert (one.endpoint(2.0), one.state(SICK, 2.0), one.state(WELL, 2.0)) == (endpoint, sick, well)
    assert (one.acquire(SICK, 2.0) is None, one.acquire(WELL, 2.0) is None) == (sick is OPEN, well is OPEN)


def test_slow_answers_are_the_models_own() -> None:
    one = breakers()
    for now_s in (0.0, 1.0):
        call(one, SICK, now_s, None, took_s=3.0)
    assert (one.models(2.0), one.endpoint(2.0)) == ({SICK: OPEN}, CLOSED)


def test_a_model_comes_back_by_its_own_probe() -> None:
    one = breakers()
    for now_s in (0.0, 1.0):
        call(one, SICK, now_s, Failure.SERVER)
    assert one.state(SICK, 5.5) is HALF_OPEN
    probe = one.acquire(SICK, 5.5)
    assert probe is not None
    assert one.acquire(SICK, 5.6) is None
    call(one, WELL, 5.6, None)
    one.done(probe, 5.7, None, took_s=0.1, dice=1.0)
    assert one.models(5.8) == {}
    assert one.times_opened == 1


def test_an_endpoints_probe_is_not_spent_on_a_model_that_is_shut() -> None:
    one = breakers()
    for now_s in (0.0, 0.5):
        call(one, WELL, now_s, Failure.UNREACHABLE)
    assert one.state(SICK, 5.0) is HALF_OPEN
    for now_s in (5.0, 5.1):  # the probe finds the endpoint, and the model sick
        call(one, SICK, now_s, Failure.SERVER)
    assert (one.endpoint(5.2), one.state(SICK, 5.2), one.state(WELL, 5.2)) == (CLOSED, OPEN, CLOSED)
    for now_s in (6.0, 6.1, 6.2, 6.3):
        call(one, WELL, now_s, Failure.CUT)
        if one.endpoint(now_s) is OPEN:
            break
    assert one.state(WELL, 7.0) is OPEN
    assert one.state(SICK, 10.5) is HALF_OPEN


def test_an_endpoint_that_says_nothing_to_its_probe_stays_shut() -> None:
    one = breakers()
    for now_s in (0.0, 0.5):
        call(one, SICK, now_s, Failure.CUT)
    call(one, WELL, 5.0, Failure.TIMEOUT)
    assert one.endpoint(5.1) is OPEN


def test_a_probe_that_was_given_up_may_go_again() -> None:
    one = breakers()
    for now_s in (0.0, 0.5):
        call(one, SICK, now_s, Failure.SERVER)
    leave = one.acquire(SICK, 5.0)
    assert leave is not None
    one.cancelled(leave)
    assert one.state(SICK, 5.0) is HALF_OPEN
