"""The manager's API from publishing to a deployment, on a real SQLite and real metadata."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from cloud_fallback.fleet.api.bounds import Bounds
from cloud_fallback.fleet.watch import Change
from edge_runtime.contract.fleet import Reply
from tests.simulators.fleet_api import Site, enrol, error_of, listening, site_in

MODEL = b"a model" * 1000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path / "fleet") as made:
        yield made


def release(site: Site, counter: int = 1, version: str = "1.0.0", content: bytes = MODEL) -> str:
    path = site.publish("people", counter, content, version)
    operator = site.client("operator")
    assert operator.put(f"/v1/artifacts/{path}", content=content).status_code == 200
    assert operator.post("/v1/releases", json={"target": path}).status_code == 201
    return path


def deploy(site: Site, **more: Any) -> Any:
    body = {"name": "people", "version": "1.0.0", **more}
    return site.client("operator").post("/v1/deployments", json=body)


def test_a_release_is_what_the_metadata_says(site: Site) -> None:
    path = release(site)
    found = site.client("viewer").get("/v1/releases").json()
    assert found["next"] is None
    (one,) = found["releases"]
    assert (one["target"], one["counter"], one["version"], one["size_bytes"]) == (
        path,
        1,
        "1.0.0",
        len(MODEL),
    )
    assert one["published_by"] == "operator"
    assert site.client("operator").post("/v1/releases", json={"target": path}).status_code == 201
    actions = [each["action"] for each in site.client().get("/v1/audit").json()["audit"]]
    assert actions.count("release.publish") == 1


def test_what_is_not_signed_or_not_here_is_no_release(site: Site) -> None:
    operator = site.client("operator")
    unknown = operator.post("/v1/releases", json={"target": "model/people/1-1.0.0.zip"})
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "target-unknown")
    path = site.publish("people", 1, MODEL)
    missing = operator.post("/v1/releases", json={"target": path})
    assert (missing.status_code, error_of(missing)["code"]) == (409, "bytes-missing")
    assert "PUT /v1/artifacts" in error_of(missing)["do"]


def test_metadata_is_taken_only_with_the_right_signature(site: Site) -> None:
    release(site)
    held = site.manager.repository.current("model.people")
    assert held is not None
    operator = site.client("operator")
    again = operator.put("/v1/metadata/model.people", content=held)
    assert (again.status_code, again.json()["role"]) == (200, "model.people")
    forged = json.loads(held)
    forged["signed"]["version"] += 1
    refused = operator.put("/v1/metadata/model.people", content=json.dumps(forged))
    assert (refused.status_code, error_of(refused)["code"]) == (422, "metadata-signature")
    broken = operator.put("/v1/metadata/model.people", content=b"{")
    assert (broken.status_code, error_of(broken)["code"]) == (422, "metadata-malformed")
    own = operator.put("/v1/metadata/timestamp", content=held)
    assert own.status_code == 404
    too_long = operator.put("/v1/metadata/model.people", content=b" " * (6 << 20))
    assert (too_long.status_code, error_of(too_long)["code"]) == (413, "too-large")


def test_tufs_files_are_for_everybody_and_the_numbered_ones_last(site: Site) -> None:
    anybody = TestClient(site.app)
    stamp, root = anybody.get("/tuf/timestamp.json"), anybody.get("/tuf/1.root.json")
    assert (stamp.headers["cache-control"], stamp.json()["signed"]["_type"]) == ("no-cache", "timestamp")
    assert "immutable" in root.headers["cache-control"]
    again = anybody.get("/tuf/timestamp.json", headers={"if-none-match": stamp.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("9.root.json", "..%2fmanager.yaml", "online.pem"):
        assert anybody.get(f"/tuf/{name}").status_code == 404


def test_a_deployment_is_written_down_with_its_line_in_the_log(site: Site) -> None:
    release(site)
    made = deploy(
        site, selector="region=west and profile=store-pc-cpu", window={"start": "22:00", "end": "05:00"}
    )
    assert made.status_code == 201
    view = made.json()
    id_ = view["deployment"]["id"]
    assert view["deployment"]["counter"] == 1 and view["phase"] == "running"
    assert id_.startswith("people-1.0.0-")
    viewer = site.client("viewer")
    assert viewer.get(f"/v1/deployments/{id_}").json() == view
    assert viewer.get("/v1/deployments", params={"active": True}).json()["deployments"] == [view]
    assert viewer.get(f"/v1/deployments/{id_}/devices").json() == {"devices": [], "next": None}
    last = viewer.get("/v1/audit").json()["audit"][-1]
    assert (last["who"], last["action"], last["subject"]) == ("operator", "deployment.create", id_)
    assert viewer.get("/v1/audit/verify").json() == {"ok": True, "broken_at": None}
    assert site.operator.nudges > 0


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"version": "9.9.9"}, 404, "not-there"),
        ({"selector": "region=="}, 400, "input"),
        ({"window": {"start": "25:00", "end": "05:00"}}, 400, "malformed"),
        ({"window": {"start": "01:00", "end": "05:00", "days": [7]}}, 400, "malformed"),
        ({"waves": [{"share": 0.5}]}, 400, "input"),
        ({"waves": [{"share": (place + 1) / 101} for place in range(101)]}, 400, "malformed"),
        ({"trial": {"shadow_s": 7201}}, 400, "malformed"),
        ({"surprise": 1}, 400, "malformed"),
        ({"id": "Not A Name"}, 400, "malformed"),
        ({"id": "a--b"}, 400, "input"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(
    site: Site, more: dict[str, Any], status: int, code: str
) -> None:
    release(site)
    refused = deploy(site, **more)
    assert (refused.status_code, error_of(refused)["code"]) == (status, code)
    assert site.client("viewer").get("/v1/deployments").json()["deployments"] == []


def test_half_a_character_is_no_selector(site: Site) -> None:
    release(site)
    body = b'{"name": "people", "version": "1.0.0", "selector": "region=\\"\\ud800\\""}'
    headers = {"content-type": "application/json"}
    refused = site.client("operator").post("/v1/deployments", content=body, headers=headers)
    assert (refused.status_code, error_of(refused)["code"]) == (400, "input")


def test_ids_of_deployments_are_taken_once(site: Site) -> None:
    release(site)
    assert deploy(site, id="spring").status_code == 201
    taken = deploy(site, id="spring")
    assert (taken.status_code, error_of(taken)["code"]) == (409, "conflict")


def test_moves_are_checked_and_written_down(site: Site) -> None:
    release(site)
    deploy(site, id="spring")
    operator = site.client("operator")
    # Nobody leads here, so that the answer comes before the move is done.
    asked = operator.post("/v1/deployments/spring/halt", json={"reason": "looks odd"})
    assert asked.status_code == 200
    last = operator.get("/v1/audit").json()["audit"][-1]
    assert (last["action"], last["detail"]) == ("deployment.halt", "looks odd")
    wrong = operator.post("/v1/deployments/spring/approve", json={})
    assert (wrong.status_code, error_of(wrong)["code"]) == (409, "phase")
    assert operator.post("/v1/deployments/spring/explode", json={}).status_code == 400
    assert operator.post("/v1/deployments/nothing/halt", json={}).status_code == 404


def test_pages_are_stable(site: Site) -> None:
    for name in ("a", "b", "c", "d", "e"):
        enrol(site, name)
    viewer, seen, after = site.client("viewer"), list[str](), ""
    while after is not None:
        page = viewer.get("/v1/devices", params={"limit": 2, "after": after}).json()
        seen += [each["name"] for each in page["devices"]]
        after = page["next"]
        site.client("admin").delete(f"/v1/devices/{seen[0]}")
    assert seen == ["a", "b", "c", "d", "e"]
    lines, after_n = list[int](), 0
    while after_n is not None:
        page = viewer.get("/v1/audit", params={"limit": 3, "after": after_n}).json()
        lines += [each["n"] for each in page["audit"]]
        after_n = page["next"]
    assert lines == list(range(1, len(lines) + 1))


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=100000", "?surprise=1", "?selector=region%3D%3D", "?state=asleep"]
)
def test_wrong_questions_are_refused(site: Site, query: str) -> None:
    refused = site.client("viewer").get(f"/v1/devices{query}")
    assert refused.status_code == 400 and error_of(refused)


def test_a_device_is_changed_by_its_labels(site: Site) -> None:
    enrol(site, "till-7")
    operator = site.client("operator")
    changed = operator.patch(
        "/v1/devices/till-7", json={"labels": {"region": "west"}, "timezone": "Europe/Berlin"}
    )
    assert changed.json()["labels"] == {"region": "west"}
    found = operator.get("/v1/devices", params={"selector": "region=west"}).json()["devices"]
    assert [each["name"] for each in found] == ["till-7"]
    assert operator.patch("/v1/devices/till-7", json={"timezone": "Mars/Base"}).status_code == 400
    assert operator.patch("/v1/devices/nobody", json={}).status_code == 404
    assert operator.patch("/v1/devices/till-7", json={"name": "till-8"}).status_code == 400


def test_a_command_waits_for_the_device(site: Site) -> None:
    enrol(site, "till-7")
    operator = site.client("operator")
    silent = operator.post("/v1/devices/till-7/commands", json={"name": "report", "timeout_s": 0.1})
    assert (silent.status_code, error_of(silent)["code"]) == (504, "deadline")
    site.operator.answers["till-7"] = Reply(id="x", ok=True, result={"fps": 10})
    answer = operator.post("/v1/devices/till-7/commands", json={"name": "report"}).json()
    assert (answer["ok"], answer["result"]) == (True, {"fps": 10})
    assert operator.post("/v1/devices/till-7/commands", json={"name": "explode"}).status_code == 400
    site.client("admin").delete("/v1/devices/till-7")
    assert operator.post("/v1/devices/till-7/commands", json={"name": "report"}).status_code == 404


def test_the_stream_tells_what_changed_once(site: Site) -> None:
    with listening(site.app) as url:
        with httpx.stream("GET", f"{url}/v1/watch", headers=site.headers("viewer"), timeout=20) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            for change in (Change("device", "till-7"), Change("device", "till-7"), Change("event", "3")):
                site.operator.opened[0].put(change)
            told = [line for line in (next(lines) for _ in range(7)) if line.startswith("data:")]
            assert [json.loads(line[5:]) for line in told] == [
                {"kind": "device", "id": "till-7"},
                {"kind": "event", "id": "3"},
            ]
        site.manager.stopping.set()


def test_probes_and_metrics(site: Site) -> None:
    anybody = TestClient(site.app)
    assert anybody.get("/healthz").json() == {"alive": True}
    assert anybody.get("/readyz").json() == {
        "ready": True,
        "database": "ok",
        "metadata": "ok",
        "broker": "ok",
    }
    site.operator.connected = False
    assert anybody.get("/readyz").json()["broker"] == "not connected"
    enrol(site, "till-7")
    page = site.client("viewer").get("/metrics").text
    assert 'fleet_devices{online="false"} 1.0' in page
    assert 'fleet_request_duration_seconds_count{code="200",method="GET",route="/readyz"} 2.0' in page
    site.now_s[0] += 100 * 86400
    late = anybody.get("/readyz")
    assert late.status_code == 503 and "timestamp" in late.json()["metadata"]


def test_a_body_that_stalls_is_given_up(site: Site) -> None:
    never, sent = asyncio.Event(), list[Any]()
    request = json.dumps({"token": "x" * 20}).encode()

    async def receive() -> Any:
        if not sent:
            sent.append({"type": "http.request"})
            return {"type": "http.request", "body": request[:5], "more_body": True}
        return await never.wait()

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/enrol", "raw_path": b"/v1/enrol", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "app": site.app, "http_version": "1.1",
        "scheme": "http", "server": ("test", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(Bounds(site.app, stall_s=0.01)(scope, receive, send))
    statuses = [event["status"] for event in sent if event["type"] == "http.response.start"]
    assert statuses == [408]


def test_every_error_has_one_form(site: Site) -> None:
    viewer = site.client("viewer")
    for answer, code in (
        (viewer.get("/nothing"), "unknown-route"),
        (viewer.delete("/v1/overview"), "other-method"),
        (viewer.post("/v1/enrol", content=b"{"), "malformed"),
        (viewer.post("/v1/enrol", content=b"x" * (2 << 20)), "too-large"),
        (viewer.post("/v1/enrol", content=iter([b"x" * (1 << 20)] * 2)), "too-large"),
    ):
        assert error_of(answer)["code"] == code
    assert viewer.get("/healthz").headers["x-content-type-options"] == "nosniff"
