"""Decision tables of rollouts, and the page that shows them."""

from pathlib import Path

import pytest

from cloud_fallback.fleet import verdict
from cloud_fallback.fleet.actions import (
    HaltReason,
)
from cloud_fallback.fleet.arbiter import Claim, blocked
from cloud_fallback.fleet.standing import (
    BUSY,
    ENDS,
    PHASES,
    TIMEOUTS,
    Member,
    Move,
    Outcome,
    Phase,
    Standing,
)
from cloud_fallback.fleet.tally import Count
from edge_runtime.contract.deployment import Pace, Thresholds

S, R, W = Standing, HaltReason, Outcome


def count(away=0, absent=0, due=0, straggling=0, blocked=0, **standings):
    found = Count()
    for name, number in standings.items():
        for index in range(number):
            standing = Standing(name.replace("_", "-"))
            online = index >= {S.WAITING: number - due, S.SUCCEEDED: absent}.get(standing, 0)
            found.add(
                Member(
                    "d", 0, "UTC", 0, 0.0, online, standing=standing,
                    straggler=index < straggling, blocked=standing is S.WAITING and index < blocked,
                ), 1,
            )  # fmt: skip
    found.away = away or found.away
    return found


@pytest.mark.parametrize(
    ("wave", "before", "reason"),
    [
        # nothing has failed, or too little to be sure
        (count(offered=5), count(), None),
        (count(succeeded=1, failed=1), count(), None),  # two are fewer than five
        (count(succeeded=4, failed=1), count(), None),
        (count(succeeded=49, failed=5), count(), None),
        # surely over 5 %
        (count(succeeded=3, failed=2), count(), R.FAILURE_RATE),
        (count(succeeded=3, timed_out=1, regressed=1), count(), R.FAILURE_RATE),
        (count(succeeded=44, failed=6), count(), R.FAILURE_RATE),
        (count(offered=44, failed=6), count(), R.FAILURE_RATE),  # whoever is under way may still succeed
        (count(offered=46, failed=4), count(), None),
        # by this wave alone, or by all together
        (count(succeeded=3, failed=2), count(succeeded=1000), R.FAILURE_RATE),
        (count(succeeded=8, failed=2), count(succeeded=30, failed=4), R.FAILURE_RATE),
        # a wave that fails wholly, however small
        (count(failed=1), count(), R.WHOLE_WAVE),
        (count(timed_out=3, waiting=4), count(), R.WHOLE_WAVE),  # the four are offline
        (count(failed=2, offered=1), count(), None),
        (count(failed=2, waiting=1, due=1), count(), None),
    ],
)
def test_when_a_rollout_halts(wave, before, reason):
    both = count()
    for part in (wave, before):
        both.standings.update(part.standings)
    found = verdict.failing(Thresholds(), wave, both, finished=False)
    assert (found and found[0]) == reason


@pytest.mark.parametrize(
    ("wave", "enough"),
    [
        (count(succeeded=5), True),
        (count(succeeded=4, failed=1), True),
        (count(succeeded=5, waiting=90), True),  # the rest is offline
        (count(succeeded=4, waiting=1), False),  # offline, but without it there are fewer than five
        (count(succeeded=2), True),  # there are no more
        (count(succeeded=9, offered=1), False),
        (count(succeeded=9, offered=1, straggling=1), True),  # it came back late: nobody waits for it
        (count(succeeded=9, waiting=1, due=1), False),
        (count(succeeded=3, waiting=2, blocked=2), True),
        (count(waiting=2, blocked=2), False),
        (count(waiting=3), False),
    ],
)
def test_when_a_wave_has_ended(wave, enough):
    assert verdict.settled(Thresholds(), wave, wave) is enough


@pytest.mark.parametrize(
    ("wave", "rest", "absent", "reason"),
    [
        (count(succeeded=50), count(waiting=900, due=900), False, None),
        (count(succeeded=50, absent=3), count(waiting=900, due=900), False, None),
        (count(succeeded=50, absent=8), count(waiting=900, due=900), True, R.VANISHED),
        (count(succeeded=50, absent=20), count(waiting=900, due=450), False, None),  # half the fleet is away
        (count(succeeded=50, absent=50), count(waiting=900, due=450), True, R.VANISHED),
        (count(succeeded=1, absent=1), count(waiting=19, due=19), True, None),  # chance, or not: wait
        (count(succeeded=50, absent=50), count(waiting=900), True, None),  # the night: everybody is away
    ],
)
def test_who_is_missed_after_success(wave, rest, absent, reason):
    assert verdict.absent(Thresholds(), wave, rest) is absent
    found = verdict.vanished(Thresholds(), wave, rest)
    assert (found and found[0]) == reason


def test_too_few_successes():
    for good, bad in ((19, 1), (4, 1), (3, 1), (38, 2), (0, 0)):
        assert verdict.too_few(Thresholds(), count(succeeded=good, failed=bad)) is None
    for good, bad in ((18, 2), (2, 2), (37, 3)):
        assert verdict.too_few(Thresholds(), count(succeeded=good, failed=bad))[0] is R.TOO_FEW_SUCCEEDED
    _, text = verdict.too_few(Thresholds(success=1), count(succeeded=3, failed=1))
    assert text == "3 of 4 devices of the wave are well (1 failed): 75.0%, needed are 100.0% (4)"


def claim(rollout, age, standing, live=True, bundle="people"):
    return Claim(rollout, ("model", bundle), (age, age), live, standing)


@pytest.mark.parametrize(
    ("claims", "stopped"),
    [
        ([claim("a", 1, S.WAITING)], ""),
        ([claim("a", 1, S.WAITING), claim("b", 2, S.WAITING)], "a"),
        ([claim("a", 1, S.OFFERED), claim("b", 2, S.WAITING)], "b"),  # under way: the newer one waits
        ([claim("a", 1, S.REVERTING, live=False), claim("b", 2, S.WAITING)], "b"),
        ([claim("a", 1, S.SUCCEEDED), claim("b", 2, S.WAITING)], "a"),
        ([claim("a", 1, S.WAITING), claim("b", 2, S.FAILED)], "a"),
        ([claim("a", 1, S.WAITING), claim("b", 2, S.WAITING, live=False)], ""),  # halted: back to the older
        ([claim("a", 1, S.WAITING), claim("b", 2, S.SUCCEEDED, live=False)], "a"),  # it still has the newer
        ([claim("a", 1, S.WAITING), claim("b", 2, S.STUCK, live=False)], "a"),
        ([claim("a", 1, S.WAITING), claim("b", 2, S.REVERTED, live=False)], ""),
        ([claim("a", 1, S.WAITING), claim("b", 2, S.LEFT)], ""),
        ([claim("a", 1, S.WAITING), claim("b", 2, S.WAITING, bundle="faces")], ""),  # strangers …
        ([claim("a", 1, S.OFFERED), claim("b", 2, S.WAITING, bundle="faces")], "b"),  # … but one at a time
        ([claim("a", 1, S.WAITING), claim("b", 2, S.WAITING), claim("c", 3, S.WAITING)], "ab"),
    ],
)
def test_which_rollout_has_a_device(claims, stopped):
    assert blocked(claims) == set(stopped)
    assert blocked(claims[::-1]) == set(stopped)


def test_the_tables_name_every_word():
    assert {phase for phase, _ in PHASES} | {Phase.REVERTED} == set(Phase)
    assert set(PHASES.values()) == set(Phase)
    assert {move for _, move in PHASES} == set(Move)
    flags = {W.ONLINE, W.OFFLINE, W.HELD, W.BLOCKED, W.FREED}
    assert {outcome for _, outcome in ENDS} == set(Outcome) - flags
    assert set(TIMEOUTS) == BUSY
    assert (set(ENDS.values()) | set(TIMEOUTS.values())) & BUSY == set()  # only a rollout makes a device busy


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rollouts.md"


def test_the_page_draws_the_tables_as_they_are():
    rows = set(PAGE.read_text(encoding="utf-8").splitlines())
    for phase in Phase:
        moves = [f"{move} → {PHASES[phase, move]}" for move in Move if (phase, move) in PHASES]
        moves += ["resume → where it was paused"] if phase is Phase.PAUSED else []
        assert f"| `{phase}` | {'; '.join(moves)} |" in rows
    outcomes = [each for each in Outcome if any(outcome is each for _, outcome in ENDS)]
    assert f"| standing | {' | '.join(outcomes)} | silence |" in rows
    for standing in Standing:
        cells = [ENDS.get((standing, outcome), "–") for outcome in outcomes] + [TIMEOUTS.get(standing, "–")]
        assert f"| `{standing}` | {' | '.join(cells)} |" in rows


def test_the_page_gives_the_defaults_as_they_are():
    text = PAGE.read_text(encoding="utf-8")
    for prefix, model in (("thresholds", Thresholds()), ("pace", Pace())):
        for name, value in model:
            shown = "none" if value is None else f"{value:g}"
            assert f"| `{prefix}.{name}` | {shown} |" in text
