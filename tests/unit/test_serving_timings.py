"""What the endpoint says of the time that requests take: headers, metrics, and spans to a collector."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cloud_fallback.serving.app import App, make_app
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.models import models_for
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.contract.errors import ConfigError
from tests.simulators.sentiment import sentiment_bundle
from tests.unit.test_serving_app import families


@asynccontextmanager
async def running(app: App) -> AsyncGenerator[httpx.AsyncClient, None]:
    await app.start()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8009") as client:
        yield client
    await app.stop()


def test_a_text_says_how_long_it_waited_and_ran(tmp_path: Path) -> None:
    exporter, metrics = InMemorySpanExporter(), Metrics()
    sentiment_bundle(tmp_path / "bundles" / "sentiment", peak_memory_bytes=7_000_000)
    settings = ServeSettings(str(tmp_path / "bundles"))

    async def scene() -> None:
        async with running(App(settings, models_for(settings, metrics), metrics, exporter)) as client:
            got = await client.post("/v1/predict/sentiment", json={"text": "good"})
            assert got.status_code == 200
            told = {name: float(got.headers[f"x-edge-{name}-ms"]) for name in ("queue", "run")}
            assert told["run"] > 0 and told["queue"] >= 0
            page = families((await client.get("/metrics")).text)
        model = (("model", "sentiment"), ("version", "1.0.0"))
        assert page["edge_queue_duration_seconds_count"][model] == 1
        assert page["edge_model_memory_bytes"][model] == 7_000_000

    asyncio.run(scene())
    assert {"predict", "queue", "run"} <= {span.name for span in exporter.get_finished_spans()}


@contextmanager
def collector() -> Generator[tuple[str, list[tuple[str, str, bytes]]], None, None]:
    """A collector of spans on a free port, and what came: path, content type, body."""
    came: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            came.append((self.path, self.headers["content-type"], body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        server.server_close()


def test_spans_go_to_a_collector_over_http(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="an option of the extra `cloud`")
    sentiment_bundle(tmp_path / "bundles" / "sentiment")

    async def scene(address: str) -> None:
        async with running(make_app(ServeSettings(str(tmp_path / "bundles"), traces=address))) as client:
            for name in ("a", "b"):
                asked = {"x-request-id": name}
                got = await client.post("/v1/predict/sentiment", json={"text": "good"}, headers=asked)
                assert got.status_code == 200

    with collector() as (address, came):
        asyncio.run(scene(f"{address}/"))
    assert {(path, kind) for path, kind, _ in came} == {("/v1/traces", "application/x-protobuf")}
    sent = b"".join(body for _, _, body in came)
    for word in (b"edge-runtime-serve", b"predict", b"queue", b"run", b"sentiment"):
        assert word in sent


def test_a_collector_without_its_library_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )
    with pytest.raises(ConfigError, match="pip install opentelemetry-exporter-otlp-proto-http"):
        make_app(ServeSettings(str(tmp_path), traces="http://127.0.0.1:4318"))
