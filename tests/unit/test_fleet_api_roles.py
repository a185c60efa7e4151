"""Who may do what: every route of the API by every role, and what becomes of failed logins."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cloud_fallback.fleet.api.attempts import Attempts
from edge_runtime.contract.errors import QuotaError
from tests.simulators.fleet_api import Site, enrol, error_of, site_in

RANKS = ("anybody", "device", "viewer", "operator", "admin")
LEAST = {
    "GET /healthz": "anybody",
    "GET /readyz": "anybody",
    "GET /tuf/{file}": "anybody",
    "POST /v1/enrol": "anybody",
    "GET /artifacts/{target}": "device",
    "GET /metrics": "viewer",
    "GET /v1/audit": "viewer",
    "GET /v1/audit/verify": "viewer",
    "GET /v1/deployments": "viewer",
    "GET /v1/deployments/{id}": "viewer",
    "GET /v1/deployments/{id}/devices": "viewer",
    "GET /v1/devices": "viewer",
    "GET /v1/devices/{name}": "viewer",
    "GET /v1/events": "viewer",
    "GET /v1/metadata/{role}": "viewer",
    "GET /v1/overview": "viewer",
    "GET /v1/releases": "viewer",
    "GET /v1/watch": "viewer",
    "PATCH /v1/devices/{name}": "operator",
    "POST /v1/deployments": "operator",
    "POST /v1/deployments/{id}/{move}": "operator",
    "POST /v1/devices/{name}/commands": "operator",
    "POST /v1/enrolments": "operator",
    "POST /v1/releases": "operator",
    "POST /v1/releases/withdraw": "operator",
    "PUT /v1/artifacts/{target}": "operator",
    "PUT /v1/metadata/{role}": "operator",
    "DELETE /v1/devices/{name}": "admin",
    "DELETE /v1/tokens/{id}": "admin",
    "GET /v1/tokens": "admin",
    "POST /v1/tokens": "admin",
}
"""Route -> the least role that is let in. `POST /v1/renew` is for devices only."""
BODIES: dict[str, object] = {
    "PATCH /v1/devices/{name}": {},
    "POST /v1/deployments": {"name": "people", "version": "1"},
    "POST /v1/deployments/{id}/{move}": {},
    "POST /v1/devices/{name}/commands": {"name": "report"},
    "POST /v1/enrolments": {},
    "POST /v1/releases": {"target": "model/people/1-1.zip"},
    "POST /v1/releases/withdraw": {"name": "people", "version": "1"},
    "POST /v1/tokens": {"name": "t", "role": "viewer"},
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path / "fleet") as made:
        yield made


def test_every_route_is_in_the_table(site: Site) -> None:
    there = {
        f"{method.upper()} {path}" for path, ways in site.app.openapi()["paths"].items() for method in ways
    }
    assert there == {*LEAST, "POST /v1/renew", "GET /v1/device"}


def test_every_route_is_on_its_page_with_its_role(repository: Path) -> None:
    page = (repository / "docs/reference/manager-api.md").read_text("utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    for route, least in LEAST.items():
        method, path = route.split(" ")
        found = [row for row in rows if f"{path}`" in row[1] and method in row[1]]
        assert found, route
        role = {"anybody": "–", "device": "device, or any"}.get(least, least)
        assert role in found[0][2] or route == "POST /v1/enrol", route


def test_every_route_by_every_role(site: Site) -> None:
    site.tokens["device"] = enrol(site, "till-7")["device_token"]
    site.manager.stopping.set()  # so that the stream of changes ends
    places = {"{file}": "timestamp.json", "{target}": "model/people/1-1.zip", "{id}": "9", "{name}": "nobody"}
    places |= {"{move}": "pause", "{role}": "timestamp"}
    for route, least in LEAST.items():
        method, path = route.split(" ")
        for place, value in places.items():
            path = path.replace(place, value)
        for rank in RANKS:
            client = site.client(None if rank == "anybody" else rank)
            status = client.request(method, path, json=BODIES.get(route)).status_code
            if RANKS.index(rank) >= RANKS.index(least):
                assert status not in {401, 403, 500}, (route, rank, status)
            else:
                assert status == (401 if rank == "anybody" else 403), (route, rank, status)


def test_a_certificate_is_renewed_for_devices_only(site: Site) -> None:
    for role in ("viewer", "operator", "admin"):
        assert site.client(role).post("/v1/renew", json={}).status_code == 403


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer fleet_no", "Bearer device_no", "Bearer \x80\xff"]
)
def test_a_bad_token_is_nobodys(site: Site, header: str) -> None:
    client = TestClient(site.app, headers={"authorization": header.encode("latin-1")})
    answer = client.get("/v1/overview")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert error_of(answer)["code"] == "unauthorized"


def test_tokens_are_made_expire_and_are_taken_back(site: Site) -> None:
    admin = site.client("admin")
    made = admin.post("/v1/tokens", json={"name": "ci", "role": "operator", "expires_s": 60}).json()
    site.tokens["ci"] = made["token"]
    assert site.client("ci").get("/v1/overview").status_code == 200
    site.now_s[0] += 61
    assert site.client("ci").get("/v1/overview").status_code == 401
    site.tokens["second"] = admin.post("/v1/tokens", json={"name": "b", "role": "admin"}).json()["token"]
    listed = admin.get("/v1/tokens").json()["tokens"]
    assert not any(site.tokens["second"] in str(each) for each in listed)
    ids = {each["name"]: each["id"] for each in listed}
    assert site.client("second").delete(f"/v1/tokens/{ids['b']}").status_code == 204
    assert site.client("second").get("/v1/overview").status_code == 401
    last = admin.delete(f"/v1/tokens/{ids['admin']}")
    assert (last.status_code, error_of(last)["code"]) == (409, "last-admin")
    assert error_of(admin.delete("/v1/tokens/999"))["code"] == "not-there"


def test_too_many_failed_logins_have_to_wait_and_good_tokens_still_come_in(site: Site) -> None:
    client = TestClient(site.app)
    found = [client.get("/v1/overview").status_code for _ in range(35)]
    assert (found[0], found[-1]) == (401, 429)
    assert int(client.get("/v1/overview").headers["retry-after"]) >= 1
    assert site.client("viewer").get("/v1/overview").status_code == 200


def test_failures_are_forgotten_in_time_and_counted_by_network() -> None:
    attempts = Attempts(most=2, within_s=10)
    attempts.failed("2001:db8::1", 0.0)
    attempts.failed("2001:db8::2", 1.0)
    with pytest.raises(QuotaError):
        attempts.failed("2001:db8::3", 2.0)
    attempts.failed("10.0.0.1", 2.0)
    attempts.failed("2001:db8::3", 10.5)
