"""How large a request's body may be and how long it may take to come, whatever route it is for.

Stands before the application, so that nothing larger is ever in memory. Uploads of artifacts, which are
streamed to a disk, have their own limit there; here only that they do not stall.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from cloud_fallback.fleet.api.problems import document

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Event, Receive, Send], Awaitable[None]]

UPLOADS = "/v1/artifacts/"
BODY_BYTES = 1 << 20
METADATA_BYTES = 5 << 20


class Bounds:
    """Passes on requests whose bodies are in bounds.

    Args:
        app: What is behind.
        stall_s: From one piece of a body to the next, at most.
    """

    def __init__(self, app: Application, stall_s: float = 30.0) -> None:
        self._app = app
        self._stall_s = stall_s

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one connection's event as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        limit = None if path.startswith(UPLOADS) and scope["method"] == "PUT" else _limit(path)
        told = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if limit is not None and told.isdigit() and int(told) > limit:
            await _too_large(scope, receive, send, limit)
            return
        await self._app(scope, _Bounded(receive, limit, self._stall_s), send)


class _Bounded:
    def __init__(self, receive: Receive, limit: int | None, stall_s: float) -> None:
        self._receive = receive
        self._stall_s = stall_s
        self._limit = limit
        self._count = 0
        self._whole = False

    async def __call__(self) -> Event:
        if self._whole:  # what is awaited now is the end of the connection
            return await self._receive()
        try:
            async with asyncio.timeout(self._stall_s):
                event = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, f"the body stalled for {self._stall_s:g} s") from error
        if event["type"] != "http.request":
            return event
        self._count += len(event.get("body", b""))
        self._whole = not event.get("more_body", False)
        if self._limit is not None and self._count > self._limit:
            raise HTTPException(413, f"a body of at most {self._limit:,} bytes is taken here")
        return event


def _limit(path: str) -> int:
    return METADATA_BYTES if path.startswith("/v1/metadata/") else BODY_BYTES


async def _too_large(scope: Event, receive: Receive, send: Send, limit: int) -> None:
    said = document("too-large", f"a body of at most {limit:,} bytes is taken here", f"at most {limit} bytes")
    await JSONResponse(said, 413, headers={"connection": "close"})(scope, receive, send)
