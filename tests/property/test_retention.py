"""Which recordings go: never a newer one before an older one, and no more than it takes."""

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.sinks.retention import Kept, Limits, surplus

recordings = st.lists(st.tuples(st.floats(0, 1e6, allow_nan=False), st.integers(0, 10_000)), max_size=40).map(
    lambda made: [Kept(index, *made) for index, made in enumerate(sorted(made))]
)


@given(recordings, st.integers(0, 100_000), st.none() | st.floats(1, 1e6), st.floats(0, 2e6))
def test_the_oldest_go_and_only_as_many_as_it_takes(
    kept: list[Kept[int]], max_bytes: int, max_age_s: float | None, now_s: float
) -> None:
    limits = Limits(max_bytes, max_age_s)
    gone = list(surplus(iter(kept), sum(one.bytes for one in kept), limits, now_s))
    assert gone == kept[: len(gone)], "the oldest first"
    left = kept[len(gone) :]
    assert sum(one.bytes for one in left) <= max_bytes
    assert max_age_s is None or all(now_s - one.time_s <= max_age_s for one in left)
    if gone:
        last = gone[-1]
        too_old = max_age_s is not None and now_s - last.time_s > max_age_s
        assert too_old or last.bytes + sum(one.bytes for one in left) > max_bytes
    assert list(surplus(iter(left), sum(one.bytes for one in left), limits, now_s)) == []


def test_no_more_is_read_than_it_takes() -> None:
    def endless():  # type: ignore[no-untyped-def]
        yield Kept("old", 0.0, 10)
        yield Kept("new", 9.0, 10)
        raise AssertionError("read on")

    assert [one.what for one in surplus(endless(), 25, Limits(15), 10.0)] == ["old"]
