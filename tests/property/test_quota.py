"""What no sequence of requests gets out of a quota; and a table of what is let in when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fallback.serving.quota import ApiKey, Bucket, Quotas, digest_of

steps = st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 200)), max_size=60)


@given(st.floats(1, 600), steps)
def test_no_more_than_a_minute_at_once_and_the_rate_after_it(
    rate: float, asked: list[tuple[float, float]]
) -> None:
    bucket, now_s, taken, largest = Bucket(rate), 0.0, 0.0, 0.0
    for passed_s, amount in asked:
        now_s += passed_s
        if bucket.wait_s(amount, now_s) == 0:
            bucket.take(amount, now_s)
            taken += amount
            largest = max(largest, amount - rate)
    assert taken <= rate + rate * now_s / 60 + max(largest, 0) + 1e-6


@given(st.floats(1, 600), steps, st.floats(0.1, 1000))
def test_waiting_as_told_is_enough(rate: float, asked: list[tuple[float, float]], amount: float) -> None:
    bucket, now_s = Bucket(rate), 0.0
    for passed_s, earlier in asked:
        now_s += passed_s
        if bucket.wait_s(earlier, now_s) == 0:
            bucket.take(earlier, now_s)
    wait_s = bucket.wait_s(amount, now_s)
    assert bucket.wait_s(amount, now_s + wait_s + 1e-6) == 0
    assert wait_s == 0 or bucket.wait_s(amount, now_s + wait_s * 0.9) > 0


@pytest.mark.parametrize(
    ("taken", "passed_s", "amount", "wait_s"),
    [
        pytest.param(0, 0, 60, 0, id="a full bucket holds a minute"),
        pytest.param(60, 0, 1, 1, id="empty"),
        pytest.param(60, 30, 30, 0, id="half full again"),
        pytest.param(60, 1000, 61, 0, id="more than fits waits for a full bucket only"),
        pytest.param(600, 0, 1, 541, id="and leaves a debt"),
    ],
)
def test_a_bucket_of_one_a_second(taken: float, passed_s: float, amount: float, wait_s: float) -> None:
    bucket = Bucket(60)
    bucket.take(taken, 0)
    assert bucket.wait_s(amount, passed_s) == pytest.approx(wait_s)


def test_each_key_has_its_own_buckets() -> None:
    one, other = (ApiKey(name, digest_of(name), 1, 10) for name in ("one", "other"))
    quotas = Quotas((one, other))
    assert quotas.charge(one, "requests", 1, 0) == 0
    assert quotas.charge(one, "requests", 1, 0) == pytest.approx(60)
    assert quotas.charge(other, "requests", 1, 0) == 0
    assert quotas.charge(one, "rows", 10, 0) == 0
    assert quotas.charge(one, "rows", 5, 0) == pytest.approx(30)


def test_a_key_without_a_quota_is_never_told_to_wait() -> None:
    free = ApiKey("free", digest_of("free"))
    quotas = Quotas((free,))
    assert {quotas.charge(free, what, 1e9, 0) for what in ("requests", "rows")} == {0}


@given(st.text(), st.text())
def test_only_the_key_itself_is_known(secret: str, tried: str) -> None:
    key = ApiKey("shop", digest_of(secret))
    quotas = Quotas((key,))
    assert quotas.owner(tried) == (key if tried == secret else None)
    assert quotas.remove("shop") == 1 and quotas.owner(secret) is None and quotas.remove("shop") == 0
