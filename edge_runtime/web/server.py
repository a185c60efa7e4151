"""A door on a port: uvicorn in a thread of its own, for a process that has other things to do.

The only module that imports uvicorn. Answers nothing itself.
"""

import asyncio
import os
import socket
import threading
from types import TracebackType
from typing import Any

from edge_runtime.contract.errors import ConfigError, RemoteError
from edge_runtime.web.door import Application

try:
    import uvicorn
except ImportError:  # only the extra `web` brings it
    uvicorn = None
try:
    import uvloop
except ImportError:  # faster where it is installed
    uvloop = None

_BACKLOG = 2048
_DRAIN_S = 10


class Server:
    """Serves an application from `start` to `stop`; also a context manager.

    Args:
        application: ASGI 3.
        host: Address or name to listen on.
        port: 0: any that is free.
        drain_s: How long requests under way may take when it stops.
        what: It is, for messages: the block of the settings that has its address.

    Raises:
        ConfigError: uvicorn is not installed.
    """

    def __init__(
        self, application: Application, *, host: str, port: int, drain_s: int = _DRAIN_S, what: str = "door"
    ) -> None:
        if uvicorn is None:
            raise ConfigError("the HTTP door needs uvicorn", do="Install it: pip install 'edge-runtime[web]'")
        self._host = host
        self._port = port
        self._drain_s = drain_s
        self._what = what
        settings: Any = uvicorn.Config(
            application,
            interface="asgi3",
            ws="none",
            proxy_headers=False,
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=drain_s,
        )
        self._server = uvicorn.Server(settings)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once it does."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, for a client on this machine."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Listen, and return when requests are answered.

        Raises:
            RemoteError: The address cannot be listened on.
        """
        listener = self._listen()
        self._socket = listener
        self._port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(listener,), name=self._what, daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise RemoteError(
                f"{self._what} {self._host}:{self._port}", retryable=False, got=str(self._failure)[:200]
            ) from self._failure

    def stop(self) -> None:
        """Take no more requests, wait for those under way, and return."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(self._drain_s + 5)
            self._thread = None
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self) -> socket.socket:
        try:
            family = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            # Accepted sockets inherit it; asyncio sets it only where the protocol was named.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                if os.name == "posix":  # elsewhere it would let two servers share a port
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((self._host, self._port))
                listener.listen(_BACKLOG)
            except OSError:
                listener.close()
                raise
        except OSError as error:
            raise RemoteError(
                f"{self._what} {self._host}:{self._port}",
                retryable=False,
                expected="an address of this machine that is free",
                got=error.strerror or str(error),
                do=f"Set another {self._what}.port, or stop what listens there",
            ) from error
        return listener

    def _serve(self, listener: socket.socket) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop is not None else None) as runner:
                runner.run(self._run(listener))
        except BaseException as error:  # noqa: BLE001 - handed to whoever starts it
            self._failure = error
        finally:
            self._started.set()

    async def _run(self, listener: socket.socket) -> None:
        serving = asyncio.ensure_future(self._server.serve(sockets=[listener]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        self._started.set()
        await serving
