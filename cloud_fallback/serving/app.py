"""The whole endpoint as one ASGI application: the door, the control routes, and what stands around them.

Composition root of the serving side: makes every part and joins them. Opens no socket; `running` does.
"""

import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter

from cloud_fallback.serving.call import Call, current
from cloud_fallback.serving.control import Control
from cloud_fallback.serving.exporting import exporter_for
from cloud_fallback.serving.front import Front
from cloud_fallback.serving.gate import Gate
from cloud_fallback.serving.idempotency import Bounds, MemoryShelf, Once, SqliteShelf
from cloud_fallback.serving.keys import KeyRing
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.models import Models, models_for
from cloud_fallback.serving.settings import ServeSettings
from cloud_fallback.serving.shadow import Shadowed, Shadows
from cloud_fallback.serving.steering import SteeringTable
from cloud_fallback.serving.tracing import Tracing
from edge_runtime.contract.address import is_loopback
from edge_runtime.contract.errors import EdgeRuntimeError, OverloadedError
from edge_runtime.protocol import headers
from edge_runtime.protocol.headers import Metadata
from edge_runtime.web.access import LOOPBACK_HOSTS, Access
from edge_runtime.web.door import Application, Door
from edge_runtime.web.failures import reply_to

Event = MutableMapping[str, Any]

_COUNTED = frozenset({"infer", "predict", "embeddings", "chat", "completions"})
"""Routes whose requests count against a key's requests a minute."""
_GONE = 499
"""What is counted where the caller went away before its answer."""
_TRACE = headers.TRACE.encode()
_EARLY = frozenset(name.encode() for name in (headers.REQUEST_ID, headers.DEADLINE, headers.PRIORITY))
_REPOSITORY = "/v2/repository/models/"


class App:
    """The endpoint.

    Args:
        settings: Checked.
        models: What answers; started and stopped here.
        metrics: Where everything is counted.
        exporter: Takes spans instead of the place the settings name.

    Raises:
        ConfigError: The keys' file is wrong, or the exporter's library is missing.
        StorageError: A file of the state folder cannot be used.
    """

    def __init__(
        self,
        settings: ServeSettings,
        models: Models,
        metrics: Metrics,
        exporter: SpanExporter | None = None,
    ) -> None:
        self.models = models
        self.metrics = metrics
        self._keys = KeyRing(settings.keys) if settings.keys is not None else None
        exporter = exporter or exporter_for(settings.traces)
        self._tracing = Tracing(exporter, settings.trace_share) if exporter is not None else None
        self.gate = Gate(self._keys, metrics, self._tracing, log_requests=settings.log_requests)
        state = settings.state
        bounds = Bounds(settings.kept_age_s, settings.kept_bytes)
        self._shelf = SqliteShelf(state / "answers.db", bounds) if state is not None else MemoryShelf(bounds)
        self._shadows = Shadows(self._shadowed)
        table = SteeringTable(state / "traffic.json" if state is not None else None)
        self.front = Front(
            models,
            gate=self.gate,
            table=table,
            shadows=self._shadows,
            once=Once(self._shelf, time.time),
            dice=random.random,
        )
        access = _access(settings)
        control = Control(
            self.front,
            gate=self.gate,
            keys=self._keys,
            table=table,
            shadows=self._shadows,
            metrics=metrics,
            access=access,
        )
        self._door: Application = Door(
            self.front, settings.limits, access=access, admit=self._admit, otherwise=control.app()
        )

    async def start(self) -> None:
        """Load the models.

        Raises:
            EdgeRuntimeError: The repository cannot be read.
        """
        await self.models.start()

    async def stop(self) -> None:
        """Give everything back. Requests under way were answered, or are given up."""
        await self._shadows.close()
        await self.models.close()
        self._shelf.close()
        if self._tracing is not None:
            self._tracing.close()

    async def __call__(
        self,
        scope: Event,
        receive: Callable[[], Awaitable[Event]],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        """Answer one connection's event as ASGI says."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            await self._door(scope, receive, send)
            return
        call = Call(route_of(scope["path"]))
        if self._tracing is not None:
            found = (value.decode("latin-1") for name, value in scope["headers"] if name == _TRACE)
            call.traceparent = next(found, "")

        async def sending(event: Event) -> None:
            if event["type"] == "http.response.start":
                call.code = event["status"]
                if (
                    call.route == "predict" and call.queue_s is not None
                ):  # of tensors, the answer itself says it
                    event["headers"] += timings(call)
            await send(event)

        with self.gate.watch(call):
            if self.front.rush.knows(scope["path"]) and await self._refused_early(scope, send, call):
                return
            await self._door(scope, receive, sending)
            call.code = call.code or _GONE

    async def _lifespan(
        self, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
    ) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _admit(self, metadata: Metadata, path: str) -> None:
        call = current.get() or Call(route_of(path))
        call.request_id = metadata.id
        if call.route == "infer":
            call.asked, call.timeout_s, call.priority = path, metadata.timeout_s, metadata.priority
        call.key = self.gate.admit(
            metadata, control=path.startswith(_REPOSITORY), count=call.route in _COUNTED
        )

    async def _refused_early(
        self, scope: Event, send: Callable[[Event], Awaitable[None]], call: Call
    ) -> bool:
        """Refuse a request like one that was just refused, at the least cost; gives whether that was done.

        Before anything else is looked at, the key too: a caller without one learns that the server is busy.
        """
        told = {n.decode(): v.decode("latin-1") for n, v in scope["headers"] if n in _EARLY}
        try:
            metadata = headers.read(told)
        except EdgeRuntimeError:
            return False  # the door says what is wrong
        try:
            self.front.rush.check(
                scope["path"],
                timeout_s=metadata.timeout_s,
                priority=metadata.priority,
                now_s=time.monotonic(),
            )
        except OverloadedError as error:
            reply = reply_to(error, openai=False)
        else:
            return False
        call.code = reply.status
        # An earlier request was refused by this path, so it names a model that exists.
        self.metrics.request_shed(scope["path"].split("/")[3], "", reason="early")
        own = {"content-type": reply.kind.decode(), "content-length": str(len(reply.body)), **reply.headers}
        if metadata.id:
            own[headers.REQUEST_ID] = metadata.id
        sent = [(name.encode(), value.encode("latin-1")) for name, value in own.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": sent})
        await send({"type": "http.response.body", "body": reply.body})
        return True

    def _shadowed(self, shadowed: Shadowed) -> None:
        self.metrics.shadows.labels(shadowed.model, shadowed.version, shadowed.outcome.value).inc()


def make_app(settings: ServeSettings) -> App:
    """Make the endpoint for an ASGI server of one's own; its lifespan loads and unloads the models.

    Args:
        settings: What to serve, and how.

    Raises:
        ConfigError: The settings let everybody in by mistake, or the keys' file is wrong.
        StorageError: A file of the state folder cannot be used.
    """
    settings.check()
    metrics = Metrics()
    return App(settings, models_for(settings, metrics), metrics)


def timings(call: Call) -> list[tuple[bytes, bytes]]:
    """Give the headers that say how long a request waited, and ran, in milliseconds.

    Args:
        call: Answered.
    """
    told = ((b"x-edge-queue-ms", call.queue_s), (b"x-edge-run-ms", call.run_s))
    return [(name, f"{1000 * spent_s:.3f}".encode()) for name, spent_s in told if spent_s is not None]


def route_of(path: str) -> str:
    """Name a route for metrics: one of few words, whatever callers ask for."""
    parts = path.split("/")
    match parts[1:3]:
        case ["v2", "models"]:
            return "infer" if parts[-1] == "infer" else "metadata"
        case ["v2", "health"]:
            return "health"
        case ["v2", "repository"]:
            return "repository"
        case ["v1", "chat" | "completions" | "embeddings" | "predict" | "control" | "models" as name]:
            return name
        case ["metrics"]:
            return "metrics"
        case _:
            return "other"


def _access(settings: ServeSettings) -> Access:
    """Without keys, a web page on this machine must not reach the server by a name of its own."""
    if settings.keys is None and is_loopback(settings.host):
        return Access(hosts=LOOPBACK_HOSTS | {settings.host.lower()})
    return Access()
