"""The endpoint on its ports, from start to drained: HTTP by uvicorn, gRPC beside it on the same event loop.

Answers nothing itself. The first SIGTERM or Ctrl-C drains: no new connections, requests under way are
answered; the second ends at once.
"""

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import uvicorn
from prometheus_client import disable_created_metrics
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cloud_fallback.listening import DrainingServer, listen
from cloud_fallback.serving.app import App, make_app
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.contract.errors import BundleError, RemoteError
from edge_runtime.protocol.backend import Backend
from edge_runtime.web.joined import Joined

try:
    import uvloop
except ImportError:  # it has no wheels for Windows
    uvloop = None

log = logging.getLogger(__name__)

_SWITCH_S = 0.0005
"""A thread that comes back from an engine waits this long for the event loop's, at most. Python's 5 ms would
be taken for the model's time."""
_COLLECT_EVERY = 10_000
"""New objects between two looks for garbage in circles, of which requests leave next to none. At Python's 700
the looking was a twelfth of what a tiny request costs."""
_READY = "READY"


@dataclass(frozen=True, slots=True)
class ServedLine:
    """A version of the repository, for a person.

    Args:
        model: Its name.
        version: Of it.
        state: As v2's repository index has it.
        kind: The task; empty where it is not ready.
        platform: Format and engine; empty where it is not ready.
        reason: Why it is not ready.
    """

    model: str
    version: str
    state: str
    kind: str = ""
    platform: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and where.

    Args:
        url: For HTTP.
        grpc: `host:port`; empty: no gRPC.
        models: Every version of the repository.
    """

    url: str
    grpc: str
    models: Sequence[ServedLine]


def run(settings: ServeSettings, told: Callable[[Serving], None]) -> None:
    """Serve until a signal comes.

    Args:
        settings: What to serve, and how.
        told: Called once, when the models are loaded.

    Raises:
        ConfigError: The settings are wrong.
        BundleError: The repository has no model that can be served.
        RemoteError: A port is taken.
        StorageError: The repository or the state cannot be read.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_COLLECT_EVERY)
    disable_created_metrics()  # a second series for each one, with the time it began
    app = make_app(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop is not None else None) as runner:
        runner.run(_serve(app, settings, told))


class _Protocol(HttpToolsProtocol):
    """uvicorn's, before a transport that joins what it writes."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast(Any, Joined(transport, self.loop)))


async def _serve(app: App, settings: ServeSettings, told: Callable[[Serving], None]) -> None:
    listener = _listen(settings.host, settings.port)
    config: Any = uvicorn.Config(
        app,
        interface="asgi3",
        access_log=False,
        log_config=None,
        lifespan="off",
        http=_Protocol,
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.drain_s,
    )
    server = DrainingServer(config)
    # The port is open while models load: the server is alive, and says that it is not ready.
    http = asyncio.create_task(server.serve(sockets=[listener]))
    loading = asyncio.create_task(app.start())
    try:
        await asyncio.wait((http, loading), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading
            await _ready(app, settings, listener, told, http)
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        server.should_exit = True
        await asyncio.gather(http, return_exceptions=True)
        await app.stop()
        listener.close()


async def _ready(
    app: App,
    settings: ServeSettings,
    listener: socket.socket,
    told: Callable[[Serving], None],
    http: "asyncio.Task[None]",
) -> None:
    models = _lines(app.models)
    if not any(line.state == _READY for line in models):
        reasons = "; ".join(f"{line.model} {line.version}: {line.reason}" for line in models)
        raise BundleError(
            f"{settings.bundles}: no model there can be served",
            expected="at least one bundle",
            got=reasons or "none",
        )
    grpc = await _start_grpc(app, settings)
    # What is loaded stays: looking through it again and again would only delay requests.
    gc.collect()
    gc.freeze()
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    told(Serving(f"http://{host}:{port}", f"{host}:{grpc[1]}" if grpc else "", models))
    try:
        await http
    finally:
        if grpc is not None:
            await grpc[0].stop(settings.drain_s)


async def _start_grpc(app: App, settings: ServeSettings) -> tuple[Any, int] | None:
    if settings.grpc_port is None:
        return None
    # 11 MB that are taken only where they are wanted.
    from cloud_fallback.serving.grpc_door import GrpcDoor  # noqa: PLC0415

    door = GrpcDoor(app.front, app.gate, settings.limits)
    try:
        return await door.start(settings.host, settings.grpc_port)
    except RuntimeError as error:
        raise _taken(settings.host, settings.grpc_port, str(error), "--grpc-port") from error


def _lines(backend: Backend) -> list[ServedLine]:
    lines: list[ServedLine] = []
    for state in backend.index():
        if state.state == _READY:
            found = backend.describe(state.name, state.version)
            lines.append(ServedLine(state.name, state.version, state.state, found.kind, found.platform))
        else:
            lines.append(ServedLine(state.name, state.version, state.state, reason=state.reason))
    return lines


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise _taken(host, port, error.strerror or str(error), "--port") from error


def _taken(host: str, port: int, got: str, option: str) -> RemoteError:
    return RemoteError(
        f"{host}:{port}",
        retryable=False,
        expected="an address of this machine that is free",
        got=got,
        do=f"Choose another one with {option}, or stop what listens there",
    )
