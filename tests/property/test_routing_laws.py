"""What must hold of the breaker, budgets, quantiles, reachability, retries and calibration at all times."""

import math
from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.routing.breaker import Breaker, BreakerOptions, BreakerState
from edge_runtime.routing.budget import HOUR_S, HourlyBudget
from edge_runtime.routing.calibration import Goal, Sample, calibrate
from edge_runtime.routing.hedge import HedgeBudget
from edge_runtime.routing.latency import LatencyWindow
from edge_runtime.routing.reachability import Reachability, ReachabilityOptions
from edge_runtime.routing.retry import MEANINGS, Again, Failure, RetryOptions, retry_after_s

OPTIONS = BreakerOptions(
    window_s=10, minimum_calls=3, failure_rate=0.5, slow_rate=0.7, slow_s=1, cooldown_s=2,
    longest_cooldown_s=16, probe_timeout_s=5,
)  # fmt: skip
dice = st.floats(0, 1, exclude_max=True)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("start")),
        st.tuples(st.just("end"), st.integers(0, 20), st.booleans(), st.sampled_from([0.1, 2.0]), dice),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0, 20.0])),
    ),
    max_size=80,
)


class Callers:
    """Many callers at once, each somewhere between `acquire` and its report, in any order."""

    def __init__(self):
        self.breaker = Breaker(OPTIONS)
        self.now_s = 0.0
        self.under_way = []
        self.opened_at_s = self.probe_at_s = None

    def start(self):
        before = self.breaker.state(self.now_s)
        permit = self.breaker.acquire(self.now_s)
        allowed = before in {BreakerState.CLOSED, BreakerState.HALF_OPEN}
        assert (permit is not None) is allowed
        if permit is None:
            return
        assert permit.probe is (before is BreakerState.HALF_OPEN)
        if permit.probe:
            # One probe at most: the last one is back, was given up, or is overdue.
            assert self.probe_at_s is None or self.now_s >= self.probe_at_s + OPTIONS.probe_timeout_s
            assert self.now_s >= self.opened_at_s + OPTIONS.cooldown_s / 2
            self.probe_at_s = self.now_s
            assert self.breaker.state(self.now_s) is BreakerState.PROBING
        self.under_way.append(permit)

    def end(self, index, ok, took_s, throw):
        if not self.under_way:
            return
        permit = self.under_way.pop(index % len(self.under_way))
        before = self.breaker.state(self.now_s)
        self.breaker.done(permit, self.now_s, ok=ok, took_s=took_s, dice=throw)
        after = self.breaker.state(self.now_s)
        if before is BreakerState.CLOSED:
            assert after in {BreakerState.CLOSED, BreakerState.OPEN}
            assert after is BreakerState.CLOSED or not permit.probe
        elif not permit.probe:
            assert after is before  # a call from before says nothing about the cloud now
        elif after is BreakerState.CLOSED:
            assert ok
            assert took_s <= OPTIONS.slow_s
        if before is not after:
            self.probe_at_s = None
            self.opened_at_s = self.now_s if after is BreakerState.OPEN else None

    def cancel(self, index):
        if self.under_way:
            permit = self.under_way.pop(index % len(self.under_way))
            before = self.breaker.state(self.now_s)
            self.breaker.cancelled(permit)
            if self.breaker.state(self.now_s) is not before:
                assert before is BreakerState.PROBING
                assert permit.probe
                self.probe_at_s = None

    def wait(self, seconds):
        self.now_s += seconds


@settings(max_examples=400)
@given(steps)
def test_one_probe_at_a_time_however_calls_interleave(moves):
    callers = Callers()
    for name, *arguments in moves:
        getattr(callers, name)(*arguments)
    # Whatever happened, a cloud that works is used again.
    callers.wait(OPTIONS.longest_cooldown_s + OPTIONS.probe_timeout_s)
    callers.start()
    permit = callers.under_way[-1]
    callers.breaker.done(permit, callers.now_s, ok=True, took_s=0.1, dice=0.0)
    assert callers.breaker.state(callers.now_s) in {BreakerState.CLOSED, BreakerState.OPEN}
    assert callers.breaker.state(callers.now_s) is BreakerState.CLOSED or not permit.probe


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 6), dice)
def test_it_opens_exactly_when_the_rate_is_reached(results, minimum, throw):
    breaker = Breaker(BreakerOptions(minimum_calls=minimum, failure_rate=0.5))
    failed = 0
    for count, ok in enumerate(results, 1):
        breaker.done(breaker.acquire(0.0), 0.0, ok=ok, took_s=0.0, dice=throw)
        failed += not ok
        over = count >= minimum and failed >= count / 2
        assert (breaker.state(0.0) is BreakerState.OPEN) is over
        if over:
            break


spending = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 59.0, 61.0, 600.0, 3500.0]), st.integers(0, 60)))


@settings(max_examples=300)
@given(spending)
def test_no_hour_costs_more_than_the_limit(moves):
    budget, now_s, spent = HourlyBudget(100), 5.0, []
    for wait_s, amount in moves:
        now_s += wait_s
        at_s = budget.free_at_s(amount, now_s)
        took = budget.take(amount, now_s)
        assert took is (at_s == now_s)
        if took:
            spent.append((now_s, amount))
        else:
            # When it says that there will be room there is, and that is not more than a minute too late.
            assert deepcopy(budget).take(amount, at_s)
            assert sum(each for when, each in spent if when >= at_s - HOUR_S - 60) + amount > 100
        assert sum(each for when, each in spent if when > now_s - HOUR_S) <= 100


@given(st.lists(st.booleans(), max_size=400), st.sampled_from([0.01, 0.05, 0.3]), st.integers(1, 5))
def test_second_requests_never_exceed_their_share(wanted, share, most):
    budget = HedgeBudget(share, most)
    for first, wants in enumerate(wanted, 1):
        budget.earn()
        if wants:
            budget.spend()
        assert budget.sent <= share * first + 1e-9


@given(
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 1e4)), max_size=60),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_quantiles_are_those_of_the_window(calls, share):
    window, now_s, kept = LatencyWindow(forget_s=100, most=10), 0.0, []
    for wait_s, took_ms in calls:
        now_s += wait_s
        window.add(took_ms, now_s)
        kept.append((now_s, took_ms))
    recent = sorted(took for at_s, took in kept[-10:] if at_s > now_s - 100)
    got = window.quantile_ms(share, now_s)
    if not recent:
        assert got is None
    else:
        assert got == recent[max(0, math.ceil(share * len(recent)) - 1)]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100), dice)), st.integers(1, 3), st.integers(1, 3))
def test_a_change_takes_results_in_a_row(results, down, up):
    options = ReachabilityOptions(down_after=down, up_after=up)
    link, now_s, run, last = Reachability(options, 0.0, 0.0), 0.0, 0, None
    for reached, wait_s, throw in results:
        now_s += wait_s
        run = run + 1 if reached is last else 1
        last = reached
        before = link.online
        changed = link.heard(now_s, reached=reached, dice=throw)
        assert changed is (before is not link.online)
        if changed:
            assert link.online is reached
            assert run >= (up if reached else down)
        if run >= max(up, down):
            assert link.online is reached
        due_s = link.wake_at() - now_s
        if reached is not link.online or (changed and not reached):
            assert 0.79 * options.confirm_s <= due_s <= 1.21 * options.confirm_s
        elif reached:
            assert 0.79 * options.probe_every_s <= due_s <= 1.21 * options.probe_every_s
        assert 0.79 * options.confirm_s <= due_s <= 1.21 * options.probe_every_s


@given(
    st.sampled_from(Failure), st.integers(0, 5), st.booleans(), st.floats(0, 100), dice,
    st.sampled_from([0.0, 3.0]), st.sampled_from([0.0, 20.0]),
)  # fmt: skip
def test_a_retry_is_safe_useful_and_in_time(failure, attempt, keyed, left_s, throw, typical_s, asked_s):
    options = RetryOptions(retries=3, first_s=0.5, longest_s=4)
    wait_s = retry_after_s(
        failure, attempt, options=options, keyed=keyed, left_s=left_s, dice=throw,
        typical_s=typical_s, asked_s=asked_s,
    )  # fmt: skip
    if wait_s is None:
        return
    again = MEANINGS[failure].again
    assert attempt < options.retries
    assert again is Again.YES or (again is Again.WITH_KEY and keyed)
    assert wait_s >= asked_s
    assert wait_s + typical_s < left_s
    assert wait_s <= max(asked_s, options.longest_s)


samples = st.lists(
    st.builds(
        Sample,
        sureness=st.sampled_from([0.0, 0.2, 0.5, 0.7, 0.9, 1.0]) | st.floats(0, 1),
        local_right=st.booleans(),
        cloud_right=st.booleans(),
        agrees=st.booleans(),
        request_bytes=st.integers(0, 1000),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=300)
@given(samples, st.floats(0, 1))
def test_a_curve_says_what_its_thresholds_do(labelled, budget):
    found = calibrate(labelled, Goal(share=budget))
    count = len(labelled)
    for point in (*found.curve, found.chosen):
        sent = [each.sureness < point.threshold for each in labelled]
        right = sum(
            each.cloud_right if goes else each.local_right for each, goes in zip(labelled, sent, strict=True)
        )
        assert point.share == sum(sent) / count
        assert math.isclose(point.accuracy, right / count)
        expected = sum(each.request_bytes for each, goes in zip(labelled, sent, strict=True) if goes)
        assert math.isclose(point.mean_bytes, expected / count)
    assert found.chosen.share <= budget
    within = [point.accuracy for point in found.curve if point.share <= budget]
    assert found.chosen.accuracy == max(within)
    assert [point.share for point in found.curve] == sorted(point.share for point in found.curve)
