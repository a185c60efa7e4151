"""The operator and devices in virtual time: what rollouts send, and what is not believed."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet.bus import Heard
from cloud_fallback.fleet.database import audit, deployments, devices, events
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.simulation.behaviour import Pace
from cloud_fallback.fleet.views import DevicePatch
from edge_runtime.contract.fleet import Desired, Have
from edge_runtime.contract.update import State
from tests.simulators.fleet_desk import TENANT
from tests.simulators.manager_databases import KINDS, opened
from tests.simulators.operator_desk import FAST, close_all, deploy, desk, reported


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with opened("sqlite", tmp_path) as found:
        yield found


def test_a_good_release_reaches_all_and_a_bad_one_stops_at_the_canary(database: Database) -> None:
    made = desk(database)
    deploy(made, "one", "good-1", "completed")
    assert set(made.versions().values()) == {"good-1"}
    deploy(made, "two", "fails-2", "reverted")
    view = made.view("two")
    assert (view.reached, view.failed, view.wave) == (2, 2, 0)
    assert view.reason is not None and view.reason.startswith("whole-wave")
    assert set(made.versions().values()) == {"good-1"}
    with database.read() as tx:
        assert audit.verify(tx) is None
        actions = [each.action for each in audit.listing(tx)]
        assert actions == [*["rollout.wave-opened"] * 3, "rollout.completed", "rollout.wave-opened",
                           "rollout.halted", "rollout.reverted"]  # fmt: skip
        codes = Counter(each.code for each in events.listing(tx, deployment="two"))
        assert codes["halted"] == 1 and codes["not-a-number"] == 4  # as each said, and as it was counted
        failed = deployments.devices_of(tx, "two", "failed")
        assert [each.detail for each in failed] == ["12 outputs are not numbers"] * 2


def test_those_that_took_a_version_are_sent_back_by_a_signed_way(database: Database) -> None:
    made = desk(database)
    deploy(made, "one", "good-1", "completed")
    deploy(made, "three", "good-3", "completed")
    made.ask("three", "revert")
    made.run(3600, until=lambda: made.view("three").phase == "reverted")
    assert set(made.versions().values()) == {"good-1"}
    assert made.notary.signed == {"reverts/model/detector/4": ("model/detector/1-good-1.zip", 4)}
    back = [wanted for _, _, wanted in made.heard if wanted.deployment == "three--back"]
    assert len(back) == 40 and {each.counter for each in back} == {4}
    assert {each.trial.shadow_s for each in back} == {0.0}


def test_with_nothing_to_go_back_to_devices_are_told_to_remove(database: Database) -> None:
    made = desk(database)
    deploy(made, "one", "good-1", "completed")
    made.ask("one", "revert")
    made.run(3600, until=lambda: made.view("one").phase == "reverted")
    assert set(made.versions().values()) == {None}
    told = Desired.model_validate_json(made.bus.retained[f"v1/{TENANT}/d/d00/desired"])
    assert told.wanted == () and [(each.kind, each.name) for each in told.removed] == [("model", "detector")]


def test_a_bad_version_after_a_bad_one_goes_back_to_the_last_good_one(sqlite: Database) -> None:
    made = desk(sqlite, pace=Pace(after_s=30.0, report_every_s=60.0))
    made.release("regresses-4", 4)
    made.release("regresses-5", 5)
    deploy(made, "one", "good-1", "completed")
    for id_, version in (("four", "regresses-4"), ("five", "regresses-5")):
        deploy(made, id_, version, "reverted")
        assert made.view(id_).failed == 0  # reverted ones are no longer counted as regressed
        with sqlite.read() as tx:
            assert [each.standing for each in deployments.devices_of(tx, id_, "reverted")] == ["reverted"] * 2
            said = [each.text for each in events.listing(tx, deployment=id_) if "regressed" in each.code]
        assert said == ["0 cameras online, 2 before"] * 2
    assert set(made.versions().values()) == {"good-1"}


def test_silent_devices_time_out_and_are_told_to_go_back(sqlite: Database) -> None:
    made = desk(sqlite)
    made.release("silent-4", 4)
    deploy(made, "one", "good-1", "completed")
    deploy(made, "four", "silent-4", "reverted")
    view = made.view("four")
    assert view.reached == 2 and view.reason is not None and "2 timed-out" in view.reason
    assert {w.deployment for _, _, w in made.heard if w.counter > 4} == {"four--back"}


def test_a_resumed_rollout_offers_again_under_another_errand(sqlite: Database) -> None:
    made = desk(sqlite)
    slow = {"waves": [{"share": 0.5}, {"share": 1.0}], "pace": {**FAST, "max_concurrent": 4}}
    made.deploy("one", "good-1", **slow, on_halt="keep")
    made.run(100)
    made.ask("one", "halt")
    made.run(600)
    assert made.view("one").phase == "halted"
    withdrawn = [name for name, version in made.versions().items() if version is None]
    assert withdrawn
    made.ask("one", "resume")
    made.run(3600, until=lambda: made.view("one").phase == "completed")
    assert set(made.versions().values()) == {"good-1"}
    assert "one--2" in {wanted.deployment for _, _, wanted in made.heard}


def test_offline_devices_get_the_newest_good_one_when_they_are_back(sqlite: Database) -> None:
    made = desk(sqlite)
    made.disconnect("d07")
    for id_, version in (("one", "good-1"), ("three", "good-3")):
        deploy(made, id_, version, "completed")
    made.connect("d07")
    made.run(600)
    assert made.versions()["d07"] == "good-3"
    assert [wanted.version for _, name, wanted in made.heard if name == "d07"] == ["good-3"]


def test_devices_that_come_later_join(sqlite: Database) -> None:
    made = desk(sqlite)
    made.deploy("one", "good-1", pace=FAST, selector="region=west")
    made.run(60)
    assert made.view("one").phase == "running" and not made.view("one").waves[0].devices
    made.enrol("new", region="west")
    made.connect("new")
    with sqlite.begin() as tx:
        devices.change(tx, "d03", DevicePatch(labels={"region": "west"}), made.now_s)
    made.operator.nudge()
    made.run(3600, until=lambda: made.view("one").phase == "completed")
    versions = made.versions()
    assert {name for name, version in versions.items() if version} == {"new", "d03"}


def test_a_revoked_device_is_left_out(sqlite: Database) -> None:
    made = desk(sqlite)
    made.deploy("one", "good-1", pace=FAST)
    made.run(60)
    with sqlite.begin() as tx:
        waiting = next(each.device for each in deployments.devices_of(tx, "one", "waiting"))
        devices.revoke(tx, waiting, made.now_s)
    made.online.discard(waiting)
    made.run(6 * 3600, until=lambda: made.view("one").phase == "completed")
    with sqlite.read() as tx:
        assert [each.device for each in deployments.devices_of(tx, "one", "left")] == [waiting]


def test_a_reinstalled_device_gets_back_what_it_should_have(sqlite: Database) -> None:
    made = desk(sqlite)
    deploy(made, "one", "good-1", "completed")
    made.disconnect("d05")
    made.step()
    made.enrol("d05")
    made.devices["d05"]._seq = -(10**13)  # its numbers begin anew
    made.connect("d05")
    made.run(300)
    assert made.versions()["d05"] == "good-1"


def test_what_a_device_no_longer_runs_is_not_believed(sqlite: Database) -> None:
    made = desk(sqlite)
    deploy(made, "one", "good-1", "completed")
    gone = Have(name="detector", sha256=None, state=State.COMMITTED, deployment="one")
    made.mail.append(reported(made, "d01", gone))
    made.step()
    with sqlite.read() as tx:
        assert [each.device for each in deployments.devices_of(tx, "one", "failed")] == ["d01"]


def test_late_and_duplicated_reports_change_nothing(sqlite: Database) -> None:
    made = desk(sqlite)
    made.deploy("one", "good-1", pace=FAST)
    kept: list[Heard] = []
    for _ in range(400):
        kept += made.mail
        made.mail += kept[-5:]  # everything comes again, and out of order
        made.run(30)
        if made.view("one").phase == "completed":
            break
    before = made.view("one")
    made.mail += kept
    made.step()
    assert made.view("one").waves == before.waves
    assert before.phase == "completed" and set(made.versions().values()) == {"good-1"}
