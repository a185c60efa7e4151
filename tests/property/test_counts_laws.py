"""What must hold of a store's counts, whoever comes and goes."""

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.analytics.durations import LONGEST_S, RELATIVE_ERROR, SHORTEST_S, Durations
from edge_runtime.analytics.occupancy import Occupancy, levels
from edge_runtime.analytics.queue import PASSING_S, Wait, lengths, waited
from edge_runtime.analytics.storeday import SLOT_S, StoreClock
from edge_runtime.analytics.storesummary import (
    Crossing,
    Entrance,
    Layout,
    Stay,
    from_document,
    summarize,
    to_document,
)

seconds = st.floats(0, 10 * 86400)
some_seconds = st.lists(seconds, max_size=60)
ZONES = ("Europe/Berlin", "UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
clocks = st.builds(
    StoreClock,
    st.sampled_from(ZONES).map(ZoneInfo),
    st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45])),
)
days = st.dates(date(2010, 1, 1), date(2037, 12, 1))

# --- durations ----------------------------------------------------------------------------------------------


@given(st.lists(seconds, min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_as_close_as_stated(lasted, share):
    found = Durations.of(lasted).quantile(share)
    exact = sorted(min(each, LONGEST_S) for each in lasted)[max(math.ceil(share * len(lasted)), 1) - 1]
    assert abs(found - exact) <= max(RELATIVE_ERROR * exact * (1 + 1e-9), SHORTEST_S)


@given(some_seconds, some_seconds, some_seconds)
def test_sums_of_durations_are_durations_of_all(a, b, c):
    one, two, three = map(Durations.of, (a, b, c))
    whole = Durations.of([*a, *b, *c])
    assert Durations.sum([one, two, three]) == whole
    assert Durations.sum([Durations.sum([three, one]), two]) == whole
    assert whole.count == len(a) + len(b) + len(c)
    assert len(whole.buckets) <= 391 + 1


@given(some_seconds, st.lists(st.floats(0.2, 1e5), max_size=6).map(sorted))
def test_every_duration_is_between_two_edges(lasted, edges):
    counts = Durations.of(lasted).between(edges)
    assert (len(counts), sum(counts)) == (len(edges) + 1, len(lasted))
    for place, edge in enumerate(edges):
        surely = sum(each < edge * (1 - 2 * RELATIVE_ERROR) - SHORTEST_S for each in lasted)
        perhaps = sum(each < edge * (1 + 2 * RELATIVE_ERROR) + SHORTEST_S for each in lasted)
        assert surely <= sum(counts[: place + 1]) <= perhaps


# --- days ---------------------------------------------------------------------------------------------------


@given(clocks, days)
def test_days_follow_each_other_without_a_gap(clock, day):
    begin_s, end_s = clock.begin_s(day), clock.end_s(day)
    assert end_s == clock.begin_s(day + timedelta(days=1))
    assert 22 * 3600 <= end_s - begin_s <= 49 * 3600 or end_s == begin_s  # Samoa left out a day
    hours = clock.hours(day)
    assert hours == tuple(sorted(set(hours)))
    assert not hours or (hours[0] == begin_s and hours[-1] < end_s <= hours[-1] + 3600)
    assert all(later - former <= 3600 for former, later in pairwise(hours))
    assert all((clock.local(at).minute, clock.local(at).second) == (0, 0) for at in hours[1:]) or (
        clock.zone.key == "Australia/Lord_Howe"  # whose clock jumps by half an hour
    )


@given(clocks, st.integers(1262304000, 2145916800))
def test_every_moment_is_of_one_day(clock, at_s):
    day = clock.day_of(at_s)
    assert clock.begin_s(day) <= at_s < clock.end_s(day)


def test_daylight_saving_makes_days_of_23_and_25_hours():
    for starts_at, autumn, spring in (
        (time(0), date(2026, 10, 25), date(2026, 3, 29)),
        (time(4), date(2026, 10, 24), date(2026, 3, 28)),  # the night belongs to the day before
    ):
        clock = StoreClock(ZoneInfo("Europe/Berlin"), starts_at)
        assert len(clock.hours(autumn)) == 25
        assert len(clock.hours(spring)) == 23
        assert len(clock.hours(date(2026, 6, 1))) == 24
        assert len(clock.slots(autumn)) == 300
        shown = [clock.local(at).strftime("%H:%M %Z") for at in clock.hours(autumn)]
        assert [each for each in shown if each.startswith("02:")] == ["02:00 CEST", "02:00 CET"]
        assert not [at for at in clock.hours(spring) if clock.local(at).hour == 2]


def test_a_day_begins_when_a_skipped_time_would_have_come():
    clock = StoreClock(ZoneInfo("Europe/Berlin"), time(2, 30))
    begin = datetime.fromtimestamp(clock.begin_s(date(2026, 3, 29)), UTC)
    assert begin == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert clock.day_of(begin.timestamp() - 1) == date(2026, 3, 28)


# --- occupancy ----------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=200))
def test_the_store_is_never_below_empty_and_the_books_balance(ways):
    store = Occupancy()
    for inwards in ways:
        store = store.after(inwards)
        assert store.inside >= 0
    assert (store.entered, store.left) == (sum(ways), len(ways) - sum(ways))
    assert store.inside == store.entered + store.missed - store.left
    lowest, at = 0, 0
    for inwards in ways:
        at += 1 if inwards else -1
        lowest = min(lowest, at)
    assert store.missed == -lowest  # no more than the leavings prove


SLOTS = range(0, 3600, SLOT_S)
moments = st.lists(st.tuples(st.floats(0, 3599), st.booleans()), max_size=80).map(sorted)


@given(moments, st.floats(1, 3600))
def test_levels_are_those_of_the_occupancy(passings, until_s):
    passings = [each for each in passings if each[0] < until_s]
    made = levels(passings, SLOTS, until_s)
    assert len(made) == math.ceil(until_s / SLOT_S)
    store = Occupancy()
    for inwards in (way for _, way in passings):
        store = store.after(inwards)
    assert made[-1].inside == store.inside
    assert sum(level.missed for level in made) == store.missed
    before = 0
    for level in made:
        assert level.most >= max(before, level.inside)
        before = level.inside


# --- queues -------------------------------------------------------------------------------------------------

stays = st.tuples(st.floats(-500, 3600), st.floats(0, 900)).map(lambda pair: Wait(pair[0], sum(pair)))


@given(st.lists(stays, max_size=40), st.randoms(use_true_random=False))
def test_the_mean_length_is_the_time_that_people_waited(crowd, dice):
    waits = waited(crowd)
    made = lengths(waits, SLOTS, 3600, 3600)
    person_s = sum(max(min(wait.end_s, 3600) - max(wait.begin_s, 0), 0) for wait in waits)
    assert math.isclose(sum(each.mean for each in made) * SLOT_S, person_s, abs_tol=1e-6)
    for number, each in enumerate(made):
        assert -1e-9 <= each.mean <= each.most + 1e-9
        assert each.most <= sum(
            w.begin_s < (number + 1) * SLOT_S and w.end_s > number * SLOT_S for w in waits
        )
    shuffled = list(waits)
    dice.shuffle(shuffled)
    assert lengths(shuffled, SLOTS, 3600, 3600) == made


def test_who_passes_through_does_not_wait():
    passing, standing = Wait(0, PASSING_S - 0.1), Wait(0, PASSING_S)
    assert waited([passing, standing]) == [standing]


def test_queue_decisions():
    """A table: stays → mean and most of the first two slots."""
    for waits, until_s, wanted in (
        ([], 600, [(0, 0), (0, 0)]),
        ([Wait(0, 300)], 600, [(1, 1), (0, 0)]),
        ([Wait(0, 150), Wait(150, 300)], 600, [(1, 1), (0, 0)]),  # one takes the other's place
        ([Wait(0, 200), Wait(100, 300)], 600, [(400 / 300, 2), (0, 0)]),
        ([Wait(150, 450)], 600, [(0.5, 1), (0.5, 1)]),
        ([Wait(-100, 600)], 600, [(1, 1), (1, 1)]),
        ([Wait(300, 360)], 360, [(0, 0), (1, 1)]),  # of the minute that has passed
    ):
        made = lengths(waits, range(0, 600, SLOT_S), 600, until_s)
        assert [(round(each.mean, 9), each.most) for each in made] == [
            (round(mean, 9), most) for mean, most in wanted
        ]


# --- whole days ---------------------------------------------------------------------------------------------

BERLIN = StoreClock(ZoneInfo("Europe/Berlin"))
DAY = date(2026, 11, 25)
BEGIN_S, END_S = BERLIN.begin_s(DAY), BERLIN.end_s(DAY)
LAYOUT = Layout({"front": Entrance(("door", "front"), "in")}, frozenset({("till", "line")}))
of_the_day = st.integers(BEGIN_S * 1000, END_S * 1000 - 1).map(lambda ms: ms / 1000)
crossings = st.lists(
    st.builds(
        Crossing,
        of_the_day,
        st.sampled_from([("door", "front"), ("aisle", "middle")]),
        st.sampled_from(["in", "out"]),
    ),
    max_size=60,
)
stays_of_the_day = st.lists(
    st.builds(Stay, of_the_day, st.sampled_from([("till", "line"), ("aisle", "shelf")]), st.floats(0, 7200)),
    max_size=60,
)


@settings(max_examples=50)
@given(crossings, stays_of_the_day, st.randoms(use_true_random=False))
def test_a_summary_does_not_depend_on_the_order_and_survives_the_disk(came, stood, dice):
    def made():
        return summarize(BERLIN, DAY, LAYOUT, crossings=came, stays=stood, waiting={}, until_s=END_S)

    summary = made()
    dice.shuffle(came)
    dice.shuffle(stood)
    assert made() == summary
    front = summary.entrances["front"]
    at_the_front = [each for each in came if each.line == ("door", "front")]
    assert sum(front.entered) == sum(each.word == "in" for each in at_the_front)
    assert sum(front.entered) + sum(front.left) == len(at_the_front)
    assert sum(Durations.sum(by_hour).count for by_hour in summary.dwell.values()) == len(stood)
    assert (len(summary.levels), len(summary.queues["till", "line"].lengths)) == (288, 288)
    again = from_document(json.loads(json.dumps(to_document(summary))))
    assert json.dumps(to_document(again)) == json.dumps(to_document(summary))
    assert (again.entrances, again.levels, again.dwell) == (summary.entrances, summary.levels, summary.dwell)
