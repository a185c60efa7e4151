"""Two managers on one PostgreSQL, or one on either database, asked the same things at the same time."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cloud_fallback.fleet.api.app import make_app
from cloud_fallback.fleet.database.connection import open_database
from tests.simulators.fleet_api import NotingOperator, Site, csr_for, error_of, manager_on, site_in
from tests.simulators.postgres import BIN, new_database, postgres

WITHOUT = pytest.mark.skipif(BIN is None, reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as base:
        yield base


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=WITHOUT)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    url = "sqlite:///fleet.db"
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("server"))
    with site_in(tmp_path / "fleet", url) as made:
        yield made


@pytest.fixture
def clients(site: Site) -> Iterator[list[TestClient]]:
    """One of each of two managers."""
    database = open_database(site.settings.database)
    second = make_app(manager_on(site.settings, database, NotingOperator(), site.now_s))
    headers = site.headers("admin")
    yield [TestClient(app, headers=headers, raise_server_exceptions=False) for app in (site.app, second)]
    database.close()


def test_one_token_lets_one_device_in(clients: list[TestClient]) -> None:
    token = clients[0].post("/v1/enrolments", json={}).json()["token"]

    def ask(number: int) -> int:
        body = {"token": token, "device": f"till-{number}", "profile": "p", "agent": "0.1", "csr": csr_for()}
        return clients[number % 2].post("/v1/enrol", json=body).status_code

    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(ask, number) for number in range(10)]
        assert sorted(each.result() for each in asked) == [200] + [401] * 9
    assert len(clients[1].get("/v1/devices").json()["devices"]) == 1
    assert clients[0].get("/v1/audit/verify").json()["ok"]


def test_one_id_makes_one_deployment(site: Site, clients: list[TestClient]) -> None:
    path = site.publish("people", 1, b"a model")
    clients[0].put(f"/v1/artifacts/{path}", content=b"a model")
    # What one manager took, the other one knows.
    assert clients[1].post("/v1/releases", json={"target": path}).status_code == 201
    body = {"id": "spring", "name": "people", "version": "1.0.0"}

    def ask(number: int) -> tuple[int, str]:
        answer = clients[number % 2].post("/v1/deployments", json=body)
        return answer.status_code, answer.text

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, number) for number in range(6)]
        found = sorted(each.result() for each in asked)
    assert [status for status, _ in found] == [201] + [409] * 5, found
    actions = [each["action"] for each in clients[0].get("/v1/audit").json()["audit"]]
    assert actions.count("deployment.create") == 1


@pytest.mark.parametrize("text", ["half \ud83d", "nul \x00"])
def test_texts_that_databases_do_not_take(clients: list[TestClient], text: str) -> None:
    content: Any = json.dumps({"name": text, "role": "viewer"})
    answer = clients[0].post("/v1/tokens", content=content)
    if answer.status_code != 201:  # SQLite keeps U+0000
        assert (answer.status_code, error_of(answer)["code"]) == (400, "malformed")
