"""The control routes: traffic between versions, API keys, how the models are, and the metrics.

FastAPI, because these routes are few and rare; what models are asked goes past it. Decides nothing itself.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from cloud_fallback.serving.gate import Gate
from cloud_fallback.serving.keys import KeyRing, Rate
from cloud_fallback.serving.metrics import CONTENT_TYPE, Metrics
from cloud_fallback.serving.shadow import Shadows
from cloud_fallback.serving.steering import SplitEntry, SteeringEntry, SteeringTable
from cloud_fallback.serving.traffic import Steering, promote, roll_back, steer
from edge_runtime.contract.bundle import Name
from edge_runtime.contract.errors import EdgeRuntimeError, InputError, UnknownModelError
from edge_runtime.contract.task import Declared
from edge_runtime.protocol import headers
from edge_runtime.protocol.backend import Backend, ModelState
from edge_runtime.protocol.problems import problem_of, retry_after, v2_document
from edge_runtime.web.access import Access

READY = "READY"
Model = Annotated[str, Path(description="name of a model", max_length=64)]


class Promotion(Declared):
    """The version that takes over."""

    version: str = Field(min_length=1, max_length=64)


class NewKey(Declared):
    """What a new key may do."""

    name: Name
    requests_per_minute: Rate | None = None
    rows_per_minute: Rate | None = None
    control: bool = False


class Problem(Declared):
    """Why a request was refused."""

    error: str
    code: str
    expected: str | None = None
    got: str | None = None
    do: str | None = None


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": what}
    for status, what in (
        (400, "The request is wrong"),
        (401, "No key, or none that is known"),
        (403, "The key may not do this"),
        (404, "There is no such thing"),
        (429, "Too many requests"),
        (507, "The file cannot be written"),
    )
}


class Control:
    """Answers the control routes.

    Args:
        backend: The models.
        gate: Who may ask.
        keys: The keys; None: everybody may ask, and there are none to make.
        table: The splits.
        shadows: What came of copies.
        metrics: What is counted.
        access: By which host names the server may be called.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        gate: Gate,
        keys: KeyRing | None,
        table: SteeringTable,
        shadows: Shadows,
        metrics: Metrics,
        access: Access,
    ) -> None:
        self._backend = backend
        self._gate = gate
        self._keys = keys
        self._table = table
        self._shadows = shadows
        self._metrics = metrics
        self._access = access

    def app(self) -> FastAPI:
        """Make the application."""
        app = FastAPI(
            title="edge-runtime control",
            openapi_url="/v1/control/openapi.json",
            docs_url=None,  # their pages load scripts from elsewhere
            redoc_url=None,
            responses=REFUSALS,
        )
        only = [Depends(self._controls)]
        base, one = "/v1/control/traffic", "/v1/control/traffic/{model}"
        app.add_api_route(base, self.splits, methods=["GET"], dependencies=only)
        app.add_api_route(one, self.split, methods=["GET"], dependencies=only)
        app.add_api_route(one, self.set_split, methods=["PUT"], dependencies=only)
        app.add_api_route(one, self.clear, methods=["DELETE"], dependencies=only, status_code=204)
        app.add_api_route(f"{one}/promote", self.promote, methods=["POST"], dependencies=only)
        app.add_api_route(f"{one}/rollback", self.roll_back, methods=["POST"], dependencies=only)
        app.add_api_route("/v1/control/shadows", self.outcomes, methods=["GET"], dependencies=only)
        app.add_api_route("/v1/control/instances", self.instances, methods=["GET"], dependencies=only)
        app.add_api_route("/v1/control/keys", self.list_keys, methods=["GET"], dependencies=only)
        app.add_api_route(
            "/v1/control/keys", self.make_key, methods=["POST"], dependencies=only, status_code=201
        )
        app.add_api_route(
            "/v1/control/keys/{name}", self.revoke, methods=["DELETE"], dependencies=only, status_code=204
        )
        app.add_api_route(
            "/metrics",
            self.page,
            methods=["GET"],
            dependencies=[Depends(self._reads)],
            response_class=Response,
            responses={200: {"content": {"text/plain": {}}}},
        )
        app.add_exception_handler(EdgeRuntimeError, _refuse)
        app.add_exception_handler(RequestValidationError, _refuse_form)
        app.add_exception_handler(HTTPException, _refuse_path)
        return app

    async def splits(self) -> dict[str, SteeringEntry]:
        """Tell which splits are in force."""
        return {model: SteeringEntry.of(steering) for model, steering in self._table.all().items()}

    async def split(self, model: Model) -> SteeringEntry:
        """Tell how the requests to a model are shared out; 404 where its newest version answers all."""
        return _entry(model, self._table.get(model))

    async def set_split(self, model: Model, body: SplitEntry) -> SteeringEntry:
        """Share the requests to a model out: weights of versions, and a shadow."""
        split = body.split()
        self._check_loaded(model, split.versions())
        return _entry(model, self._table.change(model, lambda held: steer(held, split)))

    async def promote(self, model: Model, body: Promotion) -> SteeringEntry:
        """Give all requests to one version."""
        self._check_loaded(model, {body.version})
        return _entry(model, self._table.change(model, lambda held: promote(held, body.version)))

    async def roll_back(self, model: Model) -> SteeringEntry:
        """Put the split before the present one in force again."""

        def change(held: Steering | None) -> Steering:
            before = roll_back(held)
            self._check_loaded(model, before.split.versions())
            return before

        return _entry(model, self._table.change(model, change))

    async def clear(self, model: Model) -> Response:
        """Forget the split and its history: the newest version answers."""
        _entry(model, self._table.get(model))
        self._table.change(model, lambda _: None)
        return Response(status_code=204)

    async def outcomes(self) -> list[dict[str, Any]]:
        """Tell how the shadows' answers compared, since the start."""
        return [{**asdict(one), "count": count} for one, count in self._shadows.counts.items()]

    async def instances(self) -> list[dict[str, Any]]:
        """Tell how each version of the repository is."""
        return [self._instance(one) for one in self._backend.index()]

    async def list_keys(self) -> list[dict[str, Any]]:
        """List the keys: their names and quotas."""
        shown = ("name", "requests_per_minute", "rows_per_minute", "control")
        return [{field: getattr(key, field) for field in shown} for key in self._ring().quotas.all()]

    async def make_key(self, body: NewKey) -> dict[str, str]:
        """Make a key; it is shown this once."""
        secret = self._ring().create(
            body.name,
            requests_per_minute=body.requests_per_minute,
            rows_per_minute=body.rows_per_minute,
            control=body.control,
        )
        return {"name": body.name, "key": secret}

    async def revoke(self, name: Annotated[str, Path(max_length=64)]) -> Response:
        """Take every key of a name away."""
        if not self._ring().revoke(name):
            raise UnknownModelError(f"there is no key '{name}'")
        return Response(status_code=204)

    async def page(self) -> Response:
        """Give the metrics in Prometheus's text form."""
        self._metrics.loaded.clear()
        self._metrics.memory.clear()
        for one in self._backend.index():
            self._metrics.loaded.labels(one.name, one.version).set(one.state == READY)
            if one.memory_bytes is not None:
                self._metrics.memory.labels(one.name, one.version).set(one.memory_bytes)
        return Response(self._metrics.page(), media_type=CONTENT_TYPE)

    def _instance(self, state: ModelState) -> dict[str, Any]:
        known: dict[str, Any] = {
            "model": state.name,
            "version": state.version,
            "state": state.state,
            "reason": state.reason,
        }
        if state.state != READY:
            return known
        found = self._backend.describe(state.name, state.version)
        return {**known, "kind": found.kind, "platform": found.platform}

    async def _controls(self, request: Request) -> None:
        self._access.check_host(request.headers)
        self._gate.admit(headers.read(request.headers), control=True, count=False)

    async def _reads(self, request: Request) -> None:
        self._access.check_host(request.headers)
        self._gate.admit(headers.read(request.headers), count=False)

    def _ring(self) -> KeyRing:
        if self._keys is None:
            raise UnknownModelError("this server uses no keys", do="Start it with --keys FILE")
        return self._keys

    def _check_loaded(self, model: str, versions: frozenset[str] | set[str]) -> None:
        loaded = self._backend.describe(model, None).versions
        missing = sorted(set(versions) - set(loaded))
        if missing:
            raise InputError(
                f"version {', '.join(missing)} of '{model}'",
                expected=f"one that is loaded: {', '.join(loaded)}",
                do="Load it first",
            )


def _entry(model: str, steering: Steering | None) -> SteeringEntry:
    if steering is None:
        raise UnknownModelError(f"nothing was said of '{model}': its newest version answers")
    return SteeringEntry.of(steering)


def _answer(document: Mapping[str, Any], status: int, extra: Mapping[str, str]) -> JSONResponse:
    return JSONResponse(dict(document), status, dict(extra))


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    after = retry_after(error)
    extra = {"retry-after": after} if after is not None else {}
    status = problem_of(error).status
    if status == 401:
        extra["www-authenticate"] = "Bearer"
    return _answer(v2_document(error), status, extra)


async def _refuse_form(_: Request, error: Exception) -> JSONResponse:
    """Say the first thing that is wrong with a body, in the form all other errors have."""
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"msg": str(error), "loc": ()}
    place = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return _answer(v2_document(InputError(f"{place}: {first['msg']}")), 400, {})


async def _refuse_path(_: Request, error: Exception) -> JSONResponse:
    status, extra = 404, {}
    if isinstance(error, HTTPException):
        status, extra = error.status_code, error.headers or {}
    text = getattr(error, "detail", "not found")
    return _answer({"error": f"{text}. See /openapi.json", "code": "unknown-route"}, status, extra)
