"""Examples of selectors and windows that a reader can check by hand, and what bad ones are told."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from cloud_fallback.fleet.bounds import exceeds, lower_bound
from cloud_fallback.fleet.selector import parse
from cloud_fallback.fleet.windows import is_open, next_span
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.fleet import Window

STORE = {"profile": "store-pc", "region": "west", "label": ["new", "door"]}


@pytest.mark.parametrize(
    ("text", "canonical", "matches"),
    [
        ("all", "all", True),
        ("profile=store-pc and region in (west, south) and not label=lab",
         "profile=store-pc and region in (south, west) and not label=lab", True),
        ("region != west", "not region=west", False),
        ("region not in (west)", "not region=west", False),
        ("missing != x", "not missing=x", True),
        ("missing = x", "missing=x", False),
        ("label=door", "label=door", True),
        ("label=lab or label=new and region=east", "label=lab or label=new and region=east", False),
        ("(label=lab or label=new) and region=west", "(label=lab or label=new) and region=west", True),
        ("not (region=west or region=east)", "not (region=west or region=east)", False),
        ("not not region=west", "region=west", True),
        ("((region=west)) and region=west", "region=west", True),
        ('region in ("west", "and", "a b")', 'region in ("a b", "and", west)', True),
        ("a=1 or (b=2 or c=3)", "a=1 or b=2 or c=3", False),
    ],
)  # fmt: skip
def test_selectors(text, canonical, matches):
    selector = parse(text)
    assert str(selector) == canonical
    assert selector.matches(STORE) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "selector, column 1: expected a key, `not`, `all` or `(`, got the end"),
        ("region=", "selector, column 8: expected a value"),
        ("region west", "selector, column 8: expected `=`, `!=`, `in` or `not in`, got 'west'"),
        ("region in west", "selector, column 11: expected `(`, got 'west'"),
        ("region not west", "selector, column 12: expected `in`, got 'west'"),
        ("region in (west", "selector, column 16: expected `)`, got the end"),
        ("(a=b", "selector, column 5: expected `)`, got the end"),
        ("a=b c=d", "selector, column 5: expected `and`, `or` or the end, got 'c'"),
        ("a=b and", "selector, column 8: expected a key"),
        ("and=b", "selector, column 1: expected a key"),
        ("a=in", "selector, column 3: expected a value (in double quotes"),
        ('a="b', "selector, column 3: expected a closing quote"),
        ("a=b; drop", "selector, column 4: expected a name, a value or a sign, got '; drop'"),
        ("1a=b", "selector, column 1: expected a key"),
    ],
)
def test_a_bad_selector_is_told_where(text, message):
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert str(raised.value).startswith(message)


def test_a_selector_may_not_be_endless():
    with pytest.raises(ConfigError, match="at most 2000 characters, got 6003"):
        parse("a=" + "b" * 6001)
    with pytest.raises(ConfigError, match="canonical form"):
        parse(" and ".join(f"k{index}!=v" for index in range(150)))


def utc(text, zone="UTC", fold=0):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("start", "end", "after", "opens", "closes"),
    [
        ("02:00", "04:00", "2026-01-15 12:00", "2026-01-16 01:00", "2026-01-16 03:00"),
        ("02:00", "04:00", "2026-01-15 02:30", "2026-01-15 01:00", "2026-01-15 03:00"),
        ("22:00", "02:00", "2026-01-15 12:00", "2026-01-15 21:00", "2026-01-16 01:00"),
        # On 29 March at 2:00 the clock jumps to 3:00: what is between does not take place.
        ("02:30", "04:00", "2026-03-28 12:00", "2026-03-29 01:00", "2026-03-29 02:00"),
        ("01:00", "02:30", "2026-03-28 12:00", "2026-03-29 00:00", "2026-03-29 01:00"),
        ("02:10", "02:50", "2026-03-28 12:00", "2026-03-30 00:10", "2026-03-30 00:50"),
        ("22:00", "05:00", "2026-03-28 12:00", "2026-03-28 21:00", "2026-03-29 03:00"),
        # On 25 October at 3:00 it jumps back to 2:00: that hour comes twice.
        ("02:00", "04:00", "2026-10-24 12:00", "2026-10-25 00:00", "2026-10-25 03:00"),
        ("02:10", "02:50", "2026-10-24 12:00", "2026-10-25 00:10", "2026-10-25 00:50"),
        ("02:10", "02:50", "2026-10-25 00:55", "2026-10-25 01:10", "2026-10-25 01:50"),
    ],
)
def test_windows_in_berlin(start, end, after, opens, closes):
    span = next_span(
        Window(start=start, end=end), BERLIN, utc(after, BERLIN if "01-15 02" in after else "UTC")
    )
    assert (span.open_s, span.close_s) == (utc(opens), utc(closes))


def test_a_night_belongs_to_the_day_on_which_it_begins():
    saturday_night = Window(start="22:00", end="02:00", days=(5,))
    assert is_open(saturday_night, "UTC", utc("2026-01-10 23:00"))
    assert is_open(saturday_night, "UTC", utc("2026-01-11 01:00"))
    assert not is_open(saturday_night, "UTC", utc("2026-01-10 01:00"))
    assert not is_open(saturday_night, "UTC", utc("2026-01-11 23:00"))


def test_half_an_hour_of_daylight_saving_is_seen():
    # Lord Howe goes back half an hour on 5 April 2026 at 2:00.
    span = next_span(Window(start="01:00", end="03:00"), "Australia/Lord_Howe", utc("2026-04-04 12:00"))
    assert span.close_s - span.open_s == 2.5 * 3600


@pytest.mark.parametrize("zone", ["Berlin", "", "../etc/passwd", "Europe"])
def test_a_zone_that_is_none_is_refused(zone):
    with pytest.raises(ConfigError, match="expected an IANA name such as Europe/Berlin"):
        next_span(Window(start="01:00", end="02:00"), zone, 0.0)


@pytest.mark.parametrize(
    ("failed", "of", "bound"),
    # scipy.stats.beta.ppf(0.05, failed, of - failed + 1)
    [(0, 10, 0.0), (1, 1, 0.05), (1, 3, 0.016952), (5, 5, 0.549280), (3, 10, 0.087264), (9, 93, 0.051419)],
)
def test_bounds(failed, of, bound):
    assert lower_bound(failed, of, 0.95) == pytest.approx(bound, abs=5e-6)


@pytest.mark.parametrize(("of", "most"), [(5, 1), (10, 2), (20, 3), (50, 5), (100, 9), (1000, 62)])
def test_how_many_failures_are_borne_at_five_percent(of, most):
    assert not exceeds(most, of, 0.05, 0.95)
    assert exceeds(most + 1, of, 0.05, 0.95)


@pytest.mark.parametrize(
    ("failed", "of", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0), (1, 3, 0.0)]
)
def test_counts_that_cannot_be_are_refused(failed, of, confidence):
    with pytest.raises(ConfigError, match="bound: "):
        exceeds(failed, of, 0.05, confidence)
