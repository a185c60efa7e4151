"""The pure parts of the router together, over hours of virtual time on a link in any weather."""

import random
from dataclasses import replace

import pytest

from edge_runtime.contract.route import DataClass, Reason, Route
from edge_runtime.routing.policy import Mode, Policy, Return
from tests.simulators.link import Device, Link, Weather

HOUR_S = 3600.0
FACES, TEXT = frozenset({DataClass.FACES}), frozenset({DataClass.TEXT})


def day(policy, weathers, *, hours_each=1.0, every_s=2.0, seed=1, private=0.2, local=True, **more):
    """Let a device live through weathers, an hour each, and then in fair weather until all is sent."""
    end_s = len(weathers) * hours_each * HOUR_S
    spells = [((i + 1) * hours_each * HOUR_S, each) for i, each in enumerate(weathers)]
    link = Link([*spells, (float("inf"), Weather.FAIR)], random.Random(seed))
    device = Device(policy, link, seed=seed, **more)
    if not local:
        device.local = None
    dice = random.Random(seed + 1)
    at_s = 0.0
    while (at_s := at_s + dice.expovariate(1 / every_s)) < end_s:
        device.ask(at_s, FACES if dice.random() < private else TEXT)
    device.run(end_s + 2 * HOUR_S)
    return device


def nothing_is_lost(device):
    assert set(device.ends) == set(device.asked)
    assert not device.outbox
    assert not [data for data in device.link.sent if data & device.never]
    assert all(end.took_s <= 5.0 + 0.03 for end in device.ends.values())
    # A key was applied once, however often it went.
    assert set(device.link.applied.values()) <= {1}


POLICIES = {
    "cascade": Policy(Mode.CASCADE, threshold=0.5, never_leave=FACES, hedge_after="p95"),
    "later": Policy(
        Mode.CASCADE, threshold=0.3, never_leave=FACES, returns=Return.LOCAL_NOW, audit_rate=0.05
    ),
    "local_first": Policy(Mode.LOCAL_FIRST, never_leave=FACES, audit_rate=0.1),
    "fastest": Policy(Mode.FASTEST, never_leave=FACES, hedge_after=0.3),
    "cloud_only": Policy(Mode.CLOUD_ONLY, never_leave=FACES, hedge_after="p95"),
    "local_only": Policy(Mode.LOCAL_ONLY, never_leave=FACES),
}


@pytest.mark.parametrize("name", POLICIES)
def test_through_every_weather_nothing_is_lost_and_nothing_forbidden_is_sent(name):
    device = day(POLICIES[name], list(Weather), every_s=4.0)
    nothing_is_lost(device)
    refused = [end for end in device.ends.values() if end.decision.route is Route.REFUSE]
    if name == "cloud_only":
        assert {end.decision.reason for end in refused} >= {Reason.PRIVACY, Reason.OFFLINE}
    else:
        assert not refused
    if name == "local_only":
        assert not device.link.sent


@pytest.mark.parametrize("name", ["cascade", "cloud_only"])
def test_without_a_model_here_private_requests_are_refused_and_the_others_answered(name):
    device = day(POLICIES[name], [Weather.FAIR], local=False)
    nothing_is_lost(device)
    reasons = {end.decision.reason for end in device.ends.values() if end.decision.route is Route.REFUSE}
    assert reasons == {Reason.PRIVACY}


@pytest.mark.parametrize("weather", [Weather.DEAD, Weather.CAPTIVE])
def test_a_link_that_leads_nowhere_is_left_alone(weather):
    device = day(POLICIES["cascade"], [Weather.FAIR, weather])
    # A few requests find out; after that only probes go, one a period.
    assert 1 <= device.link.calls_in[weather] <= 10
    assert HOUR_S / 15 / 1.3 <= device.link.probes_in[weather] <= HOUR_S / 15 / 0.75
    assert device.reach.changes == 2
    assert device.reach.online
    offline = [end for end in device.ends.values() if end.decision.reason is Reason.OFFLINE]
    assert len(offline) > 500
    assert all(end.took_s < 0.03 for end in offline)


def test_a_sick_cloud_is_asked_once_a_cooldown():
    device = day(replace(POLICIES["cascade"], hedge_after=None), [Weather.SICK])
    # At most one probe in half of the longest cooldown, besides those while it was still doubling.
    assert device.breaker.times_opened == 1
    assert 20 <= device.half_open_calls <= HOUR_S / 30 + 10
    assert device.link.calls_in[Weather.SICK] <= device.half_open_calls + 10
    assert device.reach.online
    assert device.reach.changes == 0
    assert device.ends[device.asked[-1]].decision.route is not Route.REFUSE


def test_a_slow_cloud_opens_the_breaker_or_is_too_slow_for_the_deadline():
    device = day(POLICIES["cascade"], [Weather.SLOW])
    waited = [end for end in device.ends.values() if end.took_s > 1]
    assert len(waited) < 0.1 * len(device.ends)


def test_a_flapping_link_does_not_switch_with_every_flap():
    device = day(POLICIES["cascade"], [Weather.FLAPPING], every_s=1.0)
    flaps = HOUR_S / 7
    assert 2 <= device.reach.changes <= flaps / 2


def test_a_lossy_link_is_worth_a_second_try():
    twice = Policy(Mode.CLOUD_ONLY)
    device = day(twice, [Weather.LOSSY], private=0.0)
    nothing_is_lost(device)
    ends = list(device.ends.values())
    answered = sum(end.decision.route is Route.CLOUD for end in ends)
    failed = sum(end.decision.reason is Reason.CLOUD_FAILED for end in ends)
    assert answered > 0.8 * len(ends)
    assert failed < 0.05 * len(ends)


def p99_s(device):
    times = sorted(end.took_s for end in device.ends.values())
    return times[int(0.99 * len(times))]


def test_hedging_halves_the_tail_for_a_twentieth_more():
    plain = day(Policy(Mode.CLOUD_ONLY), [Weather.FAIR] * 4, private=0.0)
    hedged = day(Policy(Mode.CLOUD_ONLY, hedge_after=0.2), [Weather.FAIR] * 4, private=0.0)
    assert p99_s(hedged) <= 0.5 * p99_s(plain)
    extra = len(hedged.link.sent) - hedged.first_calls
    assert 0 < extra == hedged.hedges.sent <= 0.05 * hedged.first_calls
    assert len(plain.link.sent) == plain.first_calls


def test_an_hour_never_costs_more_than_the_budget():
    device = day(POLICIES["cascade"], [Weather.FAIR] * 2, bytes_per_hour=100_000)
    nothing_is_lost(device)
    assert len(device.link.sent) <= 300
    assert any(end.decision.reason is Reason.BUDGET for end in device.ends.values())
