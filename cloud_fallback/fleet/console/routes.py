"""The console's pages to look at. They change nothing; `actions` does."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from cloud_fallback.fleet.console import figures
from cloud_fallback.fleet.console.doors import Looking, Page
from cloud_fallback.fleet.console.rendering import STATIC, render, static
from cloud_fallback.fleet.refusals import NotThereError
from cloud_fallback.fleet.selector import parse
from edge_runtime.contract.errors import ConfigError

PAGE = 50
STATES = ("online", "offline", "trouble", "revoked")
_CURVE_MAX = 2000
"""Devices of a rollout for which its curve is drawn; of more, the waves' counts have to do."""
_BAD = ("failed", "timed-out", "regressed", "stuck")

router = APIRouter(
    prefix="/console", route_class=Page, include_in_schema=False, default_response_class=HTMLResponse
)


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """Give a file that pages need."""
    if name not in STATIC:
        raise NotThereError("file", expected="one of this console", got=repr(name))
    headers = {"cache-control": "public, max-age=604800, immutable"}
    return Response(static(name), media_type=STATIC[name], headers=headers)


@router.get("")
@router.get("/")
def overview(visit: Looking) -> Response:
    """Show the fleet at a glance."""
    fleet = visit.data.overview()
    return visit.page("overview.html", "fleet", fleet=fleet, events=visit.data.events(None, None, 10))


@router.get("/devices")
def devices(
    request: Request,
    visit: Looking,
    selector: Annotated[str, Query(max_length=2000)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    after: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """List devices."""
    problem, listed = "", []
    try:
        listed = list(
            visit.data.devices(selector.strip() or "all", state if state in STATES else "", after, PAGE + 1)
        )
    except ConfigError as error:
        problem = str(error)
    return visit.page(
        "devices.html",
        "devices",
        400 if problem else 200,
        devices=listed[:PAGE],
        more=listed[PAGE - 1].name if len(listed) > PAGE else "",
        selector=selector,
        state=state,
        states=STATES,
        after=after,
        problem=problem,
        query=request.url.query,
    )


@router.get("/devices/{name}")
def device(name: str, visit: Looking) -> Response:
    """Show a device."""
    one = visit.data.device(name)
    return visit.page(
        "device.html", "devices", device=one, events=visit.data.events(name, None, 30), reply=None
    )


@router.get("/deployments")
def deployments(visit: Looking) -> Response:
    """List rollouts."""
    return visit.page("deployments.html", "deployments", deployments=visit.data.deployments(100))


@router.get("/matching")
def matching(visit: Looking, to: Annotated[str, Query(max_length=2000)] = "") -> Response:
    """Say how many devices a selector matches, for the form."""
    try:
        count = visit.data.matching(str(parse(to)))
        text = "1 device matches now." if count == 1 else f"{count} devices match now."
    except ConfigError as error:
        text = str(error)
    return HTMLResponse(render("matching.html", text=text))


@router.get("/deployments/{id_}")
def deployment(id_: str, visit: Looking) -> Response:
    """Show a rollout."""
    one = visit.data.deployment(id_)
    failures = [each for standing in _BAD for each in visit.data.members(id_, standing, 50)]
    small = sum(wave.devices for wave in one.waves) <= _CURVE_MAX
    return visit.page(
        "deployment.html",
        "deployments",
        one=one,
        failures=failures,
        held=visit.data.held(id_, 50) if one.held else [],
        curve=figures.curve(visit.data.members(id_, None, _CURVE_MAX)) if small else None,
        moves=figures.allowed(one.phase) if visit.person.may("operator") else [],
        events=visit.data.events(None, id_, 20),
    )


@router.get("/releases")
def releases(visit: Looking) -> Response:
    """List what is published."""
    return visit.page("releases.html", "releases", releases=visit.data.releases())


@router.get("/events")
def events(visit: Looking) -> Response:
    """List what happened."""
    return visit.page("events.html", "events", events=visit.data.events(None, None, 200))


@router.get("/audit")
def audit(visit: Looking, before: Annotated[int | None, Query(ge=1)] = None) -> Response:
    """Show who did what, and whether the log is whole."""
    lines = visit.data.audit(before, PAGE)
    broken = visit.data.audit_broken_at()
    more = lines[-1].n if lines and lines[-1].n > 1 else None
    return visit.page("audit.html", "audit", lines=lines, broken=broken, more=more)
