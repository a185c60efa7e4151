"""The one HTTP door: an ASGI 3 application over a `Backend`, for the device and for the cloud.

Speaks Open Inference Protocol v2 with binary tensors, `/v1/predict`, and OpenAI's text routes. Runs no model,
opens no socket (`server` does), and uses no framework: parsing is a good part of what a small model costs.
"""

from collections.abc import Awaitable, Callable, Sequence

from edge_runtime.protocol import json_document
from edge_runtime.protocol.backend import Backend
from edge_runtime.protocol.headers import Metadata
from edge_runtime.protocol.limits import DEFAULT_LIMITS, Limits
from edge_runtime.web import openapi
from edge_runtime.web.access import Access
from edge_runtime.web.exchange import Exchange, Receive, Reply, Scope, Send, Stream
from edge_runtime.web.failures import no_such_path, other_method, reply_to
from edge_runtime.web.openai_routes import OpenAIRoutes
from edge_runtime.web.predict_routes import LateAnswers, NoLateAnswers, PredictRoutes
from edge_runtime.web.routing_table import Table, Way
from edge_runtime.web.tensor_routes import TensorRoutes
from edge_runtime.web.watch import Gone, Lookout

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Admit = Callable[[Metadata, str], None]


class Door:
    """Answers HTTP requests by a backend.

    Args:
        backend: Who answers.
        limits: What is taken.
        access: What a caller has to show.
        admit: Called with what a caller says and the path it wants, before its body is read, on every route
            but health; raises what is to be answered instead (`UnauthorizedError`, `QuotaError`).
        late: Where late answers are found.
        otherwise: An application for all other paths; None: they are 404.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits = DEFAULT_LIMITS,
        *,
        access: Access | None = None,
        admit: Admit | None = None,
        late: LateAnswers | None = None,
        otherwise: Application | None = None,
    ) -> None:
        self._access = access or Access()
        self._admit = admit
        self._otherwise = otherwise
        self._lookout = Lookout(limits.body_s)
        ways = [
            *TensorRoutes(backend, limits).ways(),
            *PredictRoutes(backend, limits, late or NoLateAnswers()).ways(),
            *OpenAIRoutes(backend, limits).ways(),
        ]
        schema = Way(
            "GET", "/openapi.json", self.openapi, "Describe these routes", "Health", needs_token=False
        )
        self._table = Table([*ways, schema])
        self._openapi = openapi.document(self._table.ways, needs_token=bool(self._access.token or admit))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's event as ASGI says."""
        if scope["type"] != "http":
            await _other_scope(self._otherwise, scope, receive, send)
            return
        found = self._table.find(scope["method"], scope["path"])
        if isinstance(found, frozenset) and not found and self._otherwise is not None:
            await self._otherwise(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._lookout)
        try:
            await self._answer(exchange, found)
        except Gone:
            return

    @property
    def ways(self) -> Sequence[Way]:
        """All routes."""
        return self._table.ways

    async def openapi(self, _: Exchange) -> Reply:
        """Describe the routes."""
        return Reply(json_document.write(self._openapi))

    async def _answer(self, exchange: Exchange, found: tuple[Way, list[str]] | frozenset[str]) -> None:
        openai = exchange.path.startswith("/v1/") and not exchange.path.startswith(
            ("/v1/predict", "/v1/answers")
        )
        try:
            self._access.check_host(exchange.headers)
            if isinstance(found, frozenset):
                refusal = other_method(exchange.method, found) if found else no_such_path(exchange.path)
                await exchange.reply(refusal)
                return
            way, names = found
            openai = way.openai
            exchange.read_metadata()
            if way.needs_token:
                self._access.check_token(exchange.metadata)
                if self._admit is not None:
                    self._admit(exchange.metadata, exchange.path)
            answer = await way.handler(exchange, *names)
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001 - the door is where every error ends
            await exchange.reply(reply_to(error, openai=openai))
            return
        await _send(exchange, answer)


async def _send(exchange: Exchange, answer: Reply | Stream) -> None:
    if isinstance(answer, Reply):
        await exchange.reply(answer)
        return
    try:
        with exchange.watch():
            await exchange.stream(answer)
    finally:
        await answer.pieces.aclose()
    await exchange.end()


async def _other_scope(otherwise: Application | None, scope: Scope, receive: Receive, send: Send) -> None:
    if otherwise is not None:
        await otherwise(scope, receive, send)
    elif scope["type"] == "lifespan":
        for _ in range(2):
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
