"""Routes by which versions are published: signed metadata in, releases written down; and TUF's files out.

What is a release is in the metadata that the family's key signed. Here is only checked that it lists it and
that the bytes are there. Bytes come and go in `transfers`.
"""

import hashlib
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.api import auth
from cloud_fallback.fleet.api.manager import Here, Manager
from cloud_fallback.fleet.database import audit, deployments, devices, releases
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.trust.state import TargetInfo
from cloud_fallback.fleet.views import ReleaseNew, ReleaseView, WithdrawalNew, WithdrawalView
from edge_runtime.contract.errors import InputError
from edge_runtime.contract.task import Declared
from edge_runtime.contract.trust import Release, place_of

router = APIRouter(tags=["publishing"])

RoleName = Annotated[
    str, Path(max_length=100, pattern=r"^[a-z0-9][a-z0-9._-]*$", description="root, targets, …")
]
_JSON = "application/json"
_OPEN_API = {"requestBody": {"required": True, "content": {_JSON: {"schema": {"type": "object"}}}}}


class ReleaseQuery(Declared):
    """Which releases, and from where on."""

    name: str | None = Field(default=None, max_length=64)
    after: str = Field(default="", max_length=400, description="target of the last one not wanted")
    limit: int = Field(default=100, ge=1, le=1000)


class ReleasePage(Declared):
    """Releases, the newest first."""

    releases: tuple[ReleaseView, ...]
    next: str | None


class MetadataTaken(Declared):
    """Metadata that the repository took."""

    role: str
    version: int


@router.put("/v1/metadata/{role}", openapi_extra=_OPEN_API)
async def put_metadata(role: RoleName, request: Request, here: Here, caller: auth.Operator) -> MetadataTaken:
    """Take what offline keys signed; whoever sends it needs no key, and can sign nothing."""
    body = await request.body()
    version = await anyio.to_thread.run_sync(_accept, here, role, body, caller.name)
    return MetadataTaken(role=role, version=version)


@router.get("/v1/metadata/{role}", response_class=Response, responses={200: {"content": {_JSON: {}}}})
def get_metadata(role: RoleName, here: Here, _: auth.Viewer) -> Response:
    """Give the newest file of a role, to be signed anew."""
    content = here.repository.current(role)
    if content is None:
        raise NotThereError(f"metadata {role}", expected="a role that has signed something", got=role)
    return Response(content, media_type=_JSON)


@router.get("/tuf/{file}", response_class=Response, responses={200: {"content": {_JSON: {}}}})
def get_signed(file: Annotated[str, Path(max_length=200)], request: Request, here: Here) -> Response:
    """Give a file of the TUF repository to anybody: it is signed, and no secret."""
    content = here.repository.read(file)
    if content is None:
        raise NotThereError(f"metadata file {file[:100]!r}", expected="one of the repository", got="none")
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    # A numbered file never changes; the timestamp is what tells of everything new.
    lasting = file.partition(".")[0].isdigit()
    headers = {"etag": etag, "cache-control": "public, max-age=86400, immutable" if lasting else "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_JSON, headers=headers)


@router.get("/v1/releases")
def list_releases(here: Here, _: auth.Viewer, query: Annotated[ReleaseQuery, Query()]) -> ReleasePage:
    """List releases, the newest first."""
    with here.database.read() as tx:
        found = releases.listing(tx, query.name, query.limit + 1, after=query.after)
    page = found[: query.limit]
    more = len(found) > query.limit
    return ReleasePage(releases=tuple(page), next=page[-1].target if more else None)


@router.post("/v1/releases", status_code=201)
def publish(body: ReleaseNew, here: Here, caller: auth.Operator) -> ReleaseView:
    """Publish a version that signed metadata lists and whose bytes are here; again changes nothing."""
    release, info = _signed(here, body.target)
    place = place_of(body.target)
    if place is None or place.version is None:
        raise InputError("target", expected="the path of a release", got=repr(body.target[:200]))
    _check_bytes(here, body.target, info.sha256, info.size_bytes)
    deltas = here.repository.deltas(body.target)
    for delta in deltas:
        _check_bytes(here, delta.target, delta.sha256, delta.size_bytes)
    now_s = here.now_s()
    new = ReleaseView(
        kind=place.kind,
        name=place.name,
        version=release.version,
        counter=release.counter,
        sha256=info.sha256,
        size_bytes=info.size_bytes,
        target=body.target,
        deltas=deltas,
        profiles=release.profiles,
        published_at=moments.text(now_s),
        published_by=caller.name,
    )
    with here.database.begin() as tx:
        known = releases.find(tx, new.kind, new.name, new.version)
        made = releases.publish(tx, new)
        if known is None:
            detail = f"sha256 {info.sha256}, {len(deltas)} patches"
            audit.write(tx, caller.name, "release.publish", body.target, detail, now_s)
    here.operator.nudge()
    return made


@router.post("/v1/releases/withdraw")
def withdraw_release(body: WithdrawalNew, here: Here, caller: auth.Operator) -> WithdrawalView:
    """Have a version rolled out no more: its rollouts halt, and there will be no new one. Again is fine."""
    now_s = here.now_s()
    reason = f"{body.name} {body.version} was withdrawn{f': {body.reason}' if body.reason else ''}"
    with here.database.begin() as tx:
        new = releases.withdraw(tx, body.kind, body.name, body.version, caller.name, body.reason, now_s)
        release = releases.must_find(tx, body.kind, body.name, body.version)
        halted = deployments.halt_all(tx, release, reason=reason, who=caller.name, now_s=now_s)
        if new:
            audit.write(tx, caller.name, "release.withdraw", release.target, body.reason, now_s)
        for each in halted:
            audit.write(tx, caller.name, "deployment.halt", each, reason, now_s)
        having = devices.having(tx, release)
    here.operator.nudge()
    return WithdrawalView(release=release, halted=tuple(halted), devices=having)


def _accept(here: Manager, role: str, body: bytes, who: str) -> int:
    now_s = here.now_s()
    version = here.repository.accept(role, body, now_s)
    # The repository keeps files by a transaction of its own, which several managers may have to try again;
    # signed metadata says itself who signed it, and a line that is missing after a kill is written when it is
    # sent again.
    with here.database.begin() as tx:
        digest = hashlib.sha256(body).hexdigest()
        audit.write(tx, who, "metadata.accept", role, f"version {version}, sha256 {digest}", now_s)
    here.operator.nudge()
    return version


def _signed(here: Manager, target: str) -> tuple[Release, TargetInfo]:
    release, info = here.repository.release(target), here.repository.target(target)
    if release is None or info is None:
        raise NotThereError(
            f"target {target[:200]!r}",
            code="target-unknown",
            expected="one that the family's metadata lists as a release",
            got="none",
            do="Send the metadata first: PUT /v1/metadata/KIND.NAME",
        )
    if release.tenant != here.settings.tenant:
        raise InputError("release: tenant", expected=here.settings.tenant, got=release.tenant)
    return release, info


def _check_bytes(here: Manager, target: str, sha256: str, size_bytes: int) -> None:
    found = here.artifacts.size(sha256)
    if found != size_bytes:
        raise ConflictError(
            f"target {target}",
            code="bytes-missing",
            expected=f"{size_bytes} bytes with sha256 {sha256}",
            got="none" if found is None else f"{found} bytes",
            do=f"Send them first: PUT /v1/artifacts/{target}",
        )
