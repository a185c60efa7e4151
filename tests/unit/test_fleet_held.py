"""Devices that a rollout may not have: which rollout has them, and that everybody who looks is told so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet.arbiter import Claim, holder
from cloud_fallback.fleet.cli.deployments import show_deployment, show_deployments
from cloud_fallback.fleet.cli.screen import console
from cloud_fallback.fleet.cli.watch import line
from cloud_fallback.fleet.database import deployments
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.standing import Standing
from tests.simulators.manager_databases import KINDS, opened
from tests.simulators.operator_desk import FAST, NAMES, close_all, deploy, desk


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


def held(database: Database, id_: str) -> dict[str, str]:
    with database.read() as tx:
        return {each.device: each.held for each in deployments.devices_of(tx, id_, held=True)}


def test_a_lower_counter_waits_and_says_for_what(database: Database) -> None:
    made = desk(database, NAMES[:4])
    deploy(made, "newer", "good-3", "completed")
    made.deploy("older", "good-1", pace=FAST)
    made.run(600)
    view = made.view("older")
    assert (view.phase, view.held, view.reached) == ("running", 4, 0)
    assert sum(wave.held for wave in view.waves) == 4
    why = "it has, or may have, detector good-3 of newer, which is newer"
    assert held(database, "older") == dict.fromkeys(NAMES[:4], why)
    assert held(database, "newer") == {}
    with database.read() as tx:
        everybody = deployments.devices_of(tx, "older")
        assert {each.held for each in everybody} == {why} and all(each.blocked for each in everybody)
        assert not any(each.blocked or each.held for each in deployments.devices_of(tx, "newer"))
    made.ask("newer", "revert")
    made.run(3600, until=lambda: made.view("older").phase == "completed")
    assert made.view("older").held == 0 and held(database, "older") == {}
    assert set(made.versions().values()) == {"good-1"}


def test_a_device_under_way_elsewhere_is_held_by_that(database: Database) -> None:
    made = desk(database, NAMES[:4])
    made.release("good-1", 1, name="reader")
    made.deploy("one", "good-3", waves=[{"share": 1.0}], pace=FAST)
    made.run(5)
    made.deploy("two", "good-1", name="reader", waves=[{"share": 1.0}], pace=FAST)
    made.run(1)
    assert set(held(database, "two").values()) == {"it is under way in one (detector good-3)"}
    made.run(3600, until=lambda: made.view("two").phase == "completed")
    assert made.view("two").held == 0


def test_the_newest_of_those_that_come_first_is_named() -> None:
    bundle = ("model", "detector")
    claims = [
        Claim("old", bundle, (1, 0), live=True, standing=Standing.WAITING),
        Claim("newer", bundle, (2, 1), live=True, standing=Standing.WAITING),
        Claim("newest", bundle, (3, 2), live=True, standing=Standing.WAITING),
        Claim("other", ("model", "reader"), (9, 3), live=True, standing=Standing.WAITING),
    ]
    found = holder(claims, "old")
    assert found is not None and found.rollout == "newest"
    assert holder(claims, "newest") is None and holder(claims, "other") is None


def test_people_see_it(database: Database) -> None:
    made = desk(database, NAMES[:4])
    deploy(made, "newer", "good-3", "completed")
    made.deploy("older", "good-1", pace=FAST)
    made.run(600)
    view = made.view("older")
    with database.read() as tx:
        members = deployments.devices_of(tx, "older", held=True)
    screen = console(as_json=False)
    screen.width = 200
    with screen.capture() as shown:
        show_deployment(view, members, screen)
        show_deployments([view], screen)
    text = shown.get()
    assert "d00: waiting since" in text and "detector good-3 of newer, which is newer" in text
    assert "4 devices held by other rollouts" in text
    assert line(view).endswith("4 held by other rollouts")
