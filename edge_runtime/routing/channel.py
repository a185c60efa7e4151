"""Channel: HTTP to one endpoint from many threads, each of which gets an answer or an error by its deadline.

One thread of its own runs all connections: what is late is cancelled there, so that a server that accepts and
says nothing, or says one byte a second, holds nobody. Knows no model and no protocol; needs the library
`httpx`, imported when a channel is made.
"""

import asyncio
import math
import queue
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError
from concurrent.futures import Future as ThreadFuture
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from edge_runtime.contract.errors import ConfigError, DeadlineError, RemoteError
from edge_runtime.routing.call import Call, CallError, Hedge, Reply
from edge_runtime.routing.retry import Failure

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")

DEADLINE_HEADER = "x-deadline-ms"
_LONGEST_ANSWER_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """An endpoint and how to use it.

    Args:
        url: `https://host[:port][/path]`.
        token: Sent as a bearer token; None: none.
        ca_file: Certificates to trust; None: the system's.
        cert_file: This device's certificate.
        key_file: Its key.
        at_once: Calls under way at the same time; more wait for their turn, within their deadline.
    """

    url: str
    token: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    at_once: int = 8


class Channel:
    """Calls one endpoint. Safe to share between threads.

    Args:
        options: Where and how.

    Raises:
        ConfigError: A certificate or key cannot be read, or the library `httpx` is missing.
    """

    def __init__(self, options: ChannelOptions) -> None:
        self.url = options.url
        self.host = urlsplit(options.url).netloc
        self._options = options
        self._httpx = _httpx()
        self._client = self._make_client(_tls(options))
        self._turns = asyncio.Semaphore(options.at_once)
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"channel {self.host}", daemon=True)
        self._thread.start()

    def exchange(self, call: Call, deadline_s: float, hedge: Hedge | None = None) -> Reply:
        """Make a call and wait for its answer, but not longer than until its deadline.

        Args:
            call: What to send. Its deadline goes along as a header.
            deadline_s: Of `time.monotonic()`.
            hedge: When to send it a second time; whichever answers first is taken, the other is cancelled.

        Raises:
            DeadlineError: There was no answer in time.
            RemoteError: The endpoint cannot be reached, or the connection broke.
        """
        answer = self._submit(self._exchange(call, deadline_s, hedge))
        try:
            return answer.result(max(0.0, deadline_s - time.monotonic()) + _GRACE_S)
        except (TimeoutError, CancelledError) as error:
            answer.cancel()
            raise self._late(deadline_s) from error

    @contextmanager
    def stream(self, call: Call, deadline_s: float) -> Generator["Stream", None, None]:
        """Make a call whose answer comes in pieces; leaving the block ends it at both ends.

        Args:
            call: What to send.
            deadline_s: Of `time.monotonic()`, for the whole answer.

        Yields:
            The answer, its status known.

        Raises:
            DeadlineError: There was no beginning in time.
            RemoteError: The endpoint cannot be reached, or the connection broke.
        """
        stream = Stream(deadline_s, self._late)
        work = self._submit(self._pump(call, deadline_s, stream))
        try:
            stream.begin()
            yield stream
        finally:
            work.cancel()

    def close(self) -> None:
        """Cancel what is under way and close all connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        self._thread.join(_CLOSING_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _shut(self) -> None:
        # What is cancelled may have begun something at that moment.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        try:
            async with asyncio.timeout(_CLOSING_S / 2):
                await self._client.aclose()
        finally:
            self._loop.stop()

    def _submit(self, work: Coroutine[Any, Any, _T]) -> ThreadFuture[_T]:
        if self._closed:
            work.close()
            raise RemoteError(f"cloud {self.host}", retryable=False, got="the channel is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _exchange(self, call: Call, deadline_s: float, hedge: Hedge | None) -> Reply:
        tries = {asyncio.create_task(self._once(call, deadline_s))}
        try:
            if hedge is not None:
                done, _ = await asyncio.wait(tries, timeout=hedge.after_s)
                if not done and hedge.may():
                    tries.add(asyncio.create_task(self._once(call, deadline_s)))
            return await _first_good(tries)
        finally:
            for one in tries:
                one.cancel()

    async def _once(self, call: Call, deadline_s: float) -> Reply:
        async with self._sent(call, deadline_s) as response:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _LONGEST_ANSWER_BYTES:
                    raise RemoteError(
                        f"cloud {self.host}: its answer",
                        retryable=False,
                        expected=f"at most {_LONGEST_ANSWER_BYTES} bytes",
                        got="more",
                    )
            return Reply(response.status_code, _lower(response), bytes(body))

    async def _pump(self, call: Call, deadline_s: float, stream: "Stream") -> None:
        try:
            async with self._sent(call, deadline_s) as response:
                stream.put(Reply(response.status_code, _lower(response), b""))
                async for piece in response.aiter_bytes():
                    stream.put(piece)
                stream.put(None)
        except RemoteError as error:
            stream.put(error)

    @asynccontextmanager
    async def _sent(self, call: Call, deadline_s: float) -> AsyncGenerator["httpx.Response"]:
        """Send within the deadline and the limit; convert what the library raises, inside the block, too."""
        try:
            async with asyncio.timeout_at(self._loop.time() + deadline_s - time.monotonic()), self._turns:
                headers = {**call.headers, **self._deadline_header(deadline_s)}
                request = self._client.stream(call.method, call.path, content=call.body, headers=headers)
                async with request as response:
                    yield response
        except TimeoutError as error:
            raise self._late(deadline_s) from error
        except (self._httpx.HTTPError, self._httpx.StreamError, OSError) as error:
            raise self._broken(error) from error

    def _deadline_header(self, deadline_s: float) -> dict[str, str]:
        left_s = deadline_s - time.monotonic()
        return {} if math.isinf(left_s) else {DEADLINE_HEADER: str(max(1, round(left_s * 1000)))}

    def _late(self, deadline_s: float) -> DeadlineError:
        over_ms = (time.monotonic() - deadline_s) * 1000
        return DeadlineError(
            f"cloud {self.host}", got=f"no answer, {max(0.0, over_ms):.0f} ms past the deadline"
        )

    def _broken(self, error: Exception) -> CallError:
        said = str(error).rstrip(".") or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in said:
            problem = f"cloud {self.host}: its certificate is not trusted"
            return CallError(Failure.UNTRUSTED, problem, got=said, do="Set `cloud.ca_file`")
        if isinstance(error, (self._httpx.ConnectError, OSError)):
            return CallError(Failure.UNREACHABLE, f"cloud {self.host} cannot be reached", got=said)
        return CallError(Failure.CUT, f"cloud {self.host}: the connection broke", got=said)

    def _make_client(self, tls: ssl.SSLContext | bool) -> "httpx.AsyncClient":
        options = self._options
        authorization = {} if options.token is None else {"authorization": f"Bearer {options.token}"}
        limits = self._httpx.Limits(
            max_connections=None, max_keepalive_connections=options.at_once, keepalive_expiry=30.0
        )
        return self._httpx.AsyncClient(
            base_url=options.url,
            headers={"user-agent": "edge-runtime", **authorization},
            verify=tls,
            http2=options.url.startswith("https:"),
            limits=limits,
            # Deadlines are the channel's own: the library's are for each read, and a slow server has many.
            timeout=None,
            follow_redirects=False,
        )


_GRACE_S = 0.05
"""The channel's thread ends what is late; only if it is too busy to, the caller leaves by itself."""

_CLOSING_S = 4.0


class Stream:
    """An answer that comes in pieces; made by `Channel.stream`, read by one thread."""

    def __init__(self, deadline_s: float, late: Callable[[float], DeadlineError]) -> None:
        self._pieces: queue.SimpleQueue[Reply | bytes | RemoteError | None] = queue.SimpleQueue()
        self._deadline_s = deadline_s
        self._late = late
        self.reply = Reply(0, {}, b"")
        """Status and headers, once begun; no body."""

    def put(self, piece: Reply | bytes | RemoteError | None) -> None:
        """Hand over what came: the beginning, a piece, an error, or the end."""
        self._pieces.put(piece)

    def begin(self) -> None:
        """Wait for status and headers.

        Raises:
            RemoteError: As `Channel.stream`.
        """
        first = self._take()
        if isinstance(first, Reply):
            self.reply = first

    def pieces(self) -> Generator[bytes, None, None]:
        """Give the body as it comes.

        Raises:
            DeadlineError: It did not end in time.
            RemoteError: The connection broke.
        """
        while isinstance(piece := self._take(), bytes):
            yield piece

    def _take(self) -> Reply | bytes | None:
        try:
            piece = self._pieces.get(timeout=max(0.0, self._deadline_s - time.monotonic()) + _GRACE_S)
        except queue.Empty:
            raise self._late(self._deadline_s) from None
        if isinstance(piece, RemoteError):
            raise piece
        return piece


async def _first_good(tries: "set[asyncio.Task[Reply]]") -> Reply:
    """Give the first answer; an error, or a server that has no room, only when none is better."""
    waiting, worse = set(tries), list["asyncio.Task[Reply]"]()
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            if one.exception() is None and one.result().status < 500:
                return one.result()
        worse += done
    return worse[0].result()


def _lower(response: "httpx.Response") -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _httpx() -> Any:
    try:
        import httpx  # noqa: PLC0415 - only who asks a cloud needs it
    except ImportError as error:
        raise ConfigError(
            "a connection to a door or a cloud needs the library httpx",
            got=str(error),
            do="Install it: pip install 'edge-runtime[web]'",
        ) from error
    return httpx


def _tls(options: ChannelOptions) -> ssl.SSLContext | bool:
    if not options.url.startswith("https:"):
        return False
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.cert_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(f) for f in (options.ca_file, options.cert_file, options.key_file) if f)
        raise ConfigError(
            f"cloud: {files}", expected="PEM certificates and a key that belongs to them", got=str(error)
        ) from error
    return context
