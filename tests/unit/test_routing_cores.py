"""The breaker, reachability, retries, hedging, latency, budgets and calibration, case by case."""

import random
from dataclasses import replace

import pytest

from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.routing.breaker import Breaker, BreakerOptions, BreakerState
from edge_runtime.routing.budget import HourlyBudget
from edge_runtime.routing.calibration import AuditWatch, Goal, Sample, calibrate
from edge_runtime.routing.facts import CloudFacts, Facts
from edge_runtime.routing.hedge import HedgeBudget, hedge_after_s
from edge_runtime.routing.latency import LatencyWindow, LocalPredictor
from edge_runtime.routing.policy import Mode, Policy
from edge_runtime.routing.reachability import Reachability, ReachabilityOptions, is_ours
from edge_runtime.routing.retry import (
    MEANINGS,
    Again,
    Failure,
    RetryOptions,
    Whose,
    failure_of,
    retry_after_s,
)

# --- the breaker --------------------------------------------------------------------------------------------


def call(breaker, now_s, *, ok=True, took_s=0.1, dice=1.0):
    permit = breaker.acquire(now_s)
    assert permit is not None
    breaker.done(permit, now_s, ok=ok, took_s=took_s, dice=dice)
    return permit


def opened(**options):
    breaker = Breaker(BreakerOptions(minimum_calls=2, cooldown_s=4, **options))
    call(breaker, 0, ok=False)
    call(breaker, 0, ok=False)
    assert breaker.state(0) is BreakerState.OPEN
    return breaker


def test_of_twenty_callers_one_is_let_through_half_open():
    breaker = opened()
    assert [breaker.acquire(3.9) for _ in range(20)] == [None] * 20
    permits = [breaker.acquire(4) for _ in range(20)]
    assert [each is not None for each in permits] == [True] + [False] * 19
    assert breaker.state(4) is BreakerState.PROBING
    breaker.done(permits[0], 4.5, ok=True, took_s=0.5, dice=0)
    assert breaker.state(4.5) is BreakerState.CLOSED
    assert breaker.times_opened == 1


def test_the_cooldown_doubles_up_to_the_longest_and_starts_anew():
    breaker, now_s, waits = opened(longest_cooldown_s=10), 0.0, []
    for _ in range(4):
        began_s = now_s
        while breaker.state(now_s) is BreakerState.OPEN:
            now_s += 0.5
        waits.append(now_s - began_s)
        call(breaker, now_s, ok=False)
    assert waits == [4, 8, 10, 10]
    call(breaker, now_s + 10, ok=True)
    call(breaker, now_s + 10, ok=False)
    call(breaker, now_s + 10, ok=False)
    assert breaker.state(now_s + 14) is BreakerState.HALF_OPEN
    assert breaker.times_opened == 2


def test_the_dice_take_up_to_half_of_the_cooldown():
    breaker = Breaker(BreakerOptions(minimum_calls=1, cooldown_s=4))
    call(breaker, 0, ok=False, dice=0.0)
    assert breaker.state(1.9) is BreakerState.OPEN
    assert breaker.state(2) is BreakerState.HALF_OPEN


def test_slow_calls_open_it_and_a_slow_probe_keeps_it_open():
    breaker = Breaker(BreakerOptions(minimum_calls=4, slow_rate=0.75, slow_s=1, cooldown_s=4))
    for took_s in (0.1, 2, 2):
        call(breaker, 0, took_s=took_s)
    assert breaker.state(0) is BreakerState.CLOSED
    call(breaker, 0, took_s=2)
    assert breaker.state(0) is BreakerState.OPEN
    call(breaker, 4, took_s=2)
    assert breaker.state(5) is BreakerState.OPEN


def test_what_is_older_than_the_window_does_not_count():
    breaker = Breaker(BreakerOptions(minimum_calls=2, window_s=10))
    call(breaker, 0, ok=False)
    call(breaker, 10, ok=False)
    assert breaker.state(10) is BreakerState.CLOSED
    call(breaker, 11, ok=False)
    assert breaker.state(11) is BreakerState.OPEN


def test_reports_from_before_it_opened_decide_nothing():
    breaker = Breaker(BreakerOptions(minimum_calls=2, cooldown_s=4))
    early = [breaker.acquire(0) for _ in range(10)]
    call(breaker, 0, ok=False)
    call(breaker, 0, ok=False)
    for permit in early[:5]:
        breaker.done(permit, 1, ok=True, took_s=1, dice=0)
    assert breaker.state(1) is BreakerState.OPEN
    probe = breaker.acquire(4)
    for permit in early[5:]:
        breaker.done(permit, 5, ok=False, took_s=5, dice=0)
    assert breaker.state(5) is BreakerState.PROBING
    breaker.done(probe, 5, ok=True, took_s=1, dice=0)
    assert breaker.state(5) is BreakerState.CLOSED


def test_a_probe_that_is_given_up_or_lost_makes_room_for_the_next():
    breaker = opened(probe_timeout_s=30)
    breaker.cancelled(breaker.acquire(4))
    lost = breaker.acquire(4)
    assert lost is not None
    assert breaker.acquire(33.9) is None
    second = breaker.acquire(34)
    assert second is not None
    breaker.done(lost, 35, ok=True, took_s=31, dice=0)
    breaker.cancelled(lost)
    assert breaker.state(35) is BreakerState.PROBING


@pytest.mark.parametrize(
    "wrong", [{"failure_rate": 0}, {"slow_rate": 1.5}, {"minimum_calls": 0}, {"cooldown_s": 100}]
)
def test_wrong_breaker_options(wrong):
    with pytest.raises(ConfigError, match="breaker"):
        BreakerOptions(**wrong)


# --- reachability -------------------------------------------------------------------------------------------


def test_only_an_answer_to_this_probe_is_ours():
    assert is_ours(200, "17", "17")
    assert not is_ours(200, None, "17")  # a captive portal's page
    assert not is_ours(200, "16", "17")  # an old answer out of a cache
    assert not is_ours(302, "17", "17")
    assert not is_ours(200, "", "")


def test_doubt_is_probed_soon_and_certainty_rarely():
    link = Reachability(ReachabilityOptions(probe_every_s=10, confirm_s=1, down_after=2), now_s=0, dice=0.5)
    assert link.wake_at() == 0.5
    link.heard(1, reached=True, dice=0.5)
    assert link.wake_at() == 11
    assert not link.heard(12, reached=False, dice=0.5)
    assert (link.online, link.wake_at()) == (True, 13)
    assert link.heard(13, reached=False, dice=0.5)
    assert (link.online, link.wake_at()) == (False, 14)
    waits = []
    for _ in range(5):
        link.heard(14, reached=False, dice=0.5)
        waits.append(link.wake_at() - 14)
    assert waits == [2, 4, 8, 10, 10]
    link.probing(24, dice=0.5)
    assert link.wake_at() == 34
    assert not link.heard(25, reached=True, dice=0.5)
    assert link.wake_at() == 26
    assert link.heard(26, reached=True, dice=0.5)
    assert (link.online, link.changes) == (True, 2)


@pytest.mark.parametrize("wrong", [{"probe_every_s": 0.5}, {"down_after": 0}, {"confirm_s": 0}])
def test_wrong_reachability_options(wrong):
    with pytest.raises(ConfigError, match="probe_every_s"):
        ReachabilityOptions(**wrong)


# --- retries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, None), (204, None), (302, Failure.NOT_OURS), (304, Failure.NOT_OURS), (400, Failure.REQUEST),
        (401, Failure.UNAUTHORIZED), (403, Failure.UNAUTHORIZED), (404, Failure.REQUEST),
        (408, Failure.GATEWAY), (429, Failure.QUOTA), (500, Failure.SERVER), (501, Failure.SERVER),
        (502, Failure.GATEWAY), (503, Failure.OVERLOADED), (504, Failure.GATEWAY), (511, Failure.SERVER),
        (101, Failure.NOT_OURS),
    ],
)  # fmt: skip
def test_what_a_status_tells_of(status, failure):
    assert failure_of(status) is failure


def test_every_failure_has_a_meaning_and_a_wrong_request_is_not_the_clouds_fault():
    assert set(MEANINGS) == set(Failure)
    for failure in (Failure.REQUEST, Failure.UNAUTHORIZED, Failure.QUOTA):
        assert MEANINGS[failure].opens is Whose.NOBODY
        assert not MEANINGS[failure].offline
    # Each row that lets a request go twice although it may have been done asks for a key.
    for failure in (Failure.TIMEOUT, Failure.CUT, Failure.SERVER, Failure.GATEWAY):
        assert MEANINGS[failure].again is Again.WITH_KEY
    for failure in (Failure.NOT_OURS, Failure.TIMEOUT, Failure.CUT, Failure.UNREACHABLE):
        assert MEANINGS[failure].offline


def test_waits_double_are_jittered_and_stop_in_time():
    options = RetryOptions(retries=3, first_s=1, longest_s=3)

    def wait(attempt, left_s=100.0, dice=0.0, **more):
        return retry_after_s(
            Failure.CUT, attempt, options=options, keyed=True, left_s=left_s, dice=dice, **more
        )

    assert [wait(each) for each in range(4)] == [0.5, 1.0, 1.5, None]
    assert wait(0, dice=0.5) == 0.75
    assert wait(0, asked_s=7) == 7
    assert wait(0, left_s=7, asked_s=7) is None
    assert wait(0, left_s=1.0, typical_s=0.4) == 0.5
    assert wait(0, left_s=1.0, typical_s=0.5) is None


# --- hedging, latency, budgets ------------------------------------------------------------------------------

TO_CLOUD = Decision(Route.CLOUD, Reason.POLICY)
FACTS = Facts(cloud=CloudFacts(p95_ms=200.0), deadline_left_s=1.0, request_bytes=10, request_tokens=5)


@pytest.mark.parametrize(
    ("policy", "facts", "decision", "after_s"),
    [
        ({"hedge_after": "p95"}, FACTS, TO_CLOUD, 0.2),
        ({"hedge_after": 0.7}, FACTS, TO_CLOUD, 0.7),
        ({}, FACTS, TO_CLOUD, None),
        ({"hedge_after": 1.0}, FACTS, TO_CLOUD, None),
        ({"hedge_after": "p95"}, FACTS, Decision(Route.LOCAL, Reason.FITS), None),
        ({"hedge_after": "p95"}, replace(FACTS, cloud=CloudFacts()), TO_CLOUD, None),
        ({"hedge_after": "p95"}, replace(FACTS, cloud=None), TO_CLOUD, None),
        ({"hedge_after": 0.1}, replace(FACTS, cloud=CloudFacts(bytes_left=19)), TO_CLOUD, None),
        ({"hedge_after": 0.1}, replace(FACTS, cloud=CloudFacts(bytes_left=20)), TO_CLOUD, 0.1),
        ({"hedge_after": 0.1}, replace(FACTS, cloud=CloudFacts(tokens_left=9)), TO_CLOUD, None),
        (
            {"hedge_after": 0.1, "never_leave": frozenset({DataClass.TEXT})},
            replace(FACTS, data=frozenset({DataClass.TEXT})),
            TO_CLOUD,
            None,
        ),
    ],
)
def test_when_a_second_request_may_go(policy, facts, decision, after_s):
    assert hedge_after_s(Policy(Mode.CLOUD_ONLY, **policy), facts, decision) == after_s


def test_a_hundred_requests_pay_for_five_more():
    budget = HedgeBudget()
    sent = 0
    for _ in range(100):
        budget.earn()
        sent += budget.spend()
    assert (sent, budget.sent) == (5, 5)
    for _ in range(10_000):
        budget.earn()
    assert [budget.spend() for _ in range(6)] == [True] * 5 + [False]


def test_quantiles_need_enough_calls_and_are_forgotten():
    window = LatencyWindow(forget_s=60)
    for i in range(20):
        window.add(float(20 - i), now_s=i)
    assert (window.quantile_ms(0.5, 20), window.quantile_ms(0.95, 20)) == (10, 19)
    assert window.quantile_ms(0.95, 20, at_least=21) is None
    assert window.quantile_ms(1.0, 70) == 9
    assert window.quantile_ms(0.5, 79) is None


def test_the_predictor_starts_from_receipts_learns_and_forgets():
    predictor = LocalPredictor({"int8": 40.0}, forget_s=60)
    assert predictor.predict_ms("fp32", 0, 0) is None
    assert predictor.predict_ms("int8", 0, 0) == 40
    assert predictor.predict_ms("int8", 3, 0, workers=2) == 100
    predictor.add("int8", 10.0, 0)
    assert predictor.predict_ms("int8", 0, 1) == 10
    predictor.add("int8", 20.0, 1)
    assert predictor.predict_ms("int8", 0, 2) == pytest.approx(12)
    assert predictor.predict_ms("int8", 0, 61) == 40
    predictor.add("int8", 30.0, 62)
    assert predictor.predict_ms("int8", 0, 63) == 30


def test_an_hourly_budget():
    budget = HourlyBudget(100)
    assert budget.take(60, 30)
    assert not budget.take(50, 100)
    assert budget.take(40, 100)
    assert budget.left(200) == 0
    assert budget.free_at_s(50, 200) == 3660
    assert budget.free_at_s(70, 200) == 3720
    assert budget.free_at_s(101, 200) is None
    budget.charge(10, 200)
    assert budget.left(200) == -10
    assert not budget.take(0, 200)
    assert budget.left(3660) == 50
    assert not budget.take(-1, 3660)
    assert not HourlyBudget(0).take(1, 0)
    with pytest.raises(ConfigError, match="hourly limit"):
        HourlyBudget(-1)


# --- calibration --------------------------------------------------------------------------------------------


def crowd(count=1000):
    """A device that is right as often as it is sure, and a cloud that is right 19 times of 20."""
    dice = random.Random(5)
    samples = []
    for _ in range(count):
        sure = dice.uniform(0.5, 1)
        local, cloud = dice.random() < sure, dice.random() < 0.95
        samples.append(Sample(sure, local, cloud, local is cloud, 100))
    return samples


def test_a_share_bytes_and_an_accuracy_are_reached():
    samples = crowd()
    by_share = calibrate(samples, Goal(share=0.3))
    assert 0.25 < by_share.chosen.share <= 0.3
    assert by_share.chosen.accuracy > by_share.chosen.random + 0.03
    assert calibrate(samples, Goal(mean_bytes=30)).chosen == by_share.chosen
    by_accuracy = calibrate(samples, Goal(accuracy=0.85))
    assert by_accuracy.chosen.accuracy >= 0.85
    assert all(point.accuracy < 0.85 for point in by_accuracy.curve if point.share < by_accuracy.chosen.share)
    assert len(by_share.curve) <= 205
    assert by_share.curve[0].share == 0
    assert by_share.curve[-1].share == 1
    assert 0 < by_share.disagreement < 0.3


def test_what_cannot_be_reached_is_said():
    with pytest.raises(ConfigError, match=r"at most 0\.9.* sent"):
        calibrate(crowd(), Goal(accuracy=0.999))
    with pytest.raises(ConfigError, match="one of"):
        Goal()
    with pytest.raises(ConfigError, match="one of"):
        Goal(share=0.1, accuracy=0.9)
    with pytest.raises(InputError, match="samples"):
        calibrate([], Goal(share=0.1))
    with pytest.raises(InputError, match="sureness"):
        calibrate([Sample(float("nan"), True, True, True)], Goal(share=0.1))
    with pytest.raises(ConfigError, match="0 or more"):
        calibrate(crowd(10), Goal(share=-1.0))


def test_answers_at_full_sureness_are_never_sent():
    samples = [Sample(1.0, False, True, False)] * 3 + [Sample(0.2, False, True, False)]
    found = calibrate(samples, Goal(share=1.0))
    assert [point.share for point in found.curve] == [0.0, 0.25]


def audits_until_alarm(watch, rate, dice, most):
    for count in range(1, most + 1):
        if not watch.add(agrees=dice.random() >= rate):
            return count
    return None


def test_a_threshold_that_holds_raises_no_alarm_and_one_that_does_not_does():
    quiet = [audits_until_alarm(AuditWatch(0.05), 0.05, random.Random(seed), 1000) for seed in range(40)]
    # On average 10000 audits lie between false alarms: of 40 runs of 1000 audits about 4 may raise one.
    assert sum(each is not None for each in quiet) <= 8
    loud = [audits_until_alarm(AuditWatch(0.05), 0.2, random.Random(seed), 1000) for seed in range(40)]
    assert all(each is not None and each < 300 for each in loud)


def test_a_late_change_is_seen_as_soon_as_an_early_one():
    watch, dice = AuditWatch(0.05), random.Random(1)
    assert audits_until_alarm(watch, 0.02, dice, 5000) is None
    assert audits_until_alarm(watch, 0.25, dice, 200) is not None
    assert watch.audits > 5000
    assert not watch.add(agrees=True)


def test_a_watch_goes_on_from_where_it_was():
    whole, first, dice = AuditWatch(0.1), AuditWatch(0.1), random.Random(3)
    audits = [dice.random() > 0.15 for _ in range(100)]
    for agrees in audits:
        whole.add(agrees=agrees)
    for agrees in audits[:40]:
        first.add(agrees=agrees)
    second = AuditWatch(0.1, state=first.state)
    for agrees in audits[40:]:
        second.add(agrees=agrees)
    assert second.state == whole.state


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.6, 1.0])
def test_a_watch_bears_any_rate(rate):
    watch = AuditWatch(rate)
    for agrees in (True, False) * 20:
        watch.add(agrees=agrees)
    assert len(watch.state) > 1
