"""The manager's API and console as one ASGI application, and what stands before every route.

Opens no port and starts nothing; `running` does.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

from cloud_fallback.fleet.api import (
    deploying,
    enrolling,
    fleet_devices,
    probes,
    problems,
    publishing,
    records,
    transfers,
    watching,
)
from cloud_fallback.fleet.api.bounds import Bounds
from cloud_fallback.fleet.api.manager import Manager
from cloud_fallback.fleet.api.metrics import Metrics
from edge_runtime.contract.task import Declared

Event = MutableMapping[str, Any]
_ROUTERS = (
    enrolling.router,
    fleet_devices.router,
    publishing.router,
    transfers.router,
    deploying.router,
    records.router,
    watching.router,
    probes.router,
)
_SAFE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_REFUSALS = (
    (400, "The request is wrong"),
    (401, "No token, or none that is good"),
    (403, "The token may not do this"),
    (404, "There is no such thing"),
    (409, "It contradicts what is there"),
    (413, "Too large"),
    (422, "The metadata is refused"),
    (429, "Too many requests"),
    (503, "The database does not answer, or there is no room now"),
    (504, "The device did not answer"),
    (507, "The disk is full or broken"),
)


class Problem(Declared):
    """Why a request was refused."""

    code: str
    message: str
    expected: str | None
    got: str | None
    do: str | None


class Refusal(Declared):
    """What every error looks like."""

    error: Problem


def make_app(manager: Manager, attach: Callable[[FastAPI], None] | None = None) -> FastAPI:
    """Make the application.

    Args:
        manager: What it stands on.
        attach: Puts the console on it; None: there is none.
    """
    app = FastAPI(
        title="edge-runtime fleet",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={status: {"model": Refusal, "description": what} for status, what in _REFUSALS},
    )
    app.state.manager = manager
    for router in _ROUTERS:
        app.include_router(router)
    if attach is not None:
        attach(app)
    problems.install(app)
    _build_routes(app)
    app.add_middleware(Bounds)
    app.add_middleware(Counted, metrics=manager.metrics)
    return app


def _build_routes(app: FastAPI) -> None:
    """Have what routes take and give worked out now.

    The framework does it for the first request that looks at a route, and turns warnings off for that moment,
    for the whole process: of two applications, or threads, one then sees the warnings of the other.
    """
    nowhere: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)


class Counted:
    """Counts requests and says to browsers what they shall not do.

    Args:
        app: What is behind.
        metrics: Where it is counted.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(
        self,
        scope: Event,
        receive: Callable[[], Awaitable[Event]],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        """Answer one connection's event as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, code = time.monotonic(), 499  # the caller went away before its answer

        async def sending(event: Event) -> None:
            nonlocal code
            if event["type"] == "http.response.start":
                code = event["status"]
                there = {name.lower() for name, _ in event.get("headers", ())}
                safe = [each for each in _SAFE if each[0] not in there]
                event["headers"] = [*event.get("headers", ()), *safe]
            await send(event)

        try:
            await self._app(scope, receive, sending)
        finally:
            # A route's own path, so that callers cannot invent series.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if route != "other" else "other"
            self._metrics.requests.labels(route, method, str(code)).observe(time.monotonic() - began)
