"""A release that is withdrawn: nobody gets it any more, those who have it keep it, and everybody is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from cloud_fallback.fleet.cli import app
from cloud_fallback.fleet.database import audit, deployments, devices, metadata, releases, tables
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.trust.publishing import publish
from cloud_fallback.fleet.trust.withdrawing import withdraw
from cloud_fallback.fleet.upkeep import Upkeep
from edge_runtime.contract.errors import InputError
from edge_runtime.contract.update import Failure, UpdateFailedError
from tests.simulators.fleet_api import Site, error_of, listening, site_in
from tests.simulators.fleet_desk import Desk
from tests.simulators.manager_databases import KINDS, opened
from tests.simulators.operator_desk import FAST, NAMES, close_all, deploy, desk
from tests.simulators.small_manager import SmallManager
from tests.simulators.trust import NOW_S, Fleet
from tests.unit.test_publishing import labels


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path / "fleet") as made:
        yield made


def take_away(made: Desk, version: str) -> list[str]:
    with made.database.begin() as tx:
        releases.withdraw(tx, "model", "detector", version, "anna", "it counts twice", made.now_s)
        release = releases.must_find(tx, "model", "detector", version)
        halted = deployments.halt_all(tx, release, reason="withdrawn", who="anna", now_s=made.now_s)
    made.operator.nudge()
    return halted


def test_rollouts_of_it_halt_and_there_is_no_new_one(database: Database) -> None:
    made = desk(database, NAMES[:8])
    deploy(made, "one", "good-1", "completed")
    made.deploy("three", "good-3", waves=[{"share": 0.5}, {"share": 1.0}], pace=FAST)
    made.run(300)
    running = made.view("three")
    assert running.phase in {"running", "soaking"} and running.reached
    made.deploy("not-begun", "good-3", pace=FAST)
    assert take_away(made, "good-3") == ["three", "not-begun"]
    made.run(7200)
    assert [made.view(id_).phase for id_ in ("three", "not-begun", "one")] == [
        "halted",
        "halted",
        "completed",
    ]
    assert made.view("three").reason == "withdrawn" and made.view("three").reached == running.reached
    with pytest.raises(ConflictError, match="anna withdrew") as refused:
        made.deploy("again", "good-3")
    assert refused.value.code == "release-withdrawn"
    with pytest.raises(ConflictError, match="it counts twice"):
        made.ask("three", "resume")
    assert take_away(made, "good-3") == []  # again changes nothing
    made.ask("three", "revert")
    made.run(7200, until=lambda: made.view("three").phase == "reverted")
    assert set(made.versions().values()) == {"good-1"}


def test_no_way_back_leads_to_it(database: Database) -> None:
    made = desk(database, NAMES[:4])
    made.release("good-5", 5)
    for id_, version in (("one", "good-1"), ("three", "good-3"), ("five", "good-5")):
        deploy(made, id_, version, "completed")
    assert take_away(made, "good-3") == ["three"]
    made.run(60)
    with database.read() as tx:
        gone, kept = (releases.must_find(tx, "model", "detector", each) for each in ("good-3", "good-5"))
        assert (devices.having(tx, gone), devices.having(tx, kept)) == (0, 4)
    made.ask("five", "revert")
    made.run(7200, until=lambda: made.view("five").phase == "reverted")
    assert set(made.versions().values()) == {"good-1"}


def test_what_is_not_there_cannot_be_withdrawn(database: Database) -> None:
    with database.begin() as tx, pytest.raises(NotThereError):
        releases.withdraw(tx, "model", "detector", "9", "anna", "", 1.0)


def test_the_api_withdraws_and_says_what_that_did(site: Site) -> None:
    client = site.client("operator")
    path = site.publish("people", 1, b"a model")
    client.put(f"/v1/artifacts/{path}", content=b"a model")
    client.post("/v1/releases", json={"target": path}).raise_for_status()
    client.post("/v1/deployments", json={"id": "one", "name": "people", "version": "1.0.0"})
    body = {"name": "people", "version": "1.0.0", "reason": "it counts twice"}
    assert site.client("viewer").post("/v1/releases/withdraw", json=body).status_code == 403
    done = client.post("/v1/releases/withdraw", json=body).json()
    assert done["halted"] == ["one"] and done["devices"] == 0
    assert (done["release"]["withdrawn_by"], done["release"]["withdrawn_reason"]) == (
        "operator",
        body["reason"],
    )
    listed = client.get("/v1/releases").json()["releases"]
    assert listed[0]["withdrawn_at"] == done["release"]["withdrawn_at"] is not None
    refused = client.post("/v1/deployments", json={"name": "people", "version": "1.0.0"})
    assert (refused.status_code, error_of(refused)["code"]) == (409, "release-withdrawn")
    client.post("/v1/releases/withdraw", json=body).raise_for_status()
    with site.manager.database.read() as tx:
        lines = [(each.action, each.subject) for each in audit.listing(tx)]
    assert lines.count(("release.withdraw", path)) == 1
    assert ("deployment.halt", "one") in lines
    nobody = client.post("/v1/releases/withdraw", json={"name": "people", "version": "2"})
    assert (nobody.status_code, error_of(nobody)["code"]) == (404, "not-there")
    published = TestClient(site.app, headers=site.headers("operator")).post(
        "/v1/releases", json={"target": path}
    )
    assert published.json()["withdrawn_at"] is not None  # publishing it again brings nothing back


def test_the_command(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client("operator")
    path = site.publish("people", 1, b"a model")
    client.put(f"/v1/artifacts/{path}", content=b"a model")
    client.post("/v1/releases", json={"target": path}).raise_for_status()
    client.post("/v1/deployments", json={"id": "one", "name": "people", "version": "1.0.0"})
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    with listening(site.app) as url:
        where = ["--manager", url, "--token", site.tokens["operator"]]
        assert "NAME@VERSION" in runner.invoke(app, ["withdraw", "people", *where]).stderr
        shown = runner.invoke(app, ["withdraw", "people@1.0.0", "-m", "it counts twice", *where])
        assert shown.exit_code == 0, shown.output
        assert "people 1.0.0: withdrawn" in shown.stdout and "halts: one" in shown.stdout
        assert "Signed metadata still lists it" in shown.stdout
        key = site.folder / "keys" / "model.people.pem"
        done = runner.invoke(app, ["withdraw", "people@1.0.0", "--key", str(key), *where, "--json"])
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        assert said["unsigned"] and said["release"]["withdrawn_reason"] == "it counts twice"
        assert site.manager.repository.target(path) is None
        assert "withdrawn by operator" in runner.invoke(app, ["releases", *where]).stdout
        refused = runner.invoke(app, ["deploy", "people", "--to", "all", *where])
        assert refused.exit_code == 4 and "not withdrawn" in refused.stderr
        again = runner.invoke(app, ["deploy", "people@1.0.0", "--to", "all", *where])
        assert again.exit_code != 0 and "it counts twice" in again.stderr


def test_signed_metadata_no_longer_lists_it(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    manager = SmallManager(fleet.repository, NOW_S)
    done = [
        publish(labels(tmp_path / "new", number), [fleet.family], manager, NOW_S, work=tmp_path / "work")
        for number in (1, 2, 3)
    ]
    middle = done[1]
    assert middle.patches and len(done[2].patches) == 2
    release = ("labels", "detector", "2.0")
    assert withdraw(release, [fleet.family], manager, NOW_S)
    assert not withdraw(release, [fleet.family], manager, NOW_S)
    repository = fleet.repository
    assert repository.target(middle.target) is None
    assert all(repository.target(each.target) is None for each in middle.patches)
    # Who has it can still go on from it, and nobody can be sent back to it.
    assert {each.base_sha256 for each in repository.deltas(done[2].target)} == {
        each.sha256 for each in (done[0], middle)
    }
    with pytest.raises(UpdateFailedError) as refused:
        repository.revert("labels", "detector", middle.target, 9, NOW_S)
    assert refused.value.code is Failure.TARGET_UNKNOWN
    manager.gone = frozenset({"2.0"})
    with pytest.raises(InputError, match="was withdrawn"):
        publish(labels(tmp_path / "new", 2), [fleet.family], manager, NOW_S, work=tmp_path / "work")
    assert repository.target(middle.target) is None


def test_superseded_metadata_is_thrown_away_and_roots_are_not(site: Site) -> None:
    repository, database = site.manager.repository, site.manager.database
    for _ in range(30):
        site.now_s[0] += 60
        assert repository.refresh(site.now_s[0], anyway=True)
    with database.begin() as tx:
        before = {
            name for (name,) in tx.execute(tables.files.select().with_only_columns(tables.files.c.name))
        }
        assert metadata.prune(tx, site.now_s[0]) == 0  # all are fresh
    site.now_s[0] += 1.1 * 86_400
    Upkeep(site.manager, refresh_s=60).step(0.0)
    with database.read() as tx:
        after = {name for (name,) in tx.execute(tables.files.select().with_only_columns(tables.files.c.name))}
    assert len([name for name in before if name.endswith(".snapshot.json")]) > 30
    assert len([name for name in after if name.endswith(".snapshot.json")]) <= 11
    assert {"1.root.json", "timestamp.json"} <= after
    fresh = site.client("viewer")
    for role in ("root", "targets", "snapshot", "timestamp"):
        assert fresh.get(f"/v1/metadata/{role}").status_code == 200
    assert repository.refresh(site.now_s[0], anyway=True)
