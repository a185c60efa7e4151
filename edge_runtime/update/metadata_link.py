"""How signed metadata is fetched: whole, not longer than allowed, and within a time that nobody can stretch.

Checks no signature: `edge_runtime.update.metadata` has python-tuf do that.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient.fetcher import FetcherInterface

from edge_runtime.update.address import is_safe

_LARGEST_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long metadata may take.

    Args:
        total_s: All files of one look together.
        stall_s: Without a byte.
    """

    total_s: float = 300.0
    stall_s: float = 30.0


@dataclass
class Link(FetcherInterface):
    """Fetches the files of one look over one client.

    Args:
        client: Of this look.
        runner: Runs it.
        deadlines: The total begins now.
        last: The role whose file was asked for last.
        content: What came last.
    """

    client: httpx.AsyncClient
    runner: asyncio.Runner
    deadlines: Deadlines
    last: str = ""
    content: bytes = b""
    _until_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._until_s = time.monotonic() + self.deadlines.total_s

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.download_bytes(url, _LARGEST_BYTES),))

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Fetch a file, into memory.

        Args:
            url: Where it is.
            max_length: Longest that is taken, in bytes.

        Raises:
            DownloadError: It did not come; its subclasses say why.
        """
        self.last = _role(url)
        self.content = self.runner.run(self._get(url, max_length))
        return self.content

    async def _get(self, url: str, max_length: int) -> bytes:
        left_s = self._until_s - time.monotonic()
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                return await self._read(url, max_length)
        except TimeoutError as error:
            raise SlowRetrievalError(f"{url}: not whole after {self.deadlines.total_s:g} s") from error
        except httpx.TimeoutException as error:
            raise SlowRetrievalError(f"{url}: nothing came for {self.deadlines.stall_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"{url}: {error or type(error).__name__}") from error

    async def _read(self, url: str, max_length: int) -> bytes:
        headers = {"Accept-Encoding": "identity"}
        stall = httpx.Timeout(self.deadlines.stall_s)
        async with self.client.stream("GET", url, headers=headers, timeout=stall) as response:
            if response.status_code != 200:
                raise DownloadHTTPError(f"{url}: status {response.status_code}", response.status_code)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise DownloadError(f"{url}: coded as {response.headers['Content-Encoding']}")
            content = bytearray()
            async for block in response.aiter_raw():
                content += block
                if len(content) > max_length:
                    raise DownloadLengthMismatchError(f"{url}: longer than {max_length:,} bytes")
            return bytes(content)


@contextmanager
def linked(client: Callable[[], httpx.AsyncClient], deadlines: Deadlines) -> Generator[Link]:
    """Give the link of one look."""
    with asyncio.Runner() as runner:
        opened = client()
        opened.event_hooks["request"] = [*opened.event_hooks["request"], _check_address]
        try:
            yield Link(opened, runner, deadlines)
        finally:
            runner.run(opened.aclose())


def _role(url: str) -> str:
    """Read the role in `…/12.model.detector.json`."""
    name = url.rpartition("/")[2].removesuffix(".json")
    version, _, role = name.partition(".")
    return role if version.isdigit() else name


async def _check_address(request: httpx.Request) -> None:
    """Follow no redirect to an address that anybody could answer for."""
    if not is_safe(request.url):
        raise DownloadError(f"{request.url}: no https")
