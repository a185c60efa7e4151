"""The whole endpoint in one process, over real small models: control routes, keys, metrics and traces."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from cloud_fallback.serving.app import App, make_app, route_of
from cloud_fallback.serving.call import Call, current
from cloud_fallback.serving.keys import KeyRing
from cloud_fallback.serving.logs import JsonLines
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.models import models_for
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.contract.errors import ConfigError, OverloadedError
from tests.simulators.served_bundles import bundle, scaling

ASKED = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
INFER = "/v2/models/scale/infer"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

Get = httpx.AsyncClient


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """`scale`, which doubles in version 1.0.0, triples in 2.0.0 and doubles in 3.0.0."""
    for number, factor in ((1, 2.0), (2, 3.0), (3, 2.0)):
        bundle(tmp_path / "bundles" / f"scale-{number}", scaling(factor), version=f"{number}.0.0")
    return tmp_path / "bundles"


@asynccontextmanager
async def running(app: App) -> AsyncGenerator[Get, None]:
    await app.start()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8009") as client:
        yield client
    await app.stop()


def play(settings: ServeSettings, scene: Callable[[Get], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running(make_app(settings)) as client:
            await scene(client)

    asyncio.run(run())


async def answer(client: Get, **headers: str) -> list[float]:
    got = await client.post(INFER, json=ASKED, headers=headers)
    assert got.status_code == 200, got.text
    return got.json()["outputs"][0]["data"]


def families(page: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    return {
        sample.name: {
            tuple(sorted(one.labels.items())): one.value for one in family.samples if one.name == sample.name
        }
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_a_canary_is_begun_promoted_and_rolled_back(bundles: Path) -> None:
    async def scene(client: Get) -> None:
        traffic = "/v1/control/traffic/scale"
        assert (await client.get(traffic)).status_code == 404
        assert await answer(client) == [2, 4, 6, 8]  # of 3.0.0, the newest
        begun = await client.put(traffic, json={"weights": {"1.0.0": 50, "2.0.0": 50}})
        assert begun.status_code == 200 and begun.json()["split"]["weights"] == {"1.0.0": 50, "2.0.0": 50}
        got = [await answer(client) for _ in range(40)]
        assert [3, 6, 9, 12] in got and [2, 4, 6, 8] in got
        sticky = {tuple(await answer(client, **{"x-edge-sticky": "till-7"})) for _ in range(10)}
        assert len(sticky) == 1
        promoted = await client.post(f"{traffic}/promote", json={"version": "2.0.0"})
        assert promoted.json()["split"]["weights"] == {"2.0.0": 100}
        assert {tuple(await answer(client)) for _ in range(10)} == {(3, 6, 9, 12)}
        assert (await client.post(f"{traffic}/rollback")).json()["before"] == []
        assert (await client.get("/v1/control/traffic")).json()["scale"]["split"]["weights"] == {
            "1.0.0": 50,
            "2.0.0": 50,
        }
        assert (await client.post(f"{traffic}/rollback")).status_code == 400
        assert (await client.delete(traffic)).status_code == 204
        assert await answer(client) == [2, 4, 6, 8]

    play(ServeSettings(str(bundles)), scene)


def test_a_shadow_is_compared_and_counted(bundles: Path) -> None:
    async def scene(client: Get) -> None:
        async def compared(shadow: str) -> dict[str, int]:
            body = {"weights": {"1.0.0": 100}, "shadow": shadow}
            assert (await client.put("/v1/control/traffic/scale", json=body)).status_code == 200
            assert await answer(client) == [2, 4, 6, 8]
            while True:  # a copy runs after its answer was given
                told = (await client.get("/v1/control/shadows")).json()
                found = {one["outcome"]: one["count"] for one in told if one["version"] == shadow}
                if found:
                    return found
                await asyncio.sleep(0)

        assert await compared("2.0.0") == {"differed": 1}
        assert await compared("3.0.0") == {"agreed": 1}
        page = families((await client.get("/metrics")).text)["edge_shadow_requests_total"]
        assert page[("model", "scale"), ("outcome", "agreed"), ("version", "3.0.0")] == 1

    play(ServeSettings(str(bundles)), scene)


def test_loading_brings_back_what_the_split_names_and_single_versions(bundles: Path) -> None:
    async def scene(client: Get) -> None:
        async def ready() -> list[str]:
            index = (await client.post("/v2/repository/index", json={"ready": True})).json()
            return [one["version"] for one in index]

        base = "/v2/repository/models/scale"
        split = {"weights": {"2.0.0": 100}}
        assert (await client.put("/v1/control/traffic/scale", json=split)).status_code == 200
        assert (await client.post(f"{base}/unload")).status_code == 200
        assert await ready() == []
        assert (await client.post(f"{base}/load")).status_code == 200
        assert await ready() == ["2.0.0", "3.0.0"]
        assert await answer(client) == [3, 6, 9, 12]
        one = await client.post(f"{base}/load", json={"parameters": {"version": "1.0.0"}})
        assert one.status_code == 200 and await ready() == ["1.0.0", "2.0.0", "3.0.0"]
        for version, status in (("9.0.0", 404), (1, 400), ("", 400)):
            got = await client.post(f"{base}/load", json={"parameters": {"version": version}})
            assert got.status_code == status, got.text

    play(ServeSettings(str(bundles)), scene)


def test_a_model_that_is_being_loaded_is_worth_waiting_for(bundles: Path) -> None:
    async def run() -> None:
        app = make_app(ServeSettings(str(bundles)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8009") as client:
            assert (await client.get("/v2/models/scale/ready")).status_code == 503  # nothing is read yet
            starting = asyncio.create_task(app.start())
            while not app.front.index():
                await asyncio.sleep(0)
            for path, body in ((INFER, ASKED), ("/v1/embeddings", {"model": "scale", "input": "a"})):
                got = await client.post(path, json=body)
                assert (got.status_code, got.headers["retry-after"]) == (503, "1"), got.text
            got = await client.get("/v2/models/scale/ready")
            assert (got.status_code, got.json()["ready"]) == (503, False)
            assert (await client.get("/v2/models/scale/versions/9/ready")).status_code == 404
            assert (await client.get("/v2/models/nobody/ready")).status_code == 404
            got = await client.post("/v2/models/nobody/infer", json=ASKED)
            assert got.status_code == 404 and got.json()["got"] == "nobody"
            await starting
            assert await answer(client) == [2, 4, 6, 8]
            assert (await client.get("/v2/models/scale/ready")).json()["ready"] is True
        await app.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"weights": {"1.0.0": 90}}, "sum of 100"),
        ({"weights": {"9.0.0": 100}}, "one that is loaded"),
        ({"weights": {"1.0.0": 100}, "shadow": "1.0.0"}, "answers requests itself"),
        ({"weights": {}}, "weights"),
        ({"weights": {"1.0.0": "much"}}, "weights.1.0.0"),
        ({"weights": {"1.0.0": 100}, "speed": 1}, "speed"),
        ([], "body"),
    ],
)
def test_a_wrong_split_is_refused_and_changes_nothing(bundles: Path, body: Any, said: str) -> None:
    async def scene(client: Get) -> None:
        got = await client.put("/v1/control/traffic/scale", json=body)
        assert got.status_code == 400 and said in got.json()["error"] and got.json()["code"] == "input-error"
        assert (await client.get("/v1/control/traffic")).json() == {}

    play(ServeSettings(str(bundles)), scene)


def test_control_routes_that_are_not_there(bundles: Path) -> None:
    async def scene(client: Get) -> None:
        assert (
            await client.put("/v1/control/traffic/nobody", json={"weights": {"1": 100}})
        ).status_code == 404
        for got in (await client.get("/nowhere"), await client.patch("/v1/control/traffic")):
            assert got.status_code in {404, 405} and got.json()["code"] == "unknown-route"
        assert (await client.get("/v1/control/keys")).status_code == 404

    play(ServeSettings(str(bundles)), scene)


def test_repeated_requests_are_answered_once_and_survive_a_restart(bundles: Path, tmp_path: Path) -> None:
    settings = ServeSettings(str(bundles), state=tmp_path / "state")

    async def first(client: Get) -> None:
        assert await answer(client, **{"x-request-id": "a"}) == [2, 4, 6, 8]
        body = {"weights": {"2.0.0": 100}}
        assert (await client.put("/v1/control/traffic/scale", json=body)).status_code == 200
        assert await answer(client, **{"x-request-id": "a"}) == [2, 4, 6, 8]  # not by the version of now

    async def again(client: Get) -> None:
        assert await answer(client) == [3, 6, 9, 12]  # the split was kept, too
        assert await answer(client, **{"x-request-id": "a"}) == [2, 4, 6, 8]
        other = {"inputs": [{**ASKED["inputs"][0], "data": [0, 0, 0, 0]}]}
        got = await client.post(INFER, json=other, headers={"x-request-id": "a"})
        assert got.status_code == 400 and "used for another request" in got.json()["error"]
        assert families((await client.get("/metrics")).text)["edge_requests_repeated_total"][()] == 1

    play(settings, first)
    play(settings, again)


def test_keys_and_quotas(bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    boss = KeyRing(file, must_exist=False).create("boss", control=True)

    async def scene(client: Get) -> None:
        as_boss = {"authorization": f"Bearer {boss}"}
        assert (await client.get("/v2/health/ready")).status_code == 200
        refused = await client.post(INFER, json=ASKED)
        assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/metrics")).status_code == 401
        made = await client.post(
            "/v1/control/keys",
            json={"name": "shop", "requests_per_minute": 3, "rows_per_minute": 100},
            headers=as_boss,
        )
        assert made.status_code == 201
        as_shop = {"authorization": f"Bearer {made.json()['key']}"}
        assert (await client.get("/v1/control/keys", headers=as_shop)).status_code == 403
        assert (await client.post("/v2/repository/models/scale/unload", headers=as_shop)).status_code == 403
        for _ in range(3):
            assert await answer(client, **as_shop) == [2, 4, 6, 8]
        full = await client.post(INFER, json=ASKED, headers=as_shop)
        assert full.status_code == 429 and 1 <= int(full.headers["retry-after"]) <= 20
        listed = (await client.get("/v1/control/keys", headers=as_boss)).json()
        assert [key["name"] for key in listed] == ["boss", "shop"] and "sha256" not in str(listed)
        assert (await client.delete("/v1/control/keys/shop", headers=as_boss)).status_code == 204
        assert (await client.delete("/v1/control/keys/shop", headers=as_boss)).status_code == 404
        assert (await client.post(INFER, json=ASKED, headers=as_shop)).status_code == 401

    play(ServeSettings(str(bundles), keys=file), scene)


def test_rows_are_limited_in_openai_form_and_ours(bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = KeyRing(file, must_exist=False).create("shop", rows_per_minute=2)

    async def scene(client: Get) -> None:
        as_shop = {"authorization": f"Bearer {secret}"}
        two = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [0] * 8}]}
        assert (await client.post(INFER, json=two, headers=as_shop)).status_code == 200
        got = await client.post(INFER, json=two, headers=as_shop)
        assert got.status_code == 429 and got.json()["code"] == "quota-error"
        asked = {"model": "scale", "input": "hello"}
        got = await client.post("/v1/embeddings", json=asked, headers=as_shop)
        assert got.status_code == 429 and got.json()["error"]["type"] == "rate_limit_error"

    play(ServeSettings(str(bundles), keys=file), scene)


def test_metrics_have_names_units_and_bounded_labels(bundles: Path) -> None:
    async def scene(client: Get) -> None:
        for _ in range(3):
            await answer(client)
        for path in ("/v2/models/nobody/infer", "/v2/models/other/infer", "/elsewhere/42"):
            await client.post(path, json=ASKED)
        page = families((await client.get("/metrics")).text)
        requests = page["edge_request_duration_seconds_count"]
        mine = {"code": "200", "model": "scale", "route": "infer", "version": "3.0.0"}
        assert requests[tuple(sorted(mine.items()))] == 3
        nobody = {"code": "404", "model": "", "route": "infer", "version": ""}
        assert requests[tuple(sorted(nobody.items()))] == 2
        model = (("model", "scale"), ("version", "3.0.0"))
        assert page["edge_rows_total"][model] == 3
        assert page["edge_batch_rows_sum"][model] == 3
        assert page["edge_queue_duration_seconds_count"][model] == 3
        assert page["edge_model_loaded"][model] == 1
        (file,) = (bundles / "scale-3").rglob("*.onnx")
        assert page["edge_model_memory_bytes"][model] == file.stat().st_size  # it has no receipt
        assert page["edge_requests_in_flight"][()] == 1  # this one
        assert page["process_resident_memory_bytes"][()] > 2**20

    play(ServeSettings(str(bundles)), scene)


def test_spans_join_the_trace_of_the_caller(bundles: Path, caplog: pytest.LogCaptureFixture) -> None:
    exporter = InMemorySpanExporter()
    settings = ServeSettings(str(bundles), log_requests=True)
    metrics = Metrics()

    async def scene() -> None:
        async with running(App(settings, models_for(settings, metrics), metrics, exporter)) as client:
            trace = f"00-{TRACE}-{PARENT}-01"
            await answer(client, traceparent=trace, **{"x-request-id": "a"})
            await answer(client, traceparent=f"00-{TRACE}-{PARENT}-00")  # the caller does not sample it
            await client.get("/v2/health/live", headers={"traceparent": "nonsense"})

    with caplog.at_level(logging.INFO, "cloud_fallback.access"):
        asyncio.run(scene())
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"infer", "queue", "run", "health"}
    request = spans["infer"]
    assert f"{request.context.trace_id:032x}" == TRACE and f"{request.parent.span_id:016x}" == PARENT
    for name in ("queue", "run"):
        assert spans[name].parent == request.context
        assert request.start_time <= spans[name].start_time <= spans[name].end_time <= request.end_time
    assert dict(request.attributes)["version"] == "3.0.0" and dict(request.attributes)["rows"] == 1
    assert f"{spans['health'].context.trace_id:032x}" != TRACE
    record = next(record for record in caplog.records if record.name == "cloud_fallback.access")
    assert record.fields["model"] == "scale" and record.fields["code"] == 200


def test_in_a_rush_requests_like_a_refused_one_are_refused_unread(bundles: Path) -> None:
    settings, metrics = ServeSettings(str(bundles)), Metrics()
    app = App(settings, models_for(settings, metrics), metrics)

    async def scene() -> None:
        async with running(app) as client:
            busy = OverloadedError("model 'scale': the queue is full", retry_after_s=1.5)

            async def asked(**headers: str) -> httpx.Response:
                app.front.rush.refused(INFER, busy, timeout_s=0.05, priority=1, now_s=time.monotonic() + 60)
                return await client.post(INFER, content=b"never read", headers=headers)

            early = await asked(**{"x-deadline-ms": "50", "x-request-id": "a"})
            assert early.status_code == 503 and early.headers["retry-after"] == "2"
            assert early.headers["x-request-id"] == "a" and early.json()["code"] == "overloaded-error"
            for longer in ({"x-deadline-ms": "5000"}, {"x-deadline-ms": "50", "x-edge-priority": "0"}, {}):
                assert (await asked(**longer)).status_code == 400  # read, and found to be no JSON
            assert (await asked(**{"x-deadline-ms": "soon"})).status_code == 400
            page = families((await client.get("/metrics")).text)["edge_requests_shed_total"]
            assert page[("model", "scale"), ("reason", "early"), ("version", "")] == 1

    asyncio.run(scene())


def test_a_log_line_is_json_with_the_ids_and_no_body() -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "said %s", "args": ("so",)})
    token = current.set(Call("infer", request_id="a", trace_id=TRACE, span_id=PARENT))
    line = json.loads(JsonLines().format(record))
    current.reset(token)
    assert {key: line[key] for key in ("message", "request_id", "trace_id", "span_id", "level")} == {
        "message": "said so",
        "request_id": "a",
        "trace_id": TRACE,
        "span_id": PARENT,
        "level": "info",
    }


def test_a_web_page_cannot_reach_it_by_a_name_of_its_own(bundles: Path) -> None:
    async def scene(client: Get) -> None:
        evil = {"host": "evil.example"}
        for path in ("/v2/models/scale", "/v1/control/traffic", "/metrics"):
            assert (await client.get(path, headers=evil)).status_code == 403

    play(ServeSettings(str(bundles)), scene)


def test_others_are_not_let_in_by_mistake() -> None:
    with pytest.raises(ConfigError, match="others can reach it"):
        make_app(ServeSettings("bundles", host="0.0.0.0"))


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/models/m/infer", "infer"),
        ("/v2/models/m/versions/1/infer", "infer"),
        ("/v2/models/m", "metadata"),
        ("/v2/health/live", "health"),
        ("/v1/predict/m", "predict"),
        ("/v1/chat/completions", "chat"),
        ("/v1/control/traffic/m", "control"),
        ("/metrics", "metrics"),
        ("/", "other"),
        ("/v1/anything", "other"),
        ("", "other"),
    ],
)
def test_routes_have_few_names(path: str, route: str) -> None:
    assert route_of(path) == route
