"""The routes of Open Inference Protocol v2: health, metadata, inference, the model repository, statistics.

Reads and writes no tensor itself, `protocol.v2` does; runs no model, the backend does. Sources: KServe, "Open
Inference Protocol"; Triton Inference Server, "Model repository extension", "Statistics extension".
"""

import time
from typing import Any

from edge_runtime.contract.errors import EdgeRuntimeError, InputError, UnknownModelError
from edge_runtime.contract.request import Request
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.contract.wire import V2_DATATYPES
from edge_runtime.protocol import headers, json_document, v2
from edge_runtime.protocol.backend import Backend, ModelDescription, ModelState, VersionLoader
from edge_runtime.protocol.json_document import Document, kind_of
from edge_runtime.protocol.limits import Limits
from edge_runtime.protocol.v2_heads import Heads
from edge_runtime.web import schemas
from edge_runtime.web.asking import request_for
from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.openapi import own_version
from edge_runtime.web.routing_table import Handler, Way
from edge_runtime.web.tally import Tally

_OCTETS = b"application/octet-stream"
_EXTENSIONS = ["binary_tensor_data", "model_repository", "parameters", "statistics"]
READY = "READY"
LOADING = "LOADING"


class TensorRoutes:
    """Handlers of `/v2`.

    Args:
        backend: Who answers.
        limits: What is taken.
    """

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._backend = backend
        self._limits = limits
        self._tally = Tally()
        self._heads = Heads(limits)

    def ways(self) -> list[Way]:
        """List the routes."""
        tag = "Open Inference Protocol v2"
        model, of = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        answer = schemas.INFER_RESPONSE
        return [
            Way("POST", f"{model}/infer", self.infer, "Run a model on tensors", tag, schemas.INFER, answer),
            Way("POST", f"{of}/infer", self.infer, "Run a version on tensors", tag, schemas.INFER, answer),
            _probe("/v2/health/live", self.live, "Is the server up?"),
            _probe("/v2/health/ready", self.ready, "Are all models loaded?"),
            Way("GET", "/v2", self.server, "Who is this?", tag, answer=schemas.ANY),
            Way("GET", "/v2/models/stats", self.stats, "How much was answered?", tag, answer=schemas.ANY),
            Way("GET", model, self.describe, "What does a model take and give?", tag, answer=schemas.ANY),
            Way("GET", of, self.describe, "What does a version take and give?", tag, answer=schemas.ANY),
            Way("GET", f"{model}/ready", self.model_ready, "Is a model loaded?", tag, answer=schemas.ANY),
            Way("GET", f"{of}/ready", self.model_ready, "Is a version loaded?", tag, answer=schemas.ANY),
            Way("GET", f"{model}/stats", self.stats, "How much did a model answer?", tag, answer=schemas.ANY),
            Way("GET", f"{of}/stats", self.stats, "How much did a version answer?", tag, answer=schemas.ANY),
            Way(
                "POST",
                "/v2/repository/index",
                self.index,
                "List all models",
                tag,
                schemas.INDEX,
                schemas.STATES,
            ),
            Way(
                "POST",
                "/v2/repository/models/{model}/load",
                self.load,
                "Load a model, or its newest version",
                tag,
                schemas.ANYTHING,
                schemas.ANY,
            ),
            Way(
                "POST",
                "/v2/repository/models/{model}/unload",
                self.unload,
                "Unload a model",
                tag,
                schemas.ANYTHING,
                schemas.ANY,
            ),
        ]

    async def live(self, _: Exchange) -> Reply:
        """Say that the server is up."""
        return Reply(b'{"live":true}')

    async def ready(self, _: Exchange) -> Reply:
        """Say whether every model is loaded: 200, or 503."""
        ready = self._backend.ready()
        return Reply(b'{"ready":true}' if ready else b'{"ready":false}', 200 if ready else 503)

    async def server(self, _: Exchange) -> Reply:
        """Say who this is."""
        return _json({"name": "edge-runtime", "version": own_version(), "extensions": _EXTENSIONS})

    async def describe(self, _: Exchange, model: str, version: str | None = None) -> Reply:
        """Say what a model takes and gives."""
        found = self._backend.describe(model, version)
        return _json(
            {
                "name": found.name,
                "versions": list(found.versions),
                "platform": found.platform,
                "inputs": [_spec(spec) for spec in found.inputs],
                "outputs": [_spec(spec) for spec in found.outputs],
                "parameters": {"version": found.version, "task": found.kind},
            }
        )

    async def model_ready(self, _: Exchange, model: str, version: str | None = None) -> Reply:
        """Say whether a model answers; 503 while it is being loaded, 404 where nobody wants it to."""
        states = [s for s in self._backend.index() if s.name == model and version in {None, s.version}]
        loading = next((state for state in states if state.state == LOADING), None)
        if loading is not None and not any(state.state == READY for state in states):
            document = {"name": loading.name, "version": loading.version, "ready": False}
            return Reply(json_document.write(document), 503)
        if not states:
            self._backend.describe(
                model, version
            )  # says that it is unknown, or that the list is not read yet
        state = ready_state(self._backend, model, version)
        return _json({"name": state.name, "version": state.version, "ready": True})

    async def infer(self, exchange: Exchange, model: str, version: str | None = None) -> Reply:
        """Run a model on tensors."""
        found = self._backend.describe(model, version)
        body = await exchange.body(self._limits.body_bytes)
        began_ns = time.perf_counter_ns()
        try:
            asked, request = self._read(exchange, body, found, version)
            with exchange.watch():
                answer = await self._backend.infer(request, asked.wanted.names)
            encoded = v2.encode_response(
                answer.tensors,
                model=answer.model,
                version=answer.version,
                id=asked.id,
                parameters=answer.details,
                wanted=asked.wanted,
            )
        except EdgeRuntimeError:
            self._tally.add(found.name, found.version, time.perf_counter_ns() - began_ns, ok=False)
            raise
        self._tally.add(answer.model, answer.version, time.perf_counter_ns() - began_ns, ok=True)
        extra = headers.of_details(answer.details)
        extra[headers.VERSION] = headers.safe(answer.version)
        if encoded.header_length is None:
            return Reply(encoded.body, headers=extra)
        extra[v2.HEADER_LENGTH] = str(encoded.header_length)
        return Reply(encoded.body, 200, _OCTETS, extra)

    def _read(
        self, exchange: Exchange, body: bytes, found: ModelDescription, version: str | None
    ) -> tuple[v2.InferRequest, Request]:
        length = v2.header_length_of(exchange.headers.get(v2.HEADER_LENGTH), len(body))
        # A model that is served behind this door may not be known here: whoever runs it compares.
        asked = self._heads.decode_request(
            body, length, inputs=found.inputs or None, outputs=found.outputs or None
        )
        request = request_for(
            exchange,
            found.name,
            asked.tensors,
            version=version,
            timeout_s=asked.timeout_s,
            priority=None if asked.priority is None else asked.priority - 1,  # v2 counts from 1
            parameters=asked.parameters,
        )
        return asked, request

    async def index(self, exchange: Exchange) -> Reply:
        """List every model and version; a body is not needed, and `{"ready": true}` leaves out all others."""
        body = await exchange.body(self._limits.body_bytes)
        ready = (json_document.read_object(body) if body.strip() else {}).get("ready", False)
        if not isinstance(ready, bool):
            raise InputError("'ready'", expected="true or false", got=kind_of(ready))
        states = self._backend.index()
        return _json([_state(state) for state in states if not ready or state.state == READY])

    async def load(self, exchange: Exchange, model: str) -> Reply:
        """Load a model, or the version that `parameters.version` names.

        All else in the body is read over: models come from the repository, not over this wire.
        """
        parameters = await self._change_parameters(exchange)
        if "version" in parameters:
            await load_version(self._backend, model, parameters["version"])
        else:
            await self._backend.load(model)  # not ended halfway when the caller goes away
        return _json({})

    async def unload(self, exchange: Exchange, model: str) -> Reply:
        """Unload a model; the body is read over."""
        await self._change_parameters(exchange)
        await self._backend.unload(model)
        return _json({})

    async def _change_parameters(self, exchange: Exchange) -> Document:
        body = await exchange.body(self._limits.body_bytes)
        parameters = json_document.read_object(body).get("parameters") if body.strip() else None
        if not parameters or not json_document.is_object(parameters):
            return {}
        refused = [name for name in parameters if name == "config" or name.startswith("file:")]
        if refused:
            raise InputError(
                f"parameter '{refused[0][:80]}'",
                expected="none: a model comes with its settings from the repository",
                got=kind_of(parameters[refused[0]]),
            )
        return parameters

    async def stats(self, _: Exchange, model: str | None = None, version: str | None = None) -> Reply:
        """Tell how many requests were answered, and how long it took."""
        if model is not None:
            self._backend.describe(model, version)
        return _json({"model_stats": self._tally.document(model, version)})


async def load_version(backend: Backend, model: str, version: object) -> None:
    """Load one version of a model.

    Args:
        backend: Whose.
        model: Its name.
        version: As a caller wrote it.

    Raises:
        InputError: It is no string, or the backend loads no versions one by one.
        EdgeRuntimeError: As the backend raises it.
    """
    if not isinstance(version, str) or not version:
        raise InputError("parameter 'version'", expected="a string", got=kind_of(version))
    if not isinstance(backend, VersionLoader):
        raise InputError("parameter 'version'", expected="none: each model has one version here", got=version)
    await backend.load_version(model, version)


def ready_state(backend: Backend, model: str, version: str | None) -> ModelState:
    """Find a model that answers, here or behind this door.

    Raises:
        UnknownModelError: There is none of that name and version, or it is not loaded.
    """
    known = [state for state in backend.index() if state.name == model and version in {None, state.version}]
    for state in known:
        if state.state == READY:
            return state
    raise UnknownModelError(
        f"model '{headers.safe(model)}'" if version is None else f"version of model '{headers.safe(model)}'",
        expected="a model that is ready" if version is None else "a version that is ready",
        got=f"{known[0].state} {known[0].reason}".strip() if known else version or "an unknown name",
    )


def _probe(path: str, handler: Handler, summary: str) -> Way:
    return Way("GET", path, handler, summary, "Health", answer=schemas.FLAG, needs_token=False)


def _json(document: Any) -> Reply:
    return Reply(json_document.write(document))


def _spec(spec: TensorSpec) -> Document:
    return {
        "name": spec.name,
        "datatype": V2_DATATYPES.get(spec.dtype, spec.dtype.upper()),
        "shape": [-1 if length is None else length for length in spec.shape],
    }


def _state(state: ModelState) -> Document:
    return {"name": state.name, "version": state.version, "state": state.state, "reason": state.reason}
