"""Routes about what happened and who may do what: overview, events, the audit log, tokens."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.api import auth
from cloud_fallback.fleet.api.manager import Here
from cloud_fallback.fleet.database import audit, events, people
from cloud_fallback.fleet.database.overview import overview
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.views import AuditView, EventView, Overview, TokenNew, TokenView
from edge_runtime.contract.errors import InputError
from edge_runtime.contract.fleet import Time
from edge_runtime.contract.task import Declared

router = APIRouter(tags=["records"])

_MOST = 2**53
_LONGEST_S = 100 * 366 * 86400.0


class EventQuery(Declared):
    """Which events, and from where on."""

    device: str | None = Field(default=None, max_length=64)
    deployment: str | None = Field(default=None, max_length=64)
    after: int = Field(default=0, ge=0, le=_MOST)
    limit: int = Field(default=100, ge=1, le=1000)


class EventPage(Declared):
    """Events, the oldest first."""

    events: tuple[EventView, ...]
    next: int | None


class AuditQuery(Declared):
    """From where on."""

    after: int = Field(default=0, ge=0, le=_MOST)
    limit: int = Field(default=100, ge=1, le=1000)


class AuditPage(Declared):
    """Lines of the audit log, the oldest first."""

    audit: tuple[AuditView, ...]
    next: int | None


class AuditChecked(Declared):
    """Whether the chain of the audit log holds."""

    ok: bool
    broken_at: int | None = Field(description="number of the first line that is not as it was written")


class TokenMade(Declared):
    """A token; its secret is shown this once."""

    token: str
    expires: Time | None
    view: TokenView


class TokenPage(Declared):
    """All tokens."""

    tokens: tuple[TokenView, ...]


@router.get("/v1/overview")
def show_overview(here: Here, _: auth.Viewer) -> Overview:
    """Show the fleet at a glance."""
    with here.database.read() as tx:
        return overview(tx)


@router.get("/v1/events")
def list_events(here: Here, _: auth.Viewer, query: Annotated[EventQuery, Query()]) -> EventPage:
    """List what happened on devices and in rollouts."""
    with here.database.read() as tx:
        found = events.listing(tx, query.device, query.deployment, query.after, query.limit + 1)
    page = found[: query.limit]
    return EventPage(events=tuple(page), next=page[-1].n if len(found) > query.limit else None)


@router.get("/v1/audit")
def list_audit(here: Here, _: auth.Viewer, query: Annotated[AuditQuery, Query()]) -> AuditPage:
    """List who did what."""
    with here.database.read() as tx:
        found = audit.listing(tx, query.after, query.limit + 1)
    page = found[: query.limit]
    return AuditPage(audit=tuple(page), next=page[-1].n if len(found) > query.limit else None)


@router.get("/v1/audit/verify")
def verify_audit(here: Here, _: auth.Viewer) -> AuditChecked:
    """Check the whole chain."""
    with here.database.read() as tx:
        broken_at = audit.verify(tx)
    return AuditChecked(ok=broken_at is None, broken_at=broken_at)


@router.get("/v1/tokens")
def list_tokens(here: Here, _: auth.Admin) -> TokenPage:
    """List tokens, without their secrets."""
    with here.database.read() as tx:
        return TokenPage(tokens=tuple(people.listing(tx)))


@router.post("/v1/tokens", status_code=201)
def make_token(body: TokenNew, here: Here, caller: auth.Admin) -> TokenMade:
    """Make a token."""
    secret, now_s = auth.new_secret(auth.TOKEN), here.now_s()
    if body.expires_s is not None and body.expires_s > _LONGEST_S:
        raise InputError("expires_s", expected=f"at most {_LONGEST_S:.0f}", got=f"{body.expires_s:g}")
    expires_s = None if body.expires_s is None else now_s + body.expires_s
    with here.database.begin() as tx:
        view = people.create(
            tx, body.name, body.role, auth.digest_of(secret), by=caller.name, now_s=now_s, expires_s=expires_s
        )
        audit.write(tx, caller.name, "token.create", body.name, f"role {body.role}", now_s)
    return TokenMade(token=secret, expires=view.expires_at, view=view)


@router.delete("/v1/tokens/{id}", status_code=204)
def revoke_token(
    id: Annotated[int, Path(ge=1, le=_MOST)],  # noqa: A002, its name in the path
    here: Here,
    caller: auth.Admin,
) -> None:
    """Take a token back; the last one of an admin stays."""
    now_s = here.now_s()
    with here.database.begin() as tx:
        good = [each for each in people.listing(tx) if _is_good(each, now_s)]
        mine = next((each for each in good if each.id == id), None)
        if mine is not None and [each.id for each in good if each.role == "admin"] == [id]:
            raise ConflictError(
                f"token '{mine.name}'",
                code="last-admin",
                expected="another token of an admin beside it",
                got="none",
                do="Make one first: edge-runtime fleet tokens create --role admin",
            )
        view = people.revoke(tx, id, now_s)
        if view is None:
            raise NotThereError("token", expected="one that is there", got=str(id))
        audit.write(tx, caller.name, "token.revoke", view.name, f"role {view.role}", now_s)


def _is_good(view: TokenView, now_s: float) -> bool:
    return view.revoked_at is None and (view.expires_at is None or now_s < moments.seconds(view.expires_at))
