"""What holds for every graph of steps, whichever of them fail and however they finish out of turn."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.schedule import Schedule
from converters.step import Step
from edge_runtime.contract.errors import ConversionError

NAMES = tuple("abcdefgh")


def step(name: str, needs: frozenset[str] = frozenset()) -> Step:
    return Step(name, "m:f", "base", needs={f"from {need}": need for need in sorted(needs)})


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    """Any graph without a circle, its steps in any order."""
    count = draw(st.integers(0, len(NAMES)))
    steps = [
        step(name, draw(st.frozensets(st.sampled_from(NAMES[:index]), max_size=3)) if index else frozenset())
        for index, name in enumerate(NAMES[:count])
    ]
    return draw(st.permutations(steps))


failing = st.frozensets(st.sampled_from(NAMES))
dice = st.randoms(use_true_random=False)


def walk(steps: list[Step], fails: frozenset[str], jobs: int, dice: random.Random):
    """Run it with `jobs` hands; gives the order of starts, and what was lost because of what."""
    schedule, running = Schedule(steps), []
    started: list[tuple[str, frozenset[str]]] = []
    succeeded: set[str] = set()
    lost: dict[str, str] = {}
    while not schedule.over:
        while len(running) < jobs and (name := schedule.take()) is not None:
            running.append(name)
            started.append((name, frozenset(succeeded)))
        assert running, "something is left and nothing can run"
        name = running.pop(dice.randrange(len(running)))
        if name not in fails:
            succeeded.add(name)
        for gone in schedule.finish(name, succeeded=name not in fails):
            assert gone.id not in lost
            lost[gone.id] = gone.because
    return started, lost


@given(graphs(), failing, st.integers(1, 3), dice)
def test_every_step_runs_once_after_its_needs_or_is_lost(steps, fails, jobs, dice) -> None:
    started, lost = walk(steps, fails, jobs, dice)
    needs = {step.id: set(step.needs.values()) for step in steps}
    assert sorted([name for name, _ in started] + list(lost)) == sorted(needs)
    for name, succeeded in started:
        assert needs[name] <= succeeded


@given(graphs(), failing, st.integers(1, 3), dice)
def test_a_failure_takes_along_what_needs_it_and_nothing_else(steps, fails, jobs, dice) -> None:
    _, lost = walk(steps, fails, jobs, dice)
    needs = {step.id: set(step.needs.values()) for step in steps}

    def hit(name: str) -> bool:
        return any(need in fails or hit(need) for need in needs[name])

    def above(name: str) -> set[str]:
        return set(needs[name]).union(*map(above, needs[name]))

    assert set(lost) == {name for name in needs if hit(name)}
    for name, because in lost.items():
        assert because in fails & above(name)


@given(graphs(), dice)
def test_one_hand_walks_in_the_order_of_the_plan_where_needs_let_it(steps, dice) -> None:
    order = [name for name, _ in walk(steps, frozenset(), 1, dice)[0]]
    place = {step.id: index for index, step in enumerate(steps)}
    needs = {step.id: set(step.needs.values()) for step in steps}
    for index, name in enumerate(order):
        ready = [other for other in order[index:] if needs[other] <= set(order[:index])]
        assert name == min(ready, key=place.__getitem__)


@given(graphs().filter(bool), dice)
def test_a_graph_that_is_none_is_refused(steps, dice) -> None:
    victim = dice.choice(steps)
    with pytest.raises(ConversionError, match=f"step '{victim.id}' is in the plan 2 times"):
        Schedule([*steps, victim])
    others = [other for other in steps if other.id != victim.id]
    with pytest.raises(ConversionError, match=f"step '{victim.id}' needs 'nobody', which is not in the plan"):
        Schedule([*others, step(victim.id, frozenset({"nobody"}))])
    chain = [step("x", frozenset({"y"})), step("y", frozenset({"z"})), step("z", frozenset({"x"}))]
    with pytest.raises(ConversionError, match="each other in a circle: x -> y -> z -> x"):
        Schedule([*steps, *chain, step("w", frozenset({"x"}))])
    with pytest.raises(ConversionError, match="circle: w -> w"):
        Schedule([*steps, step("w", frozenset({"w"}))])
