"""What stands before every page: who asks, whether a form is ours, errors as pages, and headers.

Holds no page. A browser runs and loads nothing here but files of this package.
"""

import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from cloud_fallback.fleet.console.ports import Deps, Person
from cloud_fallback.fleet.console.rendering import render
from cloud_fallback.fleet.console.session import LIFETIME_S, Seal, Session
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.views import Role
from edge_runtime.contract.errors import (
    ConfigError,
    EdgeRuntimeError,
    InputError,
    QuotaError,
    RefusedError,
    RemoteError,
    UnauthorizedError,
    UpdateError,
)

log = logging.getLogger(__name__)

COOKIE = "fleet_session"
BEFORE_LOGIN = "fleet_login"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_STATUS: dict[type[EdgeRuntimeError], int] = {
    NotThereError: 404,
    ConflictError: 409,
    UpdateError: 409,
    RefusedError: 403,
    QuotaError: 429,
    RemoteError: 502,
    InputError: 400,
    ConfigError: 400,
    EdgeRuntimeError: 500,
}


class LoggedOutError(Exception):
    """Nobody is logged in; the answer is the way to the login."""


class Page(APIRoute):
    """A route whose errors are pages, and whose answers have the headers above."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the framework's handler."""
        inner = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await inner(request)
            except LoggedOutError:
                response = _to_login(request)
            except EdgeRuntimeError as error:
                status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
                response = trouble(request, status, str(error))
            except RequestValidationError as error:
                first = error.errors()[0]
                response = trouble(request, 400, f"{first['loc'][-1]}: {first['msg']}")
            for name, value in HEADERS.items():
                response.headers[name] = value
            response.headers.setdefault("cache-control", "no-store")
            return response

        return answer


def deps_of(request: Request) -> Deps:
    """Find what the console of a request's application stands on."""
    found: Deps = request.app.state.console
    return found


def trouble(request: Request, status: int, text: str) -> Response:
    """Say on a page what went wrong."""
    values = {"status": status, "text": text, "person": None, "word": "", "tenant": deps_of(request).tenant}
    return HTMLResponse(render("trouble.html", here="", **values), status)


def _to_login(request: Request) -> Response:
    if "hx-request" in request.headers:  # a page that refreshes itself: the whole of it goes to the login
        return Response(status_code=401, headers={"hx-redirect": "/console/login"})
    return RedirectResponse("/console/login", 303)


def session_of(request: Request) -> Session | None:
    """Read the session of a request; None: there is none that is good."""
    deps = deps_of(request)
    return Seal(deps.key).session(request.cookies.get(COOKIE, ""), deps.now_s())


class Visit:
    """A request of somebody who is logged in.

    Args:
        deps: What the console stands on.
        person: Who it is.
        session: Of the cookie.
    """

    def __init__(self, deps: Deps, person: Person, session: Session) -> None:
        self.deps = deps
        self.data = deps.data
        self.person = person
        self.session = session

    def page(self, template: str, here: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a page with what all pages have.

        Args:
            template: Its name.
            here: Which part of the console it belongs to.
            status: Of HTTP.
            values: What it shows.
        """
        common = {
            "person": self.person,
            "word": Seal(self.deps.key).word(self.session.nonce),
            "tenant": self.deps.tenant,
            "now_s": self.deps.now_s(),
            "here": here,
        }
        return HTMLResponse(render(template, **common, **values), status)

    def require(self, role: Role) -> None:
        """Let only those go on who may do what a role may.

        Raises:
            RefusedError: This person may not.
        """
        if not self.person.may(role):
            raise RefusedError(
                f"token '{self.person.name}'", expected=f"the role {role}", got=self.person.role
            )


def visit(request: Request) -> Visit:
    """Find who asks.

    Raises:
        LoggedOutError: Nobody.
    """
    session = session_of(request)
    deps = deps_of(request)
    person = deps.data.person(session.token_sha256) if session else None
    if session is None or person is None:
        raise LoggedOutError
    return Visit(deps, person, session)


Looking = Annotated[Visit, Depends(visit)]


def acting_visit(
    request: Request, looking: Looking, word: Annotated[str, Form(max_length=100)] = ""
) -> Visit:
    """Find who asks with a form, and see that it is a form of theirs.

    Raises:
        RefusedError: It is not, or they may not act.
    """
    same_site(request)
    if not Seal(looking.deps.key).fits(word, looking.session.nonce):
        raise RefusedError("form", expected="one of this login", got="another one", do="Load the page again")
    return looking


Acting = Annotated[Visit, Depends(acting_visit)]


def same_site(request: Request) -> None:
    """Let no other site's page send a form here.

    Raises:
        RefusedError: One does.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none"):
        raise RefusedError("form", expected="one of this console", got=f"one from a {site} page")


def remember(response: Response, deps: Deps, name: str, value: str) -> None:
    """Set a cookie that scripts and other sites do not get."""
    response.set_cookie(
        name,
        value,
        max_age=int(LIFETIME_S),
        path="/console",
        secure=deps.secure,
        httponly=True,
        samesite="strict",
    )


def begin(deps: Deps, person: Person) -> Session:
    """Make a new session."""
    return Session(person.token_sha256, secrets.token_urlsafe(16), int(deps.now_s() + LIFETIME_S))


def refused_login(error: EdgeRuntimeError) -> int:
    """Give the status of a login that failed: 429 where it has to wait."""
    return 401 if isinstance(error, UnauthorizedError) else 429
