"""The stream of changes, as server-sent events: what changed, not how; whoever wants to know asks.

A reader that is slow misses nothing it needs: changes of the same thing are told once.
"""

import json
import time
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from cloud_fallback.fleet.api import auth
from cloud_fallback.fleet.api.manager import Here, Manager
from cloud_fallback.fleet.watch import Watch
from edge_runtime.contract.errors import OverloadedError, UnauthorizedError

router = APIRouter(tags=["records"])

_LOOK_S = 0.2
_AT_ONCE = 500
_BEAT_S = 15.0
_CHECK_S = 60.0
"""A token that was taken back loses its stream within this."""
_RETRY_S = 5.0


@router.get("/v1/watch", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
def watch(request: Request, here: Here, _: auth.Viewer) -> StreamingResponse:
    """Stream changes: `event: change`, `data: {"kind": …, "id": …}`, and a comment now and then."""
    if here.watching.available_tokens < 1:
        raise OverloadedError(
            "watchers", retry_after_s=_RETRY_S, got=f"{here.watching.total_tokens:g} streams"
        )
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    secret, address = auth.bearer(request), auth.address_of(request)
    stream = _stream(here, secret, address)
    return StreamingResponse(stream, headers=headers, media_type="text/event-stream")


async def _stream(here: Manager, secret: str, address: str) -> AsyncIterator[str]:
    async with here.watching:
        here.metrics.watchers.inc()
        try:
            with here.operator.watch() as changes:
                yield "retry: 2000\n\n"
                beat = check = time.monotonic()
                while not here.stopping.is_set():
                    now = time.monotonic()
                    if now - check > _CHECK_S and not await _still_good(here, secret, address):
                        return
                    told = _told(changes)
                    if told or now - beat > _BEAT_S:
                        beat = now
                        yield told or ": still here\n\n"
                    check = now if now - check > _CHECK_S else check
                    await anyio.sleep(_LOOK_S)
        finally:
            here.metrics.watchers.dec()


def _told(changes: Watch) -> str:
    """Write all that has changed since, each thing once."""
    seen: dict[tuple[str, str], None] = {}
    while len(seen) < _AT_ONCE and (change := changes.get(0)) is not None:
        seen[change.kind, change.id] = None
    return "".join(f"event: change\ndata: {json.dumps({'kind': kind, 'id': id_})}\n\n" for kind, id_ in seen)


async def _still_good(here: Manager, secret: str, address: str) -> bool:
    try:
        await anyio.to_thread.run_sync(here.gate.caller, secret, address)
    except UnauthorizedError:
        return False
    return True
