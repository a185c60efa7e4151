"""Laws of the update tables, and of the pure decisions around them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import UpdateError
from edge_runtime.contract.update import ENDS, Failure, Happening, State
from edge_runtime.update.bucket import Bucket
from edge_runtime.update.collect import unneeded
from edge_runtime.update.machine import (
    REFUSALS,
    RESUME,
    TRANSITIONS,
    Effect,
    after,
    happening_of,
    may_cancel,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "updates.md"
WAYS = {state: [happening for (at, happening) in TRANSITIONS if at is state] for state in State}


def test_every_state_can_be_reached_and_left() -> None:
    reached, border = {State.IDLE}, [State.IDLE]
    while border:
        state = border.pop()
        for happening in WAYS[state]:
            target = TRANSITIONS[state, happening][0]
            if target not in reached:
                reached.add(target)
                border.append(target)
    assert reached == set(State)
    assert all(WAYS.values())


def test_an_end_leads_back_to_rest_only_and_cancel_to_its_end() -> None:
    for (state, happening), (target, effect) in TRANSITIONS.items():
        if state in ENDS:
            assert (happening, target, effect) == (Happening.DONE, State.IDLE, Effect.REST)
        if happening is Happening.CANCEL:
            assert (target, effect) == (State.CANCELLED, Effect.DROP)
    assert {state for state in State if may_cancel(state)} == set(State) - ENDS - {State.IDLE}


def test_only_a_trial_commits_and_every_other_end_drops() -> None:
    for (state, _), (target, effect) in TRANSITIONS.items():
        if target is State.COMMITTED:
            assert (state, effect) == (State.TRIAL, Effect.COMMIT)
        elif target in ENDS:
            assert effect is Effect.DROP


def test_resume_is_legal_total_and_idempotent() -> None:
    assert set(RESUME) == set(State)
    into = dict(TRANSITIONS.values())
    for state, (target, effect) in RESUME.items():
        assert effect is into[target], "the effect of a state is the same, however it was come to"
        assert RESUME[target] == (target, effect)
        assert (target in ENDS) == (state in ENDS), "no end is undone, none is made"


def test_one_effect_a_state() -> None:
    assert len({(target, effect) for target, effect in TRANSITIONS.values()}) == len(State)


@given(st.lists(st.sampled_from(Happening), max_size=40), st.integers(0, 39))
def test_any_story_with_a_loss_of_power_stays_legal(story: list[Happening], power: int) -> None:
    state = State.IDLE
    for number, happening in enumerate(story):
        if number == power:
            state = RESUME[state][0]
        if (state, happening) in TRANSITIONS:
            state, _ = after(state, happening)
        else:
            with pytest.raises(UpdateError):
                after(state, happening)
        assert state in RESUME


@given(st.sampled_from(Failure), st.sampled_from([State.VERIFYING_METADATA, State.PREFLIGHT,
       State.DOWNLOADING, State.VERIFYING, State.SWITCHING, State.TRIAL]))  # fmt: skip
def test_every_failure_ends_every_working_state(code: Failure, state: State) -> None:
    target, effect = after(state, happening_of(code, state))
    assert effect is Effect.DROP
    assert (target is State.ROLLED_BACK) == (state is State.TRIAL)
    assert (target is State.REJECTED) == (code in REFUSALS and state not in {State.TRIAL, State.SWITCHING})


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 3)), min_size=1), st.integers(100, 10000))
def test_a_bucket_keeps_to_its_cap(blocks: list[tuple[int, float]], rate: int) -> None:
    bucket, now_s, total = Bucket(float(rate), 0.0), 0.0, 0
    for count, pause_s in blocks:
        now_s += pause_s
        total += count
        now_s += bucket.take(count, now_s)
        assert total <= rate * (1 + now_s) * (1 + 1e-9) + 1e-6
    assert Bucket(None, 0.0).take(1 << 40, 0.0) == 0.0


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_nothing_named_is_collected(names: set[str], keep: set[str]) -> None:
    files = [f"{each}.part" for each in names] + [f"{each}.progress" for each in names] + [".a.1.part"]
    gone = unneeded(files, frozenset(keep))
    assert {each for each in files if each not in gone} == {
        each for each in files if each.split(".")[0] in keep
    }


def test_the_page_draws_the_tables_as_they_are() -> None:
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    for state in State:
        ways = "; ".join(f"{happening} → {TRANSITIONS[state, happening][0]}" for happening in WAYS[state])
        target, effect = RESUME[state]
        again = f"{effect}" if target is state else f"{effect}, in {target}"
        assert f"| `{state}` | {ways} | {again} |" in rows
    for code in Failure:
        assert any(f"`{code}`" in row for row in rows), code
