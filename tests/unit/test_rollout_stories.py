"""Stories of rollouts, each behind a row of a table."""

from datetime import UTC, datetime

import pytest

from cloud_fallback.fleet.actions import (
    ApprovalNeeded,
    Completed,
    Halt,
    HaltReason,
    Offer,
    Revert,
    Reverted,
    WaveOpened,
    Withdraw,
)
from cloud_fallback.fleet.arbiter import Arbiter
from cloud_fallback.fleet.lineup import Spending
from cloud_fallback.fleet.rollout import AT_ONCE_S, Rollout
from cloud_fallback.fleet.standing import (
    LIVE,
    Device,
    Outcome,
    Phase,
    Standing,
    pack,
    unpack,
)
from edge_runtime.contract.deployment import Deployment, Pace, Thresholds, Wave
from edge_runtime.contract.errors import ConfigError, InputError, UpdateError
from edge_runtime.contract.fleet import Window

S, R, W = Standing, HaltReason, Outcome


T = 1_767_225_600.0


def started(count, halt="keep", waves=(0.2, 1), **changes):
    changes.setdefault("pace", Pace(soak_s=100, timeout_s=1000))
    waves = tuple(each if isinstance(each, Wave) else Wave(share=each) for each in waves)
    wanted = Deployment(
        id="d1",
        bundle="people",
        version="2",
        sha256="0" * 64,
        selector="all",
        waves=waves,
        on_halt=halt,
        **changes,
    )
    rollout = Rollout(wanted)
    rollout.join([Device(f"s{index}", size_bytes=100) for index in range(count)], T, lambda: 0.5)
    return rollout


def offered(actions):
    return [each.device for each in actions if isinstance(each, Offer)]


def test_a_good_rollout_from_end_to_end():
    rollout = started(10)
    first = rollout.poll(T)
    assert first[0] == WaveOpened("d1", 0)
    assert len(offered(first)) == 2
    assert rollout.wake_at() == T + 1000
    for name in offered(first):
        rollout.report(name, W.SUCCEEDED, T + 10)
    assert rollout.wake_at() == AT_ONCE_S
    assert rollout.poll(T + 10) == []
    assert rollout.head.phase is Phase.SOAKING
    assert rollout.wake_at() == T + 110
    assert rollout.poll(T + 109) == []
    second = rollout.poll(T + 110)
    assert second[0] == WaveOpened("d1", 1)
    assert len(offered(second)) == 8
    for name in offered(second):
        rollout.report(name, W.SUCCEEDED, T + 200)
    rollout.poll(T + 200)
    assert rollout.poll(T + 300) == [Completed("d1")]
    assert rollout.wake_at() is None


def test_a_canary_that_fails_wholly_halts_at_once_and_is_taken_back():
    rollout = started(10, halt="revert")
    one, two = offered(rollout.poll(T))
    rollout.report(one, W.FAILED, T + 1)
    assert rollout.poll(T + 1) == []
    halt, back = rollout.poll(T + 1000)
    assert halt == Halt("d1", R.WHOLE_WAVE, "all 2 tried devices of the wave failed (1 failed, 1 timed-out)")
    assert back == Revert("d1", two, 100)  # the other one has rolled back by itself
    rollout.report(two, W.REVERTED, T + 1001)
    assert rollout.poll(T + 1001) == [Reverted("d1")]
    assert rollout.head.phase is Phase.REVERTED


def test_a_silent_device_that_answers_after_all_no_longer_counts_against():
    rollout = started(10)
    one, two = offered(rollout.poll(T))
    rollout.report(two, W.SUCCEEDED, T + 5)
    rollout.poll(T + 1000)
    assert rollout[one].standing is S.TIMED_OUT
    rollout.report(one, W.SUCCEEDED, T + 1050)
    rollout.poll(T + 1050)
    assert isinstance(rollout.poll(T + 1100)[0], WaveOpened)


def test_offline_devices_are_counted_apart_and_caught_up_later():
    rollout = started(10)
    names = sorted(rollout.devices)
    for name in names[1:]:
        rollout.report(name, W.OFFLINE, T)
    canaries = [name for name in names if rollout[name].wave == 0]
    for name in canaries:
        rollout.report(name, W.ONLINE, T)
    assert set(offered(rollout.poll(T))) == set(canaries)
    for name in canaries:
        rollout.report(name, W.SUCCEEDED, T + 1)
    rollout.poll(T + 1)
    rollout.poll(T + 101)
    online = [name for name in names if rollout[name].standing is S.OFFERED]
    for name in online:
        rollout.report(name, W.SUCCEEDED, T + 102)
    late = next(name for name in names if rollout[name].standing is S.WAITING)
    rollout.report(late, W.ONLINE, T + 9000)
    assert offered(rollout.poll(T + 9000)) == [late]


def test_a_person_approves_what_needs_it():
    rollout = started(
        10, waves=(Wave(share=0.2, needs_approval=True), Wave(share=0.3, needs_approval=True), 1)
    )
    assert rollout.poll(T) == [ApprovalNeeded("d1", 0)]
    assert rollout.poll(T + 5000) == []
    rollout.approve(T + 5000)
    for name in offered(rollout.poll(T + 5000)):
        rollout.report(name, W.SUCCEEDED, T + 5001)
    rollout.poll(T + 5001)
    assert rollout.poll(T + 5101) == [ApprovalNeeded("d1", 1)]
    with pytest.raises(UpdateError, match="expected phase halted, got approval"):
        rollout.resume(T + 5101)
    rollout.approve(T + 5102)
    assert rollout.poll(T + 5102)[0] == WaveOpened("d1", 1)
    with pytest.raises(UpdateError, match="approve: expected phase approval, got running"):
        rollout.approve(T + 5103)


def test_a_wave_too_small_to_have_devices_keeps_its_approval():
    rollout = started(3, waves=(0.05, Wave(share=0.25, needs_approval=True), 1))
    [canary] = offered(rollout.poll(T))
    rollout.report(canary, W.SUCCEEDED, T + 1)
    rollout.poll(T + 1)
    assert rollout.poll(T + 101) == [ApprovalNeeded("d1", 2)]


def test_resuming_after_a_halt_forgives_what_failed_and_offers_again_what_was_withdrawn():
    rollout = started(30, waves=(1,))
    names = offered(rollout.poll(T))
    for name in names[:10]:
        rollout.report(name, W.SUCCEEDED, T + 1)
    for name in names[10:15]:
        rollout.report(name, W.FAILED, T + 2)
    actions = rollout.poll(T + 2)
    assert isinstance(actions[0], Halt)
    assert {each.device for each in actions[1:]} == set(names[15:])
    assert all(isinstance(each, Withdraw) for each in actions[1:])
    for name in names[15:]:
        rollout.report(name, W.WITHDRAWN, T + 3)
    rollout.resume(T + 4)
    again = rollout.poll(T + 4)
    assert set(offered(again)) == set(names[15:])
    rollout.report(names[15], W.FAILED, T + 5)
    assert rollout.poll(T + 5) == []  # one of 16 that count
    assert rollout.tally[0].forgiven == 5


def test_nobody_resumes_what_has_succeeded_nowhere():
    rollout = started(10)
    for name in offered(rollout.poll(T)):
        rollout.report(name, W.FAILED, T + 1)
    rollout.poll(T + 1)
    with pytest.raises(UpdateError, match="at least one device on which it succeeded"):
        rollout.resume(T + 2)


def test_pausing_stops_offers_but_not_judgement():
    rollout = started(10, waves=(1,), pace=Pace(soak_s=100, timeout_s=1000, max_concurrent=2))
    names = offered(rollout.poll(T))
    rollout.pause(T)
    rollout.report(names[0], W.SUCCEEDED, T + 1)
    assert rollout.poll(T + 1) == []
    rollout.resume(T + 2)
    assert len(offered(rollout.poll(T + 2))) == 1
    rollout.pause(T + 3)
    under_way = {name for name in rollout.devices if rollout[name].standing is S.OFFERED}
    assert len(under_way) == 2
    rollout.halt(T + 4, "by hand")
    assert rollout.head.reason == "by hand"
    assert {each.device for each in rollout.poll(T + 4)} == under_way


def test_cancelled_is_cancelled_but_for_a_revert():
    rollout = started(10)
    one, two = offered(rollout.poll(T))
    rollout.report(one, W.SUCCEEDED, T + 1)
    rollout.cancel(T + 2)
    assert rollout.poll(T + 2) == [Withdraw("d1", two)]
    rollout.report(two, W.SUCCEEDED, T + 3)  # it was through already
    assert rollout.poll(T + 3) == []
    rollout.revert(T + 4)
    assert {each.device for each in rollout.poll(T + 4)} == {one, two}


def seconds(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_device_is_offered_something_in_its_stores_night_and_spread_by_the_dice():
    wanted = Deployment(
        id="d1", bundle="people", version="2", sha256="0" * 64, selector="all", waves=(Wave(share=1),),
        window=Window(start="02:00", end="04:00"), pace=Pace(jitter_s=1800, timeout_s=600),
    )  # fmt: skip
    rollout = Rollout(wanted)
    dice = iter([0.0, 0.5])
    noon = seconds("2026-01-15 12:00")
    rollout.join([Device("a", "Europe/Berlin"), Device("b", "Asia/Kolkata")], noon, lambda: next(dice))
    assert rollout.poll(noon) == [WaveOpened("d1", 0)]
    # 2:00 in Kolkata is 20:30, and then half of the 30 minutes.
    assert rollout.wake_at() == seconds("2026-01-15 20:45")
    assert offered(rollout.poll(seconds("2026-01-15 20:45"))) == ["b"]
    assert rollout.wake_at() == seconds("2026-01-15 20:55")
    rollout.report("b", W.HELD, seconds("2026-01-15 20:50"))  # its window is open: no reason to wait
    assert rollout["b"].deadline_s == seconds("2026-01-15 20:55")
    rollout.report("b", W.SUCCEEDED, seconds("2026-01-15 20:51"))
    rollout.report("a", W.OFFLINE, noon)
    rollout.report("a", W.ONLINE, seconds("2026-01-16 02:59"))
    assert rollout["a"].ready_s == seconds("2026-01-16 02:59")
    assert rollout.poll(seconds("2026-01-16 03:30")) == []  # polled too late: the next night
    assert rollout["a"].ready_s == seconds("2026-01-17 01:00")


def test_a_device_that_waits_for_its_window_is_not_silent():
    rollout = started(1, window=Window(start="02:00", end="04:00"), pace=Pace(timeout_s=1000))
    night = seconds("2026-01-02 03:50")
    rollout.poll(T)
    assert offered(rollout.poll(night)) == ["s0"]
    rollout.report("s0", W.HELD, night + 900)
    assert rollout["s0"].deadline_s == seconds("2026-01-03 02:00") + 1000


def test_bytes_come_back_an_hour_after_their_minute():
    spending = Spending(1000)
    spending.charge(600, 30.0)
    spending.charge(400, 70.0)
    assert spending.free_at(1, 80.0) == 3660.0
    assert spending.free_at(601, 80.0) == 3720.0
    assert spending.free_at(600, 3660.0) == 3660.0
    assert Spending(1000, spending.spent).free_at(601, 80.0) == 3720.0
    assert Spending(None).free_at(10**12, 5.0) == 5.0


def test_what_can_never_be_fetched_is_refused_at_once():
    rollout = started(0, pace=Pace(bytes_per_hour=1000))
    with pytest.raises(ConfigError, match="at least the 1001 bytes that big has to fetch"):
        rollout.join([Device("big", size_bytes=1001)], T, lambda: 0.5)
    with pytest.raises(ConfigError, match="time zone"):
        rollout.join([Device("far", zone="Mars/Base")], T, lambda: 0.5)
    assert rollout.devices == ()


def test_a_stranger_is_refused_and_a_repetition_is_not_heard():
    rollout = started(1)
    with pytest.raises(UpdateError, match="expected one of its own, got 'x'"):
        rollout.report("x", W.ONLINE, T)
    rollout.poll(T)
    rollout.take_changed()
    rollout.report("s0", W.ONLINE, T)
    assert rollout.take_changed() == ()
    assert rollout.wake_at() == T + 1000


def test_only_what_changed_has_to_be_written():
    rollout = started(10)
    assert len(rollout.take_changed()) == 10
    names = offered(rollout.poll(T))
    assert [each.device for each in rollout.take_changed()] == sorted(names)
    assert rollout.take_changed() == ()


def test_a_state_survives_and_anything_else_is_refused():
    rollout = started(10)
    rollout.poll(T)
    assert unpack(pack(rollout.state())) == rollout.state()
    with pytest.raises(InputError, match="state of a rollout"):
        unpack(b'{"head": {"phase": "flying"}}')


def test_a_device_goes_back_to_the_newest_good_deployment():
    arbiter = Arbiter()
    for index, name in enumerate(("old", "new")):
        rollout = Rollout(
            Deployment(
                id=name, bundle="people", version=name, counter=index, sha256="0" * 64, selector="all",
                waves=(Wave(share=1),),
            )
        )  # fmt: skip
        rollout.join([Device("s0")], T, lambda: 0.5)
        arbiter.add(rollout)
        assert offered(arbiter.poll(T + index)) == ["s0"]
        rollout.report("s0", W.SUCCEEDED, T + index)
    assert arbiter.take_changed()
    arbiter["new"].revert(T + 5)
    assert arbiter.wake_at() == AT_ONCE_S
    assert arbiter.poll(T + 5) == [Revert("new", "s0", 0, to="old")]
    arbiter.see("s0", T + 6, online=False)
    arbiter.see("stranger", T + 6, online=False)
    assert {each.id: each["s0"].online for each in arbiter} == {"old": False, "new": False}
    assert {each.id for each in arbiter if each.head.phase in LIVE} == {"old"}


def test_who_was_away_when_the_wave_opened_holds_up_nobody_and_proves_nothing_alone():
    rollout = started(10, thresholds=Thresholds(min_attempted=1))
    one, two = sorted(name for name in rollout.devices if rollout[name].wave == 0)
    rollout.report(two, W.OFFLINE, T)
    assert offered(rollout.poll(T)) == [one]
    rollout.report(two, W.ONLINE, T + 1)
    assert offered(rollout.poll(T + 1)) == [two]
    rollout.report(one, W.FAILED, T + 2)
    assert rollout.poll(T + 2) == []
    assert rollout.head.phase is Phase.SOAKING
    assert rollout.poll(T + 500) == []  # nobody has succeeded yet: no wave opens
    rollout.report(two, W.SUCCEEDED, T + 501)
    assert WaveOpened("d1", 1) in rollout.poll(T + 501)


def test_an_approval_from_before_a_halt_is_void():
    rollout = started(10, waves=(0.2, Wave(share=1, needs_approval=True)))
    for name in offered(rollout.poll(T)):
        rollout.report(name, W.SUCCEEDED, T + 1)
    rollout.poll(T + 1)
    assert rollout.poll(T + 101) == [ApprovalNeeded("d1", 1)]
    rollout.approve(T + 102)
    rollout.halt(T + 102, "by hand")
    rollout.resume(T + 103)
    rollout.poll(T + 103)
    assert rollout.poll(T + 203) == [ApprovalNeeded("d1", 1)]
