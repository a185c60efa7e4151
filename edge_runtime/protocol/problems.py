"""How an error crosses a wire: its HTTP status, its gRPC code, its document, and the way back to its class.

One table for every protocol and both sides. Sends nothing; says nothing of errors that are bugs but that
they happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.contract.errors import (
    BundleError,
    ConfigError,
    DeadlineError,
    EdgeRuntimeError,
    EngineError,
    InputError,
    OverloadedError,
    QuotaError,
    RefusedError,
    RemoteError,
    StorageError,
    TooLargeError,
    UnauthorizedError,
    UnknownAnswerError,
    UnknownModelError,
)
from edge_runtime.protocol.json_document import Document, is_object

INTERNAL = "internal-error"
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What a class of errors is on a wire.

    Args:
        kind: The class; one that is not in the table is what its nearest base in the table is.
        code: Its name in documents.
        status: HTTP.
        grpc: Number of the gRPC status code.
        grpc_name: And its name.
        openai: `type` in an OpenAI-style error.
    """

    kind: type[EdgeRuntimeError]
    code: str
    status: int
    grpc: int
    grpc_name: str
    openai: str


PROBLEMS: tuple[Problem, ...] = (
    Problem(InputError, "input-error", 400, 3, "INVALID_ARGUMENT", "invalid_request_error"),
    Problem(UnauthorizedError, "unauthorized-error", 401, 16, "UNAUTHENTICATED", "authentication_error"),
    Problem(RefusedError, "refused-error", 403, 7, "PERMISSION_DENIED", "permission_error"),
    Problem(UnknownAnswerError, "unknown-answer-error", 404, 5, "NOT_FOUND", "invalid_request_error"),
    # Behind the others of its status: it is what a 404 without a code is read as.
    Problem(UnknownModelError, "unknown-model-error", 404, 5, "NOT_FOUND", "invalid_request_error"),
    Problem(TooLargeError, "too-large-error", 413, 11, "OUT_OF_RANGE", "invalid_request_error"),
    Problem(QuotaError, "quota-error", 429, 8, "RESOURCE_EXHAUSTED", "rate_limit_error"),
    Problem(EdgeRuntimeError, INTERNAL, 500, 13, "INTERNAL", "server_error"),
    Problem(ConfigError, "config-error", 500, 13, "INTERNAL", "server_error"),
    Problem(BundleError, "bundle-error", 500, 13, "INTERNAL", "server_error"),
    Problem(EngineError, "engine-error", 500, 13, "INTERNAL", "server_error"),
    Problem(RemoteError, "remote-error", 502, 14, "UNAVAILABLE", "server_error"),
    Problem(OverloadedError, "overloaded-error", 503, 14, "UNAVAILABLE", "server_error"),
    Problem(DeadlineError, "deadline-error", 504, 4, "DEADLINE_EXCEEDED", "server_error"),
    Problem(StorageError, "storage-error", 507, 13, "INTERNAL", "server_error"),
)
"""Every class that has a form of its own, by status."""

_BY_KIND: Mapping[type, Problem] = {problem.kind: problem for problem in PROBLEMS}
_BY_CODE: Mapping[str, Problem] = {problem.code: problem for problem in PROBLEMS}
_BY_STATUS: Mapping[int, type[EdgeRuntimeError]] = {
    **{problem.status: problem.kind for problem in PROBLEMS if problem.status != 500},
    500: EngineError,
    408: DeadlineError,
}
_BY_GRPC: Mapping[int, type[EdgeRuntimeError]] = {
    3: InputError,
    4: DeadlineError,
    5: UnknownModelError,
    7: RefusedError,
    8: OverloadedError,
    11: TooLargeError,
    13: EngineError,
    14: RemoteError,
    16: UnauthorizedError,
}


def problem_of(error: BaseException) -> Problem:
    """Find what an error is on a wire; any that is not of the project's tree is internal."""
    for kind in type(error).__mro__:
        if kind in _BY_KIND:
            return _BY_KIND[kind]
    return _BY_KIND[EdgeRuntimeError]


def v2_document(error: BaseException) -> Document:
    """Write an error in the form of Open Inference Protocol v2, which is that of our own routes, too."""
    document: Document = {"error": _message(error)}
    if isinstance(error, EdgeRuntimeError):
        details = {"expected": error.expected, "got": error.got, "do": error.do}
        document |= {key: value for key, value in details.items() if value is not None}
    if isinstance(error, RemoteError):
        document["retryable"] = error.retryable
    if isinstance(error, OverloadedError):
        document["retry_after_s"] = error.retry_after_s
    document["code"] = problem_of(error).code
    return document


def openai_document(error: BaseException) -> Document:
    """Write an error in the form that OpenAI's clients read; what was expected and came stands beside."""
    document = v2_document(error)
    message = document.pop("error")
    return {"error": {"message": message, "type": problem_of(error).openai, "param": None, **document}}


def retry_after(error: BaseException) -> str | None:
    """Give the value of the header `Retry-After`, whole seconds; None where there is none."""
    return str(max(1, -int(-error.retry_after_s // 1))) if isinstance(error, OverloadedError) else None


def from_http(status: int, document: object, retry_after_s: float | None = None) -> EdgeRuntimeError:
    """Make an error of a server's answer.

    Args:
        status: HTTP, from 400 on.
        document: The body, as JSON reads it, v2 or OpenAI form; anything else where it was something else.
        retry_after_s: Of the header; None: absent.

    Returns:
        Of the class that the server raised, if it is one of ours; otherwise of what the status says.
    """
    said = _flat(document)
    known = _BY_CODE.get(str(said.get("code", "")))
    kind = known.kind if known is not None and known.status == status else _by_status(status)
    return _rebuild(kind, said, f"the server answered {status}", retry_after_s, transient=status >= 502)


def is_known(document: object) -> bool:
    """Tell whether an error's document names a code of this table: a server of ours wrote it.

    Args:
        document: As JSON reads it, in any form.
    """
    return str(_flat(document).get("code", "")) in _BY_CODE


def from_grpc(code: int, message: str, details: object = None) -> EdgeRuntimeError:
    """Make an error of a gRPC status.

    Args:
        code: Its number.
        message: Its message.
        details: The v2 document where the server sent one along, as JSON reads it.

    Returns:
        As `from_http`.
    """
    said = _flat(details) or {"error": message}
    known = _BY_CODE.get(str(said.get("code", "")))
    kind = known.kind if known is not None and known.grpc == code else _BY_GRPC.get(code, RemoteError)
    return _rebuild(kind, said, f"the server answered gRPC status {code}", None, transient=code == 14)


def _message(error: BaseException) -> str:
    if isinstance(error, EdgeRuntimeError):
        return str(error)
    return "The server failed; its log says why"  # the text of a bug may hold anything


def _by_status(status: int) -> type[EdgeRuntimeError]:
    return _BY_STATUS.get(status, RemoteError if status >= 500 else InputError)


def _flat(document: object) -> Document:
    """Bring both forms, and FastAPI's, to v2's."""
    if not is_object(document):
        return {}
    said = document
    inner = said.get("error")
    if is_object(inner):
        nested = inner
        return {**nested, "error": nested.get("message")}
    return said if inner is not None else {"error": said.get("detail") or said.get("message")}


def _rebuild(
    kind: type[EdgeRuntimeError], said: Document, silent: str, retry_after_s: float | None, *, transient: bool
) -> EdgeRuntimeError:
    expected, got, do = (_text(said, key) for key in ("expected", "got", "do"))
    message = _text(said, "error") or silent
    if issubclass(kind, OverloadedError):
        told: Any = said.get("retry_after_s")
        seconds = (
            retry_after_s if isinstance(told, bool) or not isinstance(told, int | float) else float(told)
        )
        plain = OverloadedError("", retry_after_s=_RETRY_AFTER_S if seconds is None else seconds, got=got)
        problem = _without(message, EdgeRuntimeError("", expected=expected, got=got, do=do or plain.do))
        return kind(problem, retry_after_s=plain.retry_after_s, got=got)
    problem = _without(message, EdgeRuntimeError("", expected=expected, got=got, do=do))
    if issubclass(kind, DeadlineError):
        return kind(problem, got=got)
    if issubclass(kind, RemoteError):
        retryable = said.get("retryable")
        return kind(
            problem,
            retryable=retryable if isinstance(retryable, bool) else transient,
            expected=expected,
            got=got,
            do=do,
        )
    return kind(problem, expected=expected, got=got, do=do)


def _without(message: str, details: EdgeRuntimeError) -> str:
    """Take the details off the end of a message, since the new error appends them again."""
    return message.removesuffix(str(details)) or message


def _text(said: Document, key: str) -> str | None:
    value = said.get(key)
    return value[:4000] if isinstance(value, str) and value else None
