"""What a batcher does in cases that can be told; what holds in all is in property/test_batching.py."""

import math

import pytest

from cloud_fallback.serving.batcher import MARGIN, PATIENCE, Batcher, BatchLimits, Polled
from cloud_fallback.serving.lanes import Item, State
from edge_runtime.contract.errors import DeadlineError, OverloadedError


def batcher(
    *, max_rows: int = 8, instances: int = 1, a_s: float = 0.0, b_s: float = 0.0, queue_rows: int = 100
) -> Batcher[str]:
    """A batcher that knows what a run costs: `a_s + b_s * rows`, measured just now."""
    made = Batcher[str](BatchLimits(max_rows, queue_rows, 1000), instances)
    for rows in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(3):
            if rows <= max_rows and a_s + b_s:
                made.cost("k").learn(rows, a_s + b_s * rows, 0.0)
    return made


def put(to: Batcher[str], name: str, **told: object) -> Item[str]:
    given: dict[str, object] = {"rows": 1, "key": "k", "now": 0.0, **told}
    return to.submit(name, **given)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def names(polled: Polled[str]) -> list[list[str]]:
    return [[item.value for item in batch.items] for batch in polled.batches]


def test_work_never_waits_for_more_work() -> None:
    made = batcher(a_s=0.01)
    put(made, "only")
    assert names(made.poll(0.0)) == [["only"]]
    assert made.running == 1


def test_what_comes_while_an_instance_runs_goes_together() -> None:
    made = batcher(a_s=0.01)
    put(made, "first")
    [first] = made.poll(0.0).batches
    for name in "abc":
        put(made, name)
    assert names(made.poll(0.001)) == []
    made.done(first, 1, 0.01, 0.01)
    assert names(made.poll(0.01)) == [["a", "b", "c"]]


def test_rows_count_not_requests() -> None:
    made = batcher(a_s=0.01)
    for name in "abc":
        put(made, name, rows=3)
    assert names(made.poll(0.0)) == [["a", "b"]]


def test_a_request_of_more_rows_than_a_batch_runs_alone() -> None:
    made = batcher(a_s=0.01)
    put(made, "large", rows=20)
    put(made, "small")
    assert names(made.poll(0.0)) == [["large"]]


@pytest.mark.parametrize("other", [{"key": "l"}, {"key": ("k", 1)}])
def test_other_keys_wait_for_their_turn(other: dict[str, object]) -> None:
    made = batcher(a_s=0.01, instances=2)
    put(made, "a")
    put(made, "b", **other)
    put(made, "c")
    assert names(made.poll(0.0)) == [["a", "c"], ["b"]]


def test_the_earliest_deadline_is_first() -> None:
    made = batcher(max_rows=2, a_s=0.01)
    for name, deadline in (("late", 9.0), ("never", math.inf), ("soon", 1.0)):
        put(made, name, deadline=deadline)
    assert names(made.poll(0.0)) == [["soon", "late"]]


def test_the_highest_priority_is_first_and_others_fill_its_batch() -> None:
    made = batcher(max_rows=2, a_s=0.01)
    put(made, "low", priority=2, deadline=1.0)
    put(made, "high", priority=0)
    put(made, "usual")
    assert names(made.poll(0.0)) == [["high", "usual"]]


def test_a_low_priority_waits_for_so_many_batches_and_no_more() -> None:
    made = batcher(max_rows=1, a_s=0.01)
    put(made, "low", priority=2)
    order: list[str] = []
    for at in range(PATIENCE + 1):
        put(made, f"high {at}", priority=0)
        put(made, f"more {at}", priority=0)
        [batch] = made.poll(0.0).batches
        order.append(batch.items[0].value)
        made.done(batch, 1, 0.01, 0.0)
    assert order.index("low") == PATIENCE


def test_a_batch_takes_no_more_of_the_time_left_than_the_margin() -> None:
    made = batcher(max_rows=64, a_s=0.010, b_s=0.0005)
    for at in range(40):
        put(made, str(at), deadline=0.030 if at == 0 else 1.0)
    [batch] = made.poll(0.0).batches
    assert batch.rows == int((MARGIN * 0.030 - 0.010) / 0.0005)
    assert batch.expected_s <= MARGIN * 0.030


def test_a_batch_is_smaller_where_runs_take_longer_now_and_then() -> None:
    sizes: list[int] = []
    for slow in (1, 2):
        made = batcher(max_rows=64, a_s=0.001, b_s=0.0005)
        for at in range(40):
            made.cost("k").learn(16, 0.009 * (slow if at % 4 == 0 else 1), 0.0)
            put(made, str(at), deadline=0.020 if at == 0 else 1.0)
        sizes.append(made.poll(0.0).batches[0].rows)
    assert sizes[1] < 0.6 * sizes[0]


def test_what_cannot_be_in_time_behind_the_queue_is_refused_with_a_time_to_come_back() -> None:
    made = batcher(max_rows=1, b_s=0.010)
    for at in range(10):
        put(made, str(at), priority=0)
    with pytest.raises(OverloadedError) as told:
        put(made, "hasty", deadline=0.050)
    assert 0.05 < told.value.retry_after_s < 0.1
    put(made, "patient", deadline=0.300)


def test_a_higher_priority_does_not_wait_for_the_queue_below_it() -> None:
    made = batcher(max_rows=1, b_s=0.010)
    for at in range(10):
        put(made, str(at))
    put(made, "urgent", deadline=0.050, priority=0)
    assert names(made.poll(0.0)) == [["urgent"]]


def test_an_earlier_deadline_does_not_wait_for_later_ones() -> None:
    made = batcher(max_rows=1, b_s=0.010)
    for at in range(10):
        put(made, str(at), deadline=1.0)
    put(made, "sooner", deadline=0.050)


def test_what_would_be_late_even_alone_is_refused() -> None:
    with pytest.raises(DeadlineError, match="run of"):
        put(batcher(b_s=0.010), "hasty", deadline=0.005)
    with pytest.raises(DeadlineError):
        put(batcher(), "over", deadline=0.0)


def test_a_cost_that_nobody_measures_any_more_refuses_nobody() -> None:
    """A slow moment taught it too high a cost; were that believed for ever, nothing would teach it better."""
    made = batcher(b_s=0.010)
    put(made, "other", key="l", now=20.0)
    [other] = made.poll(20.0).batches
    put(made, "again", now=20.0, deadline=20.005)
    made.done(other, 1, 0.001, 20.001)
    [batch] = made.poll(20.001).batches
    assert batch.items[0].value == "again"


def test_what_became_late_is_shed_when_it_does() -> None:
    made = batcher(a_s=0.010)
    put(made, "first")
    made.poll(0.0)
    item = put(made, "waits", deadline=0.1)
    wake_at = made.wake_at()
    assert wake_at == pytest.approx(0.09)
    assert made.poll(0.089).shed == []
    [(shed, error)] = made.poll(wake_at or 0.0).shed
    assert shed is item
    assert isinstance(error, OverloadedError)
    assert made.wake_at() is None
    assert made.waiting_rows == 0


def test_what_is_over_is_late_not_overloaded() -> None:
    made = batcher()
    put(made, "first")
    made.poll(0.0)
    put(made, "waits", deadline=0.1)
    [(_, error)] = made.poll(0.2).shed
    assert isinstance(error, DeadlineError)


def test_the_queue_is_bounded_by_rows_and_by_bytes() -> None:
    made = batcher(queue_rows=10)
    put(made, "a", rows=8)
    with pytest.raises(OverloadedError, match="8 rows and 0 bytes"):
        put(made, "b", rows=3)
    put(made, "c", size_bytes=900)
    with pytest.raises(OverloadedError, match="900 bytes"):
        put(made, "d", size_bytes=101)


def test_one_request_larger_than_the_queue_is_taken_when_it_is_empty() -> None:
    made = batcher(queue_rows=10)
    put(made, "huge", rows=50, size_bytes=5000)
    assert names(made.poll(0.0)) == [["huge"]]


def test_cancelled_work_does_not_run() -> None:
    made = batcher(a_s=0.01)
    gone, stays = put(made, "gone"), put(made, "stays")
    assert made.cancel(gone)
    assert not made.cancel(gone)
    assert names(made.poll(0.0)) == [["stays"]]
    assert not made.cancel(stays)
    assert (gone.state, stays.state) == (State.CANCELLED, State.RUN)


def test_idle_instances_share_the_work_where_that_ends_it_sooner() -> None:
    by_rows = batcher(max_rows=64, instances=2, b_s=0.001, a_s=0.001)
    by_runs = batcher(max_rows=64, instances=2, a_s=0.010, b_s=0.0001)
    for made in (by_rows, by_runs):
        for name in "abcd":
            put(made, name)
    assert [len(each) for each in names(by_runs.poll(0.0))] == [4]
    assert [len(each) for each in names(by_rows.poll(0.0))] == [2, 2]


def test_a_caller_with_less_room_gets_less() -> None:
    made = batcher(instances=4, max_rows=1)
    for name in "abc":
        put(made, name)
    assert len(made.poll(0.0, room=2).batches) == 2
    assert made.poll(0.0, room=0).batches == []


def test_a_failed_run_teaches_nothing() -> None:
    made = batcher(a_s=0.01)
    put(made, "a")
    [batch] = made.poll(0.0).batches
    line = made.cost("k").line
    made.done(batch, 1, None, 5.0)
    assert made.cost("k").line == line
    assert made.running == 0


def test_backlog_is_what_runs_and_what_waits() -> None:
    made = batcher(max_rows=1, b_s=0.010, instances=1)
    put(made, "a")
    made.poll(0.0)
    put(made, "b")
    assert made.backlog_s(0.004) == pytest.approx(0.016)


def test_shapes_that_callers_invent_take_no_memory_for_good() -> None:
    made = batcher(a_s=0.01)
    for at in range(2000):
        made.cost(at)
    assert made.cost("k").line == (0.0, 0.0)  # forgotten, as the one not used for the longest time
