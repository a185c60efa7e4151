"""A fleet's history at random, through the real operator and a real database: what must always hold."""

import itertools
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_fallback.fleet import errands
from cloud_fallback.fleet.database import audit, rollouts
from cloud_fallback.fleet.simulation.behaviour import Manner, Pace
from cloud_fallback.fleet.standing import BUSY
from edge_runtime.contract.errors import UpdateError
from edge_runtime.contract.fleet import Wanted
from tests.simulators.fleet_desk import Desk
from tests.simulators.manager_databases import opened

DEVICES = 20
CANARY = 1
"""5 % of 20."""
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([30, 700, 4000, 20_000])),
        st.tuples(st.just("off"), st.integers(0, DEVICES - 1)),
        st.tuples(st.just("on"), st.integers(0, DEVICES - 1)),
        st.tuples(st.just("again"), st.integers(0, DEVICES - 1)),
        st.tuples(st.just("deploy"), st.sampled_from(["good", "fails", "regresses", "silent"])),
        st.tuples(st.just("move"), st.sampled_from(["pause", "resume", "halt", "revert", "cancel"])),
        st.tuples(st.just("kill"), st.just(0)),
    ),
    min_size=3,
    max_size=14,
)


def by_version(device: str, wanted: Wanted) -> Manner:
    return Manner(wanted.version.partition("-")[0])


class History:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.counter = itertools.count(1)
        self.ids: list[str] = []
        self.resumed: set[str] = set()

    def do(self, what: str, value: str | int) -> None:
        desk = self.desk
        names = sorted(desk.devices)
        match what, value:
            case "wait", int(seconds):
                desk.run(float(seconds))
            case "off", int(n):
                if names[n] in desk.online:
                    desk.disconnect(names[n])
            case "on", int(n):
                if names[n] not in desk.online:
                    desk.connect(names[n])
            case "again", int(n):
                desk.online.discard(names[n])
                desk.enrol(names[n])
                desk.connect(names[n])
            case "deploy", str(manner):
                n = max(next(self.counter), desk.notary.next_counter("model", "detector"))
                self.counter = itertools.count(n + 1)
                desk.release(f"{manner}-{n}", n)
                self.ids.append(f"r{n}-{manner}")
                desk.deploy(self.ids[-1], f"{manner}-{n}", pace={"soak_s": 600, "timeout_s": 3600})
            case "move", str(move) if self.ids:
                try:
                    desk.ask(self.ids[-1], move)  # type: ignore[arg-type]
                except UpdateError:
                    return
                if move == "resume":
                    self.resumed.add(self.ids[-1])
            case _:
                desk.replace_manager()
        desk.step()
        self.check()

    def check(self) -> None:
        desk = self.desk
        memory = desk.operator._conductor.rollouts
        busy = Counter(name for each in memory for name in each.devices if each[name].standing in BUSY)
        assert all(count == 1 for count in busy.values())
        with desk.database.read() as tx:
            kept = rollouts.load(tx)
            assert audit.verify(tx) is None
        assert [each.id for each in kept] == [each.id for each in memory]
        for one, other in zip(kept, memory, strict=True):
            assert one.head == other.head
            assert {each.device: each for each in one.state().members} == {
                each.device: each for each in other.state().members
            }
        for id_ in self.ids:
            if not id_.endswith("good") and id_ not in self.resumed:
                told = {
                    name
                    for _, name, wanted in desk.heard
                    if errands.owner(wanted.deployment) == id_ and not errands.is_back(wanted.deployment)
                }
                assert len(told) <= CANARY, f"{id_} reached {told}"


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.integers(0, 99))
def test_any_history(steps: list[tuple[str, str | int]], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, opened("sqlite", Path(folder)) as database:
        desk = Desk(
            database,
            [f"d{n:02}" for n in range(DEVICES)],
            manner=by_version,
            pace=Pace(fetch_s=20.0, trial_s=40.0, after_s=30.0, report_every_s=250.0),
            seed=seed,
        )
        try:
            history = History(desk)
            for what, value in steps:
                history.do(what, value)
        finally:
            desk.close()
