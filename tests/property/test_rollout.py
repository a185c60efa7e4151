"""What must hold of rollouts in any fleet: a poison stops, a good one arrives, and any replica can go on."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_fallback.fleet.actions import Halt, HaltReason, Offer, Revert, WaveOpened
from cloud_fallback.fleet.rollout import Rollout
from cloud_fallback.fleet.standing import LIVE, Device, Outcome, Phase, Standing
from cloud_fallback.fleet.tally import Tally
from cloud_fallback.fleet.windows import is_open
from edge_runtime.contract.deployment import Deployment, Pace, Wave
from edge_runtime.contract.errors import UpdateError
from edge_runtime.contract.fleet import Window
from tests.simulators.fleet_world import (
    DAY_S,
    FAILS,
    GOOD,
    HOUR_S,
    POISONS,
    REGRESSES,
    SILENT,
    START_S,
    Manner,
    Store,
    World,
)

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def deployment(name="d1", **changes):
    return Deployment(id=name, bundle="people", version="2", sha256="0" * 64, selector="all", **changes)


def fleet(count, seed=0, half=0.2, never=0.05):
    dice = random.Random(seed)
    presences = dice.choices(("half", "never", "always"), (half, never, 1 - half - never), k=count)
    return [
        Store(f"store-{index:04}", presence, dice.choice(ZONES), dice.randrange(1, 2_000_000))
        for index, presence in enumerate(presences)
    ]


paces = st.builds(
    Pace,
    soak_s=st.sampled_from([0.0, 1800.0, 7200.0]),
    timeout_s=st.sampled_from([900.0, 7200.0]),
    jitter_s=st.sampled_from([0.0, 600.0, 20_000.0]),
    max_concurrent=st.sampled_from([1, 3, 50]),
    bytes_per_hour=st.sampled_from([None, 2_000_000, 30_000_000]),
)
windows = st.none() | st.builds(
    Window,
    start=st.sampled_from(["01:00", "22:30"]),
    end=st.sampled_from(["05:00", "03:15"]),
    days=st.sampled_from([(), (0, 2, 5)]),
)
deployments = st.builds(
    deployment,
    pace=paces,
    window=windows,
    on_halt=st.sampled_from(["keep", "revert"]),
    waves=st.sampled_from(
        [
            (Wave(share=0.05), Wave(share=0.3), Wave(share=1)),
            (Wave(share=0.1), Wave(share=0.3, needs_approval=True), Wave(share=1)),
            (Wave(share=1, needs_approval=True),),
        ]
    ),
)
fleets = st.builds(fleet, st.integers(0, 40), st.integers(0, 1000))


def mixture(seed, weights=(20, 1, 1, 1)):
    """Most devices are well, a few are not; the same ones however often one asks."""
    manners = (GOOD, FAILS, SILENT, REGRESSES)

    def manner(name, deployment):
        return random.Random(f"{seed} {name} {deployment}").choices(manners, weights)[0]

    return manner


@pytest.mark.parametrize("poison", POISONS, ids=lambda one: f"{one.end}, {one.then}")
def test_a_poison_reaches_six_percent_of_a_large_fleet_at_most(poison):
    world = World(fleet(3000), lambda name, deployment: poison)
    rollout = world.deploy(deployment())
    world.run(4 * DAY_S)
    assert 0 < len(world.reached["d1"]) <= 0.06 * 3000
    assert len(world.halts("d1")) == 1
    assert rollout.head.phase is Phase.REVERTED
    assert Standing.OFFERED not in world.standings("d1")


@some
@given(
    st.integers(17, 120), st.integers(0, 1000), st.sampled_from(POISONS), windows,
    st.sampled_from([1800.0, 7200.0]), st.sampled_from([1, 7, 100]),
)  # fmt: skip
def test_a_poison_reaches_six_percent_of_any_fleet_at_most(count, seed, poison, window, soak_s, concurrent):
    # Whoever regresses or vanishes does so 20 minutes after success: that is what the soak time is for.
    world = World(fleet(count, seed), lambda name, deployment: poison, seed)
    rollout = world.deploy(
        deployment(window=window, pace=Pace(soak_s=soak_s, timeout_s=3600, max_concurrent=concurrent))
    )
    world.run(20 * DAY_S)
    assert len(world.reached["d1"]) <= 0.06 * count
    assert not any(isinstance(each, WaveOpened) and each.wave for _, each in world.log)
    if poison.then is not Outcome.OFFLINE:  # one vanished device of one may be chance: it waits, for good
        assert rollout.head.phase not in LIVE or not world.reached["d1"]


@some
@given(deployments, fleets, st.integers(0, 1000))
def test_a_good_one_reaches_everybody_who_is_ever_online(wanted, stores, seed):
    if wanted.window or wanted.pace.bytes_per_hour == 2_000_000:
        stores = stores[:12]
    if wanted.window:  # who is never there while the window is open cannot be served
        stores = [each for each in stores if each.presence != "half"]
    world = World(stores, lambda name, deployment: GOOD, seed)
    # A canary that is never there is the operator's business, see `docs/reference/rollouts.md`.
    world.stores = {each.name: each for each in stores if each.presence != "never"}
    rollout = world.deploy(wanted.model_copy(update={"on_halt": "keep"}))
    for day in range(60):
        if rollout.head.phase is Phase.APPROVAL:
            rollout.approve(world.now_s)
        if rollout.head.phase is Phase.HALTED:  # a few that are away half of the day may look like vanished
            assert world.halts("d1")[-1].reason is HaltReason.VANISHED
            rollout.resume(world.now_s)
        world.run(DAY_S / 2 if day else HOUR_S)
    assert not world.halts("d1") or any(each.presence == "half" for each in stores)
    assert world.standings("d1") == +Counter({Standing.SUCCEEDED: len(world.stores)})
    assert rollout.head.phase is (Phase.COMPLETED if world.stores else Phase.RUNNING)
    for at_s, action in world.log:
        if isinstance(action, Offer) and wanted.window:
            assert is_open(wanted.window, world.stores[action.device].zone, at_s)


def moving(world, seed):
    """A person who does things at random times; what a phase does not allow changes nothing."""
    dice = random.Random(seed)

    def do():
        rollout = dice.choice(list(world.arbiter))
        move = dice.choice(["approve", "pause", "resume", "halt", "revert", "cancel", "resume", "approve"])
        before = rollout.state()
        try:
            rollout.halt(world.now_s, "by hand") if move == "halt" else getattr(rollout, move)(world.now_s)
        except UpdateError:
            assert rollout.state() == before

    for _ in range(dice.randrange(12)):
        world.at(START_S + dice.random() * 2 * DAY_S, do)


def lived(wanted, stores, seed, prepare=lambda world: None, person=True, **options):
    world = World([Store(each.name, each.presence, each.zone, each.size_bytes) for each in stores],
                  mixture(seed), seed, **options)  # fmt: skip
    for each in wanted:
        world.deploy(each)
    if person:
        moving(world, seed)
    prepare(world)
    world.run(3 * DAY_S)
    return world


def twins(wanted):
    return [wanted, wanted.model_copy(update={"id": "d2", "counter": 1})]


@some
@given(deployments, fleets, st.integers(0, 1000))
def test_another_replica_that_takes_over_at_any_poll_does_the_same(wanted, stores, seed):
    alone = lived(twins(wanted), stores, seed)
    handed = lived(twins(wanted), stores, seed, hand_over=True)
    assert handed.log == alone.log
    assert [each.state() for each in handed.arbiter] == [each.state() for each in alone.arbiter]


@some
@given(deployments, fleets, st.integers(0, 1000))
def test_polling_more_often_than_asked_changes_nothing(wanted, stores, seed):
    def often(world):
        for minute in range(0, 3 * 24 * 60, 7):
            world.at(START_S + minute * 60.0, lambda: None)

    assert lived(twins(wanted), stores, seed, often).log == lived(twins(wanted), stores, seed).log


@some
@given(deployments, fleets, st.integers(0, 1000))
def test_two_rollouts_never_fight_over_a_device(wanted, stores, seed):
    # One offer at a time, and no older one where a newer one is or may be: the world checks it at each poll.
    lived(twins(wanted), stores, seed)
    world = lived(twins(wanted), stores, seed, person=False)
    for kind in (Offer, Revert):  # once each at most: nothing goes to and fro
        sent = Counter((each.deployment, each.device) for _, each in world.log if isinstance(each, kind))
        assert max(sent.values(), default=0) <= 1


@some
@given(deployments, fleets, st.integers(0, 1000), st.integers(1, 40))
def test_who_joins_later_gets_it_too_and_moves_nobody(wanted, stores, seed, more):
    world = World(stores, lambda name, deployment: GOOD, seed)
    rollout = world.deploy(wanted)
    world.run(DAY_S / 4)
    before = {name: rollout[name].wave for name in rollout.devices}
    offered = world.reached["d1"]
    late = [f"late-{index}" for index in range(more)]
    rollout.join([Device(name) for name in late], world.now_s, world.dice.random)
    world.stores |= {name: Store(name) for name in late}
    world.run(HOUR_S)
    assert {name: rollout[name].wave for name in before} == before
    assert len(rollout.devices) == len(before) + more
    if rollout.head.phase is Phase.COMPLETED and wanted.window is None and wanted.pace.jitter_s == 0:
        assert offered & set(late)


@settings(max_examples=200, deadline=None)
@given(
    deployments,
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(Outcome), st.sampled_from([0.0, 1.0, 600.0, 10_000.0])),
        max_size=120,
    ),
)
def test_no_report_in_any_order_breaks_the_books(wanted, reports):
    rollout = Rollout(wanted)
    rollout.join([Device(f"s{index}", size_bytes=1000) for index in range(10)], START_S, lambda: 0.5)
    now_s, sent, bad = START_S, Counter(), 0
    for index, outcome, wait_s in reports:
        now_s += wait_s
        rollout.report(f"s{index}", outcome, now_s)
        for action in rollout.poll(now_s):
            if isinstance(action, Offer):
                assert rollout[action.device].standing is Standing.OFFERED
                sent[action.device] += 1
            bad += isinstance(action, Halt)
        counted = Tally(len(wanted.waves))
        for name in rollout.devices:
            counted.change(None, rollout[name])
        for wave in range(len(wanted.waves)):
            assert +rollout.tally[wave].standings == +counted[wave].standings
            for count in ("size", "forgiven", "due", "under_way", "blocked", "absent", "away"):
                assert getattr(rollout.tally[wave], count) == getattr(counted[wave], count)
        assert rollout.tally.until(len(wanted.waves) - 1).busy <= wanted.pace.max_concurrent
        wake_s = rollout.wake_at()
        assert wake_s is None or wake_s > now_s
    assert max(sent.values(), default=0) <= 1
    assert bad <= 1


def test_a_slow_leak_halts_before_everybody_has_it():
    world = World(fleet(1000, never=0, half=0), mixture(3, (85, 15, 0, 0)))
    world.deploy(deployment(pace=Pace(soak_s=600, max_concurrent=50)))
    world.run(DAY_S)
    assert world.halts("d1")
    assert len(world.reached["d1"]) < 500


def test_stores_that_are_closed_at_night_are_not_taken_for_vanished():
    world = World(fleet(400, half=1, never=0), lambda name, deployment: Manner(after_s=60))
    world.deploy(deployment(pace=Pace(soak_s=6 * HOUR_S, timeout_s=13 * HOUR_S)))
    world.run(6 * DAY_S)
    assert not world.halts("d1")
    assert world.standings("d1") == {Standing.SUCCEEDED: 400}
