"""What makes a device count as worse off with a version, and what does not."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet import wellness
from cloud_fallback.fleet.bus import Heard
from cloud_fallback.fleet.database import devices
from cloud_fallback.fleet.simulation.behaviour import Manner
from edge_runtime.contract.fleet import Have, Health, Reported
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


@pytest.mark.parametrize(
    ("before", "after", "is_worse"),
    [
        (Health(fps=20), Health(fps=10), True),
        (Health(fps=20, fps_asked=20), Health(fps=9.9, fps_asked=10), False),  # as the settings want it
        (Health(fps=20, fps_asked=20), Health(fps=6, fps_asked=10), True),
        (Health(fps=8, fps_asked=20), Health(fps=4, fps_asked=10), False),  # it never reached what was asked
        (Health(fps=10, fps_asked=10), Health(fps=12, fps_asked=25), False),  # more was asked than it can do
        (Health(fps=10, fps_asked=10), Health(fps=6, fps_asked=25), True),
        (Health(fps=30), Health(fps=5, fps_asked=5), False),
        (Health(fps=30), Health(fps=3, fps_asked=5), True),
        (Health(fps=20, cameras=2, cameras_online=2), Health(fps=10, cameras=1, cameras_online=1), False),
        (Health(fps=10, fps_asked=10), Health(fps=9, fps_asked=0), False),
        (Health(fps=10, fps_asked=0), Health(fps=2, fps_asked=0), True),
    ],
)
def test_pictures_a_second_are_held_against_what_is_asked_for(
    before: Health, after: Health, is_worse: bool
) -> None:
    assert (wellness.worse(before, after) is not None) is is_worse


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
