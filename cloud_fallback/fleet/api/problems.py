"""How an error leaves the API: a status, and always the same document.

    {"error": {"code": …, "message": …, "expected": …, "got": …, "do": …}}

One table. Says nothing of errors that are bugs but that they happened.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from edge_runtime.contract.errors import (
    BundleError,
    ConfigError,
    DeadlineError,
    EdgeRuntimeError,
    InputError,
    OverloadedError,
    QuotaError,
    RefusedError,
    RemoteError,
    StorageError,
    TooLargeError,
    UnauthorizedError,
    UnknownModelError,
    UpdateError,
)
from edge_runtime.contract.update import Failure, UpdateFailedError

log = logging.getLogger(__name__)

PROBLEMS: Mapping[type[EdgeRuntimeError], tuple[int, str]] = {
    InputError: (400, "input"),
    ConfigError: (400, "input"),  # what a request says, as a selector; settings are read before
    UnauthorizedError: (401, "unauthorized"),
    RefusedError: (403, "refused"),
    NotThereError: (404, "not-there"),
    UnknownModelError: (404, "not-there"),
    ConflictError: (409, "conflict"),
    UpdateError: (409, "phase"),
    TooLargeError: (413, "too-large"),
    BundleError: (422, "bundle"),
    UpdateFailedError: (422, "refused"),
    QuotaError: (429, "too-many-requests"),
    EdgeRuntimeError: (500, "internal"),
    RemoteError: (502, "remote"),
    OverloadedError: (503, "overloaded"),
    DeadlineError: (504, "deadline"),
    StorageError: (507, "storage"),
}
"""By class; one that is not here is what its nearest base is. `UpdateFailedError` has its own code."""

_STATUS_OF_CODE = {
    Failure.METADATA_REPLAY: 409,
    Failure.METADATA_UNREACHABLE: 502,
    Failure.TARGET_UNKNOWN: 404,
}
_HTTP_CODES = {404: "unknown-route", 405: "other-method", 413: "too-large", 408: "too-slow"}
_RETRY_S = 2


def status_of(error: EdgeRuntimeError) -> tuple[int, str]:
    """Give status and code of an error."""
    status, code = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    own = getattr(error, "code", None)
    if isinstance(own, Failure):
        return _STATUS_OF_CODE.get(own, status), own.value
    return status, own or code


def document(
    code: str, message: str, expected: str | None = None, got: str | None = None, do: str | None = None
) -> dict[str, Any]:
    """Write an error; the message holds everything, the parts stand beside it for programs."""
    return {"error": {"code": code, "message": message, "expected": expected, "got": got, "do": do}}


def install(app: FastAPI) -> None:
    """Make an application answer with such documents, whatever goes wrong."""
    app.add_exception_handler(EdgeRuntimeError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _framework)
    for kind in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, _database)
    app.add_exception_handler(IntegrityError, _raced)
    for kind in (DataError, UnicodeEncodeError):
        app.add_exception_handler(kind, _unwritable)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _bug)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, EdgeRuntimeError):
        raise error
    status, code = status_of(error)
    headers: dict[str, str] = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if status >= 500:
        log.warning("a request failed: %s", error)
    return JSONResponse(
        document(code, str(error), error.expected, error.got, error.do), status, headers=headers
    )


async def _malformed(_: Request, error: Exception) -> JSONResponse:
    """Say the first thing that is wrong; a secret in the body is not said back."""
    first: Mapping[str, Any] = {"msg": "malformed", "loc": ()}
    if isinstance(error, RequestValidationError):
        first = cast("Mapping[str, Any]", error.errors()[0])
    place = ".".join(str(part) for part in first["loc"][1:]) or str((*first["loc"], "body")[0])
    message = str(first["msg"]).removeprefix("Value error, ")
    return JSONResponse(
        document("malformed", f"{place}: {message}", expected=message, do="See docs/reference/manager-api"),
        400,
    )


async def _framework(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = _HTTP_CODES.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
    return JSONResponse(document(code, str(error.detail)), error.status_code, headers=error.headers)


async def _database(_: Request, error: Exception) -> JSONResponse:
    log.error("the database does not answer: %s", error)
    return JSONResponse(
        document("database", "the database does not answer", do="Try again"),
        503,
        headers={"retry-after": str(_RETRY_S)},
    )


async def _unwritable(_: Request, error: Exception) -> JSONResponse:
    """Half a character, or one that databases do not take."""
    log.info("a text that cannot be written: %s", type(error).__name__)
    return JSONResponse(
        document("malformed", "a text in it cannot be written", "Unicode without U+0000"), 400
    )


async def _gone(_: Request, _error: Exception) -> JSONResponse:
    """Nobody hears this."""
    return JSONResponse(document("gone", "the caller went away"), 499)


async def _raced(_: Request, error: Exception) -> JSONResponse:
    log.info("two requests wrote the same thing: %s", error)
    return JSONResponse(
        document(
            "conflict", "another request wrote the same thing at this moment", do="Read it, then decide"
        ),
        409,
    )


async def _bug(_: Request, error: Exception) -> JSONResponse:
    """The framework raises it again after this answer, so that it gets into the log with its place."""
    return JSONResponse(
        document("internal", f"a bug: {type(error).__name__}", do="See the manager's log"), 500
    )
