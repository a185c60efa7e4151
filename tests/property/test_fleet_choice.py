"""Bounds, waves, selectors and windows: laws, against slower or plainer ways to the same answer."""

import math
from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cloud_fallback.fleet.bounds import at_least, exceeds, lower_bound, more_often
from cloud_fallback.fleet.cohort import rank, sizes, waves
from cloud_fallback.fleet.selector import MAX_LENGTH, All, Any, Everything, Is, Not, parse
from cloud_fallback.fleet.windows import is_open, next_span
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.fleet import Window

counts = st.integers(1, 200).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of)))
hundredths = st.integers(0, 100)


def exactly(count, of, rate):
    return sum(math.comb(of, each) * rate**each * (1 - rate) ** (of - each) for each in range(count, of + 1))


@given(counts, hundredths)
def test_the_tail_is_that_of_exact_arithmetic(counted, hundredth):
    count, of = counted
    exact = exactly(count, of, Fraction(hundredth, 100))
    assert math.isclose(at_least(count, of, hundredth / 100), exact, rel_tol=1e-9, abs_tol=1e-12)


@given(counts, st.sampled_from([0.5, 0.9, 0.95, 0.999]), hundredths)
def test_over_the_limit_is_where_the_bound_is_over_the_limit(counted, confidence, hundredth):
    failed, of = counted
    bound, limit = lower_bound(failed, of, confidence), hundredth / 100
    assert 0 <= bound <= failed / of
    assume(abs(bound - limit) > 1e-9)
    assert exceeds(failed, of, limit, confidence) == (bound > limit)


@given(counts, st.sampled_from([0.9, 0.95]))
def test_the_bound_grows_with_failures_and_falls_with_successes(counted, confidence):
    failed, of = counted
    bound = lower_bound(failed, of, confidence)
    assert lower_bound(failed + 1, of + 1, confidence) >= bound - 1e-12
    assert lower_bound(failed, of + 1, confidence) <= bound + 1e-12


@given(st.integers(1, 60), hundredths, st.sampled_from([0.9, 0.95]))
def test_the_bound_is_too_high_no_more_often_than_it_says(of, hundredth, confidence):
    rate = Fraction(hundredth, 100)
    wrong = sum(
        math.comb(of, failed) * rate**failed * (1 - rate) ** (of - failed)
        for failed in range(of + 1)
        if exceeds(failed, of, hundredth / 100, confidence)
    )
    assert wrong <= 1 - confidence + 1e-9


@given(counts, counts, st.sampled_from([0.9, 0.95]))
def test_more_often_is_what_counting_all_draws_from_one_urn_says(one, other, confidence):
    (hits, of), (others, of_others) = one, other
    size, both = of + of_others, hits + others
    ways = sum(math.comb(both, k) * math.comb(size - both, of - k) for k in range(hits, min(of, both) + 1))
    exact = Fraction(ways, math.comb(size, of))
    assume(abs(exact - (1 - Fraction(confidence))) > 1e-9)
    if more_often(hits, of, others, of_others, confidence):
        assert exact < 1 - Fraction(confidence)
    else:
        assert exact >= 1 - Fraction(confidence) or hits * size <= of * both


shares = st.lists(st.integers(1, 99), max_size=4, unique=True).map(
    lambda some: [*(each / 100 for each in sorted(some)), 1.0]
)
names = st.sets(st.text("abcdef0123456789", min_size=1, max_size=6), max_size=60)


@given(names, shares)
def test_waves_have_their_share_and_follow_the_order_of_the_hash(devices, cut):
    placed = waves("d", devices, cut)
    assert placed.keys() == devices
    for wave, most in enumerate(sizes(len(devices), cut)):
        assert sum(each <= wave for each in placed.values()) == most
    order = sorted(devices, key=lambda name: rank("d", name))
    assert [placed[name] for name in order] == sorted(placed.values())


@given(names, names, shares)
def test_who_comes_later_moves_nobody_and_no_wave_grows_over_its_share(first, later, cut):
    before = waves("d", first, cut)
    after = waves("d", later, cut, before)
    assert after.keys() == first | later
    assert {name: after[name] for name in first} == before
    for wave, most in enumerate(sizes(len(after), cut)):
        assert sum(each <= wave for each in after.values()) <= most


@given(st.integers(1, 100_000), st.integers(1, 100))
def test_a_share_in_percent_is_cut_exactly(count, percent):
    assert sizes(count, [percent / 100, 1.0]) == (max(1, count * percent // 100), count)


words = st.sampled_from(["a", "b2", "and", "in", "not", "all", "ünïcode", 'quo"te', "back\\slash", "", "x y"])
keys = st.sampled_from(["profile", "region", "label", "store.id"])
tests = st.builds(
    lambda key, values: Is(key, tuple(sorted(values))), keys, st.sets(words, min_size=1, max_size=3)
)
trees = st.recursive(
    tests | st.just(Everything()),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: All(tuple(some))),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: Any(tuple(some))),
    ),
    max_leaves=8,
)
devices = st.dictionaries(keys, words | st.frozensets(words, max_size=3))


def plainly(tree, labels):
    match tree:
        case Everything():
            return True
        case Is(key, values):
            has = labels.get(key, set())
            return bool(set(values) & ({has} if isinstance(has, str) else set(has)))
        case Not(of):
            return not plainly(of, labels)
        case All(of):
            return min(plainly(each, labels) for each in of)
        case Any(of):
            return max(plainly(each, labels) for each in of)


@given(trees, st.lists(devices, max_size=5))
def test_a_selector_means_the_same_when_written_and_read_again(tree, some):
    read = parse(str(tree))
    assert str(parse(str(read))) == str(read)
    assert parse(str(read)) == read
    for labels in some:
        assert read.matches(labels) == plainly(tree, labels)


@settings(max_examples=300)
@given(st.text('ab=!(),"\\ andorti', max_size=40) | st.text(max_size=40))
def test_any_text_is_a_selector_or_an_error_with_its_column(text):
    try:
        found = parse(text)
    except ConfigError as error:
        column = int(error.problem.removeprefix("selector, column "))
        assert 1 <= column <= len(text) + 1
    else:
        assert parse(str(found)) == found


@given(st.integers(0, 5000))
def test_nesting_is_limited_not_crashed_on(depth):
    text = "(" * depth + "a!=b" + ")" * depth
    try:
        found = parse(text)
    except ConfigError:
        assert depth >= 29 or len(text) > MAX_LENGTH
    else:
        assert parse(str(found)) == found


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo"]
)
clocks = st.builds(lambda minutes: f"{minutes // 60:02}:{minutes % 60:02}", st.integers(0, 1439))
windows = st.builds(
    Window, start=clocks, end=clocks, days=st.lists(st.integers(0, 6), max_size=3, unique=True).map(tuple)
)
# 2026 has both jumps in each of the zones that jump; whole minutes, as windows are.
moments = st.integers(1_767_225_600 // 60, 1_798_761_600 // 60).map(lambda minute: minute * 60)


def shown(window, zone, at_s):
    """Is the window open, by the clock on the wall, minutes since Monday?"""
    local = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    now = local.weekday() * 1440 + local.hour * 60 + local.minute
    start, end = (int(each[:2]) * 60 + int(each[3:]) for each in (window.start, window.end))
    length = (end - start) % 1440 or 1440
    return any((now - day * 1440 - start) % 10080 < length for day in window.days or range(7))


@given(windows, zones, moments)
def test_a_window_is_open_when_the_clock_on_the_wall_says_so(window, zone, at_s):
    assert is_open(window, zone, at_s) == shown(window, zone, at_s)


@settings(max_examples=150, deadline=None)
@given(windows, zones, moments, st.integers(0, 3 * 1440))
def test_the_next_span_is_the_first_one_and_whole(window, zone, at_s, minutes):
    span = next_span(window, zone, at_s)
    assert span.close_s > at_s
    assert shown(window, zone, span.open_s)
    assert shown(window, zone, span.close_s - 60)
    if span.close_s - span.open_s < 2 * 86400:  # longer: open around the clock, told in pieces
        assert not shown(window, zone, span.close_s)
        assert span.open_s <= at_s or not shown(window, zone, span.open_s - 60)
    probe_s = at_s + minutes * 60
    if probe_s < span.close_s:
        assert shown(window, zone, probe_s) == (probe_s >= span.open_s)
