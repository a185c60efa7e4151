"""Bytes of versions, in and out: whole files or parts of them over HTTP, streamed, never in memory at once.

A target's path leads to a digest by way of signed metadata, and the digest to the bytes. So an answer never
changes, and its digest is a strong ETag. Where they are in an object store, devices are sent there.
"""

import base64
import binascii
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import IO, Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from cloud_fallback.fleet.api import auth, ranges
from cloud_fallback.fleet.api.artifacts import BLOCK_BYTES, Incoming, Stored
from cloud_fallback.fleet.api.manager import Here, Manager
from cloud_fallback.fleet.database import audit
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from edge_runtime.contract.bundle import Sha256
from edge_runtime.contract.errors import InputError, TooLargeError
from edge_runtime.contract.task import Declared

router = APIRouter(tags=["artifacts"])

Target = Annotated[str, Path(max_length=400, description="of the TUF repository")]
_BINARY = "application/octet-stream"
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9][A-Za-z0-9._+-]*)+")
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]{44}):\s*(?:,|$)")
_PARAMETERS = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
    for name in ("Range", "If-Range", "If-None-Match")
]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The part that was asked for", "content": {_BINARY: {}}},
    304: {"description": "It is the file that the caller has"},
    307: {"description": "The bytes are elsewhere"},
    416: {"description": "No such part"},
}


class Taken(Declared):
    """Bytes that are here now."""

    target: str
    sha256: Sha256
    size_bytes: int


@router.put(
    "/v1/artifacts/{target:path}",
    openapi_extra={"requestBody": {"required": True, "content": {_BINARY: {}}}},
)
async def put_artifact(target: Target, request: Request, here: Here, caller: auth.Operator) -> Taken:
    """Take the bytes of a target in; the same ones again change nothing."""
    _check_path(target)
    promised = _promised(request)
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > here.artifacts.max_bytes:
        raise TooLargeError("artifact", expected=f"at most {here.artifacts.max_bytes:,} bytes", got=told)
    run = partial(anyio.to_thread.run_sync, limiter=here.disk)
    incoming: Incoming = await run(here.artifacts.incoming)
    try:
        await _receive(request, incoming, here)
        stored = await run(_keep, here, target, incoming, promised, caller.name)
    finally:
        with anyio.CancelScope(shield=True):
            await run(incoming.drop)
    return Taken(target=target, sha256=stored.sha256, size_bytes=stored.size_bytes)


@router.api_route(
    "/artifacts/{target:path}",
    methods=["GET"],
    response_class=Response,
    responses={200: {"content": {_BINARY: {}}}, **_ANSWERS},
    openapi_extra={"parameters": _PARAMETERS},
)
@router.api_route("/artifacts/{target:path}", methods=["HEAD"], include_in_schema=False)
def get_artifact(target: Target, request: Request, here: Here, _: auth.Anybody) -> Response:
    """Give a target's bytes, or the part of them that Range asks for."""
    info = here.repository.target(target)
    if info is None:
        raise NotThereError(
            f"target {target[:200]!r}", code="target-unknown", expected="one that is signed", got="none"
        )
    etag = f'"{info.sha256}"'
    headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=31536000, immutable",
    }
    address = here.artifacts.elsewhere(info.sha256)
    if address is not None:
        here.metrics.elsewhere.inc()
        return Response(status_code=307, headers={"location": address, "cache-control": "no-store"})
    if here.artifacts.size(info.sha256) != info.size_bytes:
        raise NotThereError(
            f"target {target[:200]!r}", code="bytes-missing", expected=f"{info.size_bytes} bytes", got="none"
        )
    part = ranges.wanted(request.headers, info.size_bytes, etag)
    if part.status == 416:
        headers["content-range"] = f"bytes */{info.size_bytes}"
    elif part.status == 206:
        end = part.start + part.length - 1
        headers["content-range"] = f"bytes {part.start}-{end}/{info.size_bytes}"
    if part.status in {304, 416}:
        return Response(status_code=part.status, headers=headers)
    headers["content-length"] = str(part.length)
    if request.method == "HEAD":
        return Response(status_code=part.status, headers=headers, media_type=_BINARY)
    return StreamingResponse(
        _blocks(here, here.artifacts.open(info.sha256), part), part.status, headers, media_type=_BINARY
    )


async def _blocks(here: Manager, stream: IO[bytes], part: ranges.Slice) -> AsyncIterator[bytes]:
    run = partial(anyio.to_thread.run_sync, limiter=here.disk)
    try:
        await run(stream.seek, part.start)
        left = part.length
        while left:
            block = await run(stream.read, min(left, BLOCK_BYTES))
            if (
                not block
            ):  # shorter than its size said: the connection is cut, so that nobody takes it for whole
                raise OSError(f"{left} bytes are missing")
            left -= len(block)
            yield block
            here.metrics.sent.inc(len(block))
    finally:
        with anyio.CancelScope(shield=True):
            await run(stream.close)


async def _receive(request: Request, incoming: Incoming, here: Manager) -> None:
    """Write what comes in blocks that are worth a thread's while."""
    waiting = bytearray()
    async for piece in request.stream():
        waiting += piece
        if len(waiting) >= BLOCK_BYTES:
            await anyio.to_thread.run_sync(incoming.write, bytes(waiting), limiter=here.disk)
            here.metrics.received.inc(len(waiting))
            waiting.clear()
    if waiting:
        await anyio.to_thread.run_sync(incoming.write, bytes(waiting), limiter=here.disk)
        here.metrics.received.inc(len(waiting))


def _keep(here: Manager, target: str, incoming: Incoming, promised: str | None, who: str) -> Stored:
    signed = here.repository.target(target)
    if signed is not None and signed.sha256 != incoming.sha256:
        raise ConflictError(
            f"target {target}",
            code="other-bytes",
            expected=f"sha256 {signed.sha256}, as is signed",
            got=incoming.sha256,
            do="Publish a changed file as a new version",
        )
    known = here.artifacts.size(incoming.sha256) == incoming.size_bytes
    stored = here.artifacts.keep(incoming, promised)
    if not known:
        now_s = here.now_s()
        with here.database.begin() as tx:
            detail = f"sha256 {stored.sha256}, {stored.size_bytes} bytes"
            audit.write(tx, who, "artifact.put", target, detail, now_s)
    return stored


def _check_path(target: str) -> None:
    if _PATH.fullmatch(target) is None:
        raise InputError("target", expected="KIND/NAME/COUNTER-VERSION…", got=repr(target[:200]))


def _promised(request: Request) -> str | None:
    """Read Content-Digest (RFC 9530); None: there is none."""
    field = request.headers.get("content-digest")
    if field is None:
        return None
    found = _DIGEST.search(field)
    try:
        digest = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise InputError("Content-Digest", expected="sha-256=:BASE64:", got=repr(field[:100]))
    return digest.hex()
