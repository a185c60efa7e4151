"""What makes a device count as worse off with a version, and what does not."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet.bus import Heard
from cloud_fallback.fleet.database import devices
from cloud_fallback.fleet.simulation.behaviour import Manner
from edge_runtime.contract.fleet import Have, Reported
from edge_runtime.contract.update import State
from edge_runtime.fleet.parsing import encode
from tests.simulators.fleet_desk import TENANT, Desk
from tests.simulators.manager_databases import opened

DEVICE = "d0"
SEQS = itertools.count(10**15)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """One device that has taken a version well a moment ago."""
    with opened("sqlite", tmp_path) as database:
        made = Desk(database, [DEVICE], manner=lambda *_: Manner.GOOD)
        made.release("good-1", 1)
        made.deploy("one", "good-1", selector="all", on_halt="keep", pace={"soak_s": 3600, "timeout_s": 7200})
        made.run(1800, until=lambda: made.view("one").waves[0].standings.get("succeeded") == 1)
        yield made
        made.close()


def say(made: Desk, fps: float, after_s: float, *, state: State = State.COMMITTED) -> None:
    """Have the device report; in another state, of an update of something else."""
    made.now_s += after_s
    with made.database.read() as tx:
        known = devices.must_find(tx, DEVICE)
    has = [each for each in known.have if each.kind == "model"]
    if state is not State.COMMITTED:
        has.append(Have(kind="labels", name="detector", state=state, deployment="two"))
    report = Reported(
        seq=next(SEQS), device=DEVICE, desired_seq=known.desired_seq, time="2026-01-01T00:00:00Z",
        profile="store-pc", agent="1.0", have=tuple(has), health=known.health.model_copy(update={"fps": fps}),
    )  # fmt: skip
    made.mail.append(Heard(f"v1/{TENANT}/d/{DEVICE}/reported", encode(report)))
    made.step()


def failed(made: Desk) -> int:
    return made.view("one").failed


def test_two_bad_reports_a_minute_apart(desk: Desk) -> None:
    say(desk, 0.0, 60)
    assert failed(desk) == 0
    say(desk, 0.0, 60)
    assert failed(desk) == 1


def test_a_good_one_between_forgives(desk: Desk) -> None:
    for fps in (0.0, 1000.0, 0.0):
        say(desk, fps, 60)
    assert failed(desk) == 0


def test_reports_of_the_same_minute_are_one(desk: Desk) -> None:
    for _ in range(5):
        say(desk, 0.0, 5)
    assert failed(desk) == 0


def test_a_trial_of_something_else_makes_everything_slower(desk: Desk) -> None:
    for _ in range(3):
        say(desk, 0.0, 60, state=State.TRIAL)
    assert failed(desk) == 0
    say(desk, 0.0, 60, state=State.ROLLED_BACK)
    say(desk, 1000.0, 60, state=State.ROLLED_BACK)
    assert failed(desk) == 0
