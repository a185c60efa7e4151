"""How fast, how long to wait, and when to give a letter up."""

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import OverloadedError, RemoteError
from edge_runtime.sinks.pace import Pace, PaceOptions, RejectedError

AWAY = RemoteError("away", retryable=True)
SHUT = RemoteError("shut", retryable=False)
WRONG = RejectedError("wrong")


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    pace = Pace(PaceOptions(first_s=1, longest_s=5))
    assert [pace.failed(AWAY, 9, dice=1.0).pause_s for _ in range(5)] == [1, 2, 4, 5, 5]
    pace.delivered(9)
    assert pace.failed(AWAY, 9, dice=0.0).pause_s == 0.5


def test_a_server_that_asks_for_a_pause_gets_it_but_not_for_ever() -> None:
    pace = Pace(PaceOptions(first_s=1, asked_longest_s=100))
    assert pace.failed(OverloadedError("full", retry_after_s=17), 1, dice=0.5).pause_s == 17
    assert pace.failed(OverloadedError("full", retry_after_s=1e9), 1, dice=0.5).pause_s == 100
    assert pace.failed(OverloadedError("full", retry_after_s=0), 1, dice=1.0).pause_s == 4


def test_who_does_not_let_us_in_is_asked_at_a_steady_pace_and_loses_us_nothing() -> None:
    pace = Pace(PaceOptions(batch=50, refused_s=30))
    steps = [pace.failed(SHUT, 50, dice=0.3) for _ in range(100)]
    assert {step.pause_s for step in steps} == {30}
    assert not any(step.give_up for step in steps)
    assert pace.size == 50


def test_a_rejected_batch_is_sent_letter_by_letter_and_one_is_given_up() -> None:
    pace = Pace(PaceOptions(batch=4, tries=3, first_s=1))
    assert pace.failed(WRONG, 4, dice=1.0).pause_s == 0
    assert pace.size == 1
    pace.delivered(1)
    steps = [pace.failed(WRONG, 1, dice=1.0) for _ in range(3)]
    assert [(step.pause_s, step.give_up) for step in steps] == [(1, False), (2, False), (0, True)]
    pace.delivered(1)
    assert pace.size == 1
    pace.delivered(1)
    assert pace.size == 4


@given(st.sets(st.integers(0, 29)), st.integers(1, 12), st.integers(1, 4))
def test_only_wrong_letters_are_given_up_and_all_others_arrive_in_order(
    poison: set[int], batch: int, tries: int
) -> None:
    pace = Pace(PaceOptions(batch=batch, tries=tries))
    queue, arrived, aside = list(range(30)), list[int](), list[int]()
    for _ in range(1000):
        sent = queue[: pace.size]
        if not sent:
            break
        if not poison & set(sent):
            arrived += sent
            del queue[: len(sent)]
            pace.delivered(len(sent))
        elif pace.failed(WRONG, len(sent), dice=0.5).give_up:
            aside.append(queue.pop(0))
    assert not queue
    assert arrived == [n for n in range(30) if n not in poison]
    assert aside == sorted(poison)
