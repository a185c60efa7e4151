"""What a person does in the console: log in and out, begin a rollout, move one, have a device do something.

Every form carries its session's word; what cannot be taken back is asked for twice.
"""

import base64
import binascii
import secrets
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Form, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError

from cloud_fallback.fleet import quantities
from cloud_fallback.fleet.console import figures
from cloud_fallback.fleet.console.doors import (
    BEFORE_LOGIN,
    COOKIE,
    Acting,
    Looking,
    Page,
    Visit,
    begin,
    deps_of,
    refused_login,
    remember,
    same_site,
)
from cloud_fallback.fleet.console.rendering import render
from cloud_fallback.fleet.console.session import Seal
from cloud_fallback.fleet.refusals import NotThereError
from cloud_fallback.fleet.selector import parse
from cloud_fallback.fleet.views import DeploymentNew, MoveName
from edge_runtime.contract.deployment import Pace, Thresholds
from edge_runtime.contract.errors import ConfigError, EdgeRuntimeError, QuotaError, UnauthorizedError
from edge_runtime.contract.fleet import Reply

COMMANDS = ("report", "snapshot", "restart-pipeline")
FORM = {
    "release": "", "id": "", "to": "all", "canary": "5%", "waves": "5%,25%,100%", "soak": "1h",
    "timeout": "2h", "window": "", "fail": "5%", "approve": "", "on_halt": "revert",
}  # fmt: skip
"""The fields of the form that begins a rollout, and what stands in them at first."""

router = APIRouter(
    prefix="/console", route_class=Page, include_in_schema=False, default_response_class=HTMLResponse
)
Text = Annotated[str, Form(max_length=2000)]


@router.get("/login")
def login_page(request: Request) -> Response:
    """Ask for a token."""
    return _login_page(request, 200, "")


@router.post("/login")
def login(request: Request, token: Annotated[str, Form(max_length=400)] = "", word: Text = "") -> Response:
    """Take a token and make a session of it."""
    same_site(request)
    deps = deps_of(request)
    nonce = request.cookies.get(BEFORE_LOGIN, "")
    if not nonce or not Seal(deps.key).fits(word, nonce):
        return _login_page(request, 400, "That page was too old. Please try again.")
    try:
        address = request.client.host if request.client else "unknown"
        person = deps.data.log_in(token.strip(), address)
    except (UnauthorizedError, QuotaError) as error:
        text = "That token is not good." if isinstance(error, UnauthorizedError) else str(error)
        return _login_page(request, refused_login(error), text)
    response = RedirectResponse("/console", 303)
    remember(response, deps, COOKIE, Seal(deps.key).cookie(begin(deps, person)))
    response.delete_cookie(BEFORE_LOGIN, path="/console")
    return response


def _login_page(request: Request, status: int, problem: str) -> Response:
    deps, nonce = deps_of(request), secrets.token_urlsafe(16)
    page = render(
        "login.html",
        problem=problem,
        word=Seal(deps.key).word(nonce),
        tenant=deps.tenant,
        person=None,
        here="",
    )
    response = HTMLResponse(page, status)
    remember(response, deps, BEFORE_LOGIN, nonce)
    return response


@router.post("/logout")
def logout(_: Acting) -> Response:
    """End a session in this browser."""
    response = RedirectResponse("/console/login", 303)
    response.delete_cookie(COOKIE, path="/console")
    return response


@router.get("/new")
def new_page(visit: Looking, release: str = "") -> Response:
    """Show the form that begins a rollout."""
    visit.require("operator")
    return _form(visit, {**FORM, "release": release}, "")


@router.post("/new")
async def new(request: Request, visit: Acting) -> Response:
    """Begin a rollout, or show the form again with what is wrong about it."""
    visit.require("operator")
    sent = await request.form()
    values = {key: str(sent.get(key, "")).strip()[:2000] for key in FORM}
    return await run_in_threadpool(_begin, visit, values)


def _begin(visit: Visit, values: dict[str, str]) -> Response:
    try:
        id_ = visit.data.deploy(visit.person.name, _deployment(visit, values))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{each}: " for each in first["loc"][:1])
        return _form(visit, values, place + first["msg"].removeprefix("Value error, "))
    except EdgeRuntimeError as error:
        return _form(visit, values, str(error))
    return RedirectResponse(f"/console/deployments/{id_}", 303)


def _deployment(visit: Visit, values: dict[str, str]) -> DeploymentNew:
    release = next((each for each in visit.data.releases() if each.target == values["release"]), None)
    if release is None:
        raise ConfigError("release", expected="one that is published", got=repr(values["release"]))
    duration_s = quantities.duration_s
    document: dict[str, Any] = {
        "id": values["id"] or None,
        "kind": release.kind,
        "name": release.name,
        "version": release.version,
        "selector": str(parse(values["to"])),
        "waves": quantities.waves(
            values["waves"] or None, values["canary"] or None, approve_after_canary=bool(values["approve"])
        ),
        "window": quantities.window(values["window"]) if values["window"] else None,
        "thresholds": Thresholds(failure=quantities.share(values["fail"], "fail")),
        "pace": Pace(
            soak_s=duration_s(values["soak"], "soak"), timeout_s=duration_s(values["timeout"], "timeout")
        ),
        "on_halt": values["on_halt"],
    }
    return DeploymentNew.model_validate(document)


def _form(visit: Visit, values: dict[str, str], problem: str) -> Response:
    status = 400 if problem else 200
    releases = [each for each in visit.data.releases() if each.withdrawn_at is None]
    return visit.page("new.html", "deployments", status, values=values, problem=problem, releases=releases)


@router.get("/deployments/{id_}/{move}")
def move_page(id_: str, move: str, visit: Looking) -> Response:
    """Ask whether a rollout is really to be moved, and say what that does."""
    visit.require("operator")
    one, wanted = visit.data.deployment(id_), _move(move)
    possible = wanted in figures.allowed(one.phase)
    return visit.page("move.html", "deployments", one=one, move=wanted, possible=possible)


@router.post("/deployments/{id_}/{move}")
def move(id_: str, move: str, visit: Acting, reason: Annotated[str, Form(max_length=1000)] = "") -> Response:
    """Move a rollout."""
    visit.require("operator")
    visit.data.move(visit.person.name, id_, _move(move), reason.strip())
    return RedirectResponse(f"/console/deployments/{id_}", 303)


def _move(text: str) -> MoveName:
    for each in figures.MOVES:
        if each == text:
            return each
    raise NotThereError("move", expected=f"one of {', '.join(get_args(MoveName))}", got=repr(text))


@router.post("/devices/{name}/commands")
def command(
    name: str,
    visit: Acting,
    command: Annotated[str, Form(max_length=40)],
    camera: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Have a device do something, and show its answer on its page."""
    visit.require("operator")
    if command not in COMMANDS:
        raise NotThereError("command", expected=f"one of {', '.join(COMMANDS)}", got=repr(command))
    device = visit.data.device(name)
    arguments = {"camera": camera.strip()} if camera.strip() else {}
    try:
        reply = _answer(command, visit.data.command(visit.person.name, name, command, arguments))
    except EdgeRuntimeError as error:
        reply = {"command": command, "ok": False, "text": str(error), "picture": ""}
    events = visit.data.events(name, None, 30)
    return visit.page("device.html", "devices", device=device, events=events, reply=reply)


def _answer(command: str, reply: Reply) -> dict[str, object]:
    """Take apart what a device answered; a picture is shown only if it is a JPEG."""
    picture = reply.result.get("jpeg_base64")
    text = " ".join(part for part in (reply.code, reply.detail) if part)
    shown = ""
    if isinstance(picture, str):
        try:
            shown = picture if base64.b64decode(picture, validate=True).startswith(b"\xff\xd8\xff") else ""
        except binascii.Error:
            shown = ""
        text = text or ("" if shown else "The device sent no picture.")
    return {"command": command, "ok": reply.ok, "text": text, "picture": shown}
