"""Fetches a file over HTTPS with Range: goes on where it stopped, under a cap, with deadlines that hold.

Believes nothing: not more bytes than promised are kept, and the digest is compared by whoever takes the part
in. Does not retry: `edge_runtime.update.updater` asks again later.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.address import is_safe
from edge_runtime.update.bucket import Bucket
from edge_runtime.update.store import Part

_POLL_S = 0.5
"""How long a cancel may go unseen."""
_LATER = frozenset({408, 425, 429})
"""Refusals that pass; as do all from 500."""
_T = TypeVar("_T")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How a file is fetched.

    Args:
        chunk_bytes: Flushed to the disk together; an interruption costs at most one of them again.
        bytes_per_s: Cap; None: none.
        connect_s: To an answer's head.
        stall_s: Longest time for `least_bytes` to come.
        least_bytes: Fewer in `stall_s`, and the connection counts as dead.
    """

    chunk_bytes: int = 1 << 20
    bytes_per_s: float | None = None
    connect_s: float = 30.0
    stall_s: float = 30.0
    least_bytes: int = 4096


def new_client() -> httpx.AsyncClient:
    """Make a client for a server with a public certificate; `Downloader` takes another one for mTLS.

    The deadlines are `DownloadOptions`; the client's own is only behind them.
    """
    return httpx.AsyncClient(timeout=120.0, follow_redirects=True, max_redirects=3)


class Downloader:
    """Fetches files from one server.

    Args:
        base_url: Targets are relative to it. `https`, or `http` to this machine.
        options: How.
        client: Makes a client a fetch.

    Raises:
        ConfigError: The address is not safe.
    """

    def __init__(
        self,
        base_url: str,
        options: DownloadOptions = DownloadOptions(),
        client: Callable[[], httpx.AsyncClient] = new_client,
    ) -> None:
        self._base = base_url.rstrip("/") + "/"
        self._options = options
        self._client = client
        if not is_safe(httpx.URL(base_url)):
            raise ConfigError("downloads: address", expected="https://…", got=base_url)

    def fetch(
        self, target: str, part: Part, *, whole_again: bool, stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Fetch what is missing of a part.

        Args:
            target: Its path on the server.
            part: Takes the bytes, a chunk at a time.
            whole_again: Whether a server may ignore Range and send everything.
            stop: Asked often; where it says so, the fetch ends with what is here.

        Returns:
            Whether the part is complete.

        Raises:
            StorageError: The disk is full, read-only or broken; what is here still counts.
            UpdateFailedError: `DOWNLOAD_FAILED` (says whether it can be tried again), `DOWNLOAD_CHANGED` or
                `DOWNLOAD_NO_RANGE`.
        """
        if part.complete or stop():
            return part.complete
        return asyncio.run(
            _Fetch(self._options, urljoin(self._base, target), part, whole_again, stop).run(self._client)
        )


@dataclass(slots=True)
class _Fetch:
    options: DownloadOptions
    url: str
    part: Part
    whole_again: bool
    stop: Callable[[], bool]

    async def run(self, make: Callable[[], httpx.AsyncClient]) -> bool:
        """Ask once and keep what comes."""
        headers = {"Range": f"bytes={self.part.done_bytes}-", "Accept-Encoding": "identity"}
        etag = self.part.etag
        if self.part.done_bytes and etag and not etag.startswith("W/"):  # a weak one is not allowed there
            headers["If-Range"] = etag
        async with make() as client:
            client.event_hooks["request"] = [*client.event_hooks["request"], _check_address]
            request = client.build_request("GET", self.url, headers=headers)
            try:
                response = await self._within(client.send(request, stream=True), self.options.connect_s)
                if response is None:
                    return False
                try:
                    self._check(response)
                    await self._keep(response)
                finally:
                    await response.aclose()
            except httpx.TooManyRedirects as error:
                raise self._failed(str(error), retryable=False) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._failed(str(error) or type(error).__name__) from error
        if not self.part.complete and not self.stop():
            raise self._failed(f"{self.part.done_bytes:,} of {self.part.size_bytes:,} bytes came")
        return self.part.complete

    def _check(self, response: httpx.Response) -> None:
        """Hold the answer's head against what is here and what was promised."""
        status, done, size = response.status_code, self.part.done_bytes, self.part.size_bytes
        etag = response.headers.get("ETag")
        if status == 416 or (status in {200, 206} and done and self.part.etag and etag != self.part.etag):
            raise self._changed(f"the file {self.part.etag}", f"{etag}, status {status}")
        if status not in {200, 206}:
            raise self._failed(f"status {status}", retryable=status >= 500 or status in _LATER)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise self._failed(f"coded as {response.headers['Content-Encoding']}", retryable=False)
        if status == 200:
            if not self.whole_again:
                raise UpdateFailedError(
                    Failure.DOWNLOAD_NO_RANGE,
                    f"{self.url}: the server ignores Range",
                    expected="206",
                    got="200",
                    do="Serve artifacts with Range, or allow the whole file in the deployment",
                )
            length = response.headers.get("Content-Length", str(size))
            if length != str(size):
                raise self._changed(f"{size} bytes", length)
            if done:
                self.part.restart()
            return
        promised = f"bytes {done}-{size - 1}/{size}"
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != done or int(found[3]) != size:
            raise self._changed(promised, response.headers.get("Content-Range", "no Content-Range"))

    async def _keep(self, response: httpx.Response) -> None:
        options, etag = self.options, response.headers.get("ETag")
        blocks = response.aiter_raw()  # in no larger blocks: what waits for one is lost with the link
        bucket = Bucket(options.bytes_per_s, time.monotonic())
        waiting = bytearray()
        try:
            async for block in self._alive(blocks):
                waiting += block
                if self.part.done_bytes + len(waiting) > self.part.size_bytes:
                    waiting.clear()
                    raise self._changed(f"{self.part.size_bytes:,} bytes", "more")
                while len(waiting) >= options.chunk_bytes:
                    self.part.append(bytes(waiting[: options.chunk_bytes]), etag)
                    del waiting[: options.chunk_bytes]
                if await self._slept(bucket.take(len(block), time.monotonic())):
                    return
        finally:
            if waiting:  # also what came before an interruption
                self.part.append(bytes(waiting), etag)

    async def _alive(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Give blocks for as long as enough of them come; own pauses under the cap do not count."""
        left_s, count = self.options.stall_s, 0
        while True:
            began = time.monotonic()
            block = await self._within(_next(blocks), left_s)
            if not block:
                return
            left_s -= time.monotonic() - began
            count += len(block)
            if count >= self.options.least_bytes:
                left_s, count = self.options.stall_s, 0
            elif left_s <= 0:
                raise self._failed(f"{count} bytes in {self.options.stall_s:g} s")
            yield block

    async def _within(self, work: Coroutine[Any, Any, _T], limit_s: float) -> _T | None:
        """Wait for something for so long at most; None: it was stopped, or there was nothing."""
        task = asyncio.ensure_future(work)
        until = time.monotonic() + max(limit_s, 0.0)
        try:
            while not self.stop():
                left_s = until - time.monotonic()
                done, _ = await asyncio.wait({task}, timeout=min(max(left_s, 0.0), _POLL_S))
                if done:
                    return task.result()
                if left_s <= 0:
                    raise self._failed(f"nothing came for {limit_s:.3g} s")
            return None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _slept(self, wait_s: float) -> bool:
        """Sleep; say whether to stop."""
        until = time.monotonic() + wait_s
        while not self.stop():
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            await asyncio.sleep(min(left_s, _POLL_S))
        return True

    def _failed(self, got: str, *, retryable: bool = True) -> UpdateFailedError:
        return UpdateFailedError(Failure.DOWNLOAD_FAILED, self.url, got=got, retryable=retryable)

    def _changed(self, expected: str, got: str) -> UpdateFailedError:
        return UpdateFailedError(
            Failure.DOWNLOAD_CHANGED,
            f"{self.url}: changed on the server",
            expected=expected,
            got=got,
            do="Publish a changed file under a new name",
        )


async def _next(blocks: AsyncIterator[bytes]) -> bytes:
    return await anext(blocks, b"")


async def _check_address(request: httpx.Request) -> None:
    """Follow no redirect to an address that anybody could answer for."""
    if not is_safe(request.url):
        raise UpdateFailedError(Failure.DOWNLOAD_FAILED, "download", expected="https", got=str(request.url))
