"""Durations, shares, bytes, waves and windows as people write them."""

import pytest

from cloud_fallback.fleet.quantities import (
    byte_count,
    duration_s,
    in_words,
    percent,
    share,
    size_in_words,
    waves,
    window,
    window_in_words,
)
from edge_runtime.contract.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("0s", 0), ("500ms", 0.5), ("1h30m", 5400), ("1h 30m", 5400), ("1.5h", 5400),
        ("2 d", 172800), ("5min", 300), ("1W", 604800),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text, "soak") == seconds


@pytest.mark.parametrize("text", ["", "h", "1 hour", "-5s", "1h30", "1h,30m", "½h", "s5"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="soak: expected a duration"):
        duration_s(text, "soak")


@pytest.mark.parametrize(
    ("text", "number"),
    [("5%", 0.05), ("0.05", 0.05), ("7 %", 0.07), ("100%", 1), ("1", 1), ("0", 0), ("0.5%", 0.005)],
)
def test_shares(text: str, number: float) -> None:
    assert share(text, "fail") == number


@pytest.mark.parametrize("text", ["5", "101%", "-5%", "five", "", "5%%", "nan"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ConfigError, match="fail: expected a share"):
        share(text, "fail")


@pytest.mark.parametrize(
    ("text", "count"), [("500", 500), ("2 GB", 2 * 10**9), ("2GiB", 2**31), ("1.5k", 1500), ("10mb", 10**7)]
)
def test_bytes(text: str, count: int) -> None:
    assert byte_count(text, "bytes") == count


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "1 GBs"])
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(ConfigError, match="bytes: expected bytes"):
        byte_count(text, "bytes")


@pytest.mark.parametrize(
    ("text", "canary", "shares"),
    [
        (None, None, [0.05, 0.25, 1]),
        (None, "5%", [0.05, 0.25, 1]),
        (None, "1%", [0.01, 0.05, 0.25, 1]),
        (None, "10%", [0.1, 0.25, 1]),
        (None, "100%", [1]),
        ("5%,25%,100%", "5%", [0.05, 0.25, 1]),
        ("25%, 100%", "5%", [0.05, 0.25, 1]),
        ("100%", None, [1]),
    ],
)
def test_waves(text: str | None, canary: str | None, shares: list[float]) -> None:
    assert [each.share for each in waves(text, canary)] == shares


@pytest.mark.parametrize(
    ("text", "canary", "why"),
    [
        ("5%,25%", None, "end at 100%, such as 5%,25%,100%, got 5%,25%"),
        ("25%,5%,100%", None, "shares that grow"),
        ("0%,100%", None, "shares that grow"),
        ("5%,5%,100%", None, "shares that grow"),
        ("5%,100%", "10%", "canary: expected at most the first of the waves, 5%"),
        ("5%,,100%", None, "waves: expected a share"),
        (None, "0%", "shares that grow"),
    ],
)
def test_what_are_no_waves(text: str | None, canary: str | None, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        waves(text, canary)


def test_a_person_approves_what_comes_after_the_canary() -> None:
    assert [each.needs_approval for each in waves(None, "5%", approve_after_canary=True)] == [
        False,
        True,
        False,
    ]
    with pytest.raises(ConfigError, match="a wave after the canary"):
        waves("100%", None, approve_after_canary=True)


@pytest.mark.parametrize(
    ("text", "days", "words"),
    [
        ("02:00-05:00", (), "02:00–05:00 store time"),
        ("22:00 - 05:00", (), "22:00–05:00 store time"),
        ("mon-wed 02:00-05:00", (0, 1, 2), "mon, tue, wed 02:00–05:00 store time"),
        ("Sat,Sun 02:00-05:00", (5, 6), "sat, sun 02:00–05:00 store time"),
        ("fri-mon 02:00-05:00", (0, 4, 5, 6), "mon, fri, sat, sun 02:00–05:00 store time"),
    ],
)
def test_windows(text: str, days: tuple[int, ...], words: str) -> None:
    found = window(text)
    assert found.days == days
    assert window_in_words(found) == words


@pytest.mark.parametrize(
    "text", ["2-5", "02:00", "25:00-05:00", "noday 02:00-05:00", "mon-xyz 02:00-05:00", ""]
)
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ConfigError, match="window: expected"):
        window(text)


def test_numbers_are_written_for_people() -> None:
    assert [in_words(each) for each in (0, 0.25, 45, 5400, 90061, 172800)] == [
        "0s", "250ms", "45s", "1h 30m", "1d 1h", "2d",
    ]  # fmt: skip
    assert [percent(each) for each in (0.05, 0.005, 1)] == ["5%", "0.5%", "100%"]
    assert [size_in_words(each) for each in (512, 3_400_000, 2 * 10**13)] == ["512 B", "3.4 MB", "20 TB"]
    assert window_in_words(None) == "at any time"
