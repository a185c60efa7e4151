"""What becomes of an error that reaches the door: an answer, and where it is a bug, a line in the log.

Maps nothing; `protocol.problems` has the table.
"""

import logging

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.protocol import headers, json_document, problems
from edge_runtime.web.exchange import JSON, Reply

_log = logging.getLogger(__name__)


def reply_to(error: BaseException, *, openai: bool) -> Reply:
    """Answer with an error.

    Args:
        error: Any.
        openai: Whether in OpenAI's form; otherwise in v2's.
    """
    error = shown(error)
    document = problems.openai_document(error) if openai else problems.v2_document(error)
    told: dict[str, str] = {}
    if (seconds := problems.retry_after(error)) is not None:
        told["retry-after"] = seconds
    status = problems.problem_of(error).status
    if status == 401:
        told["www-authenticate"] = "Bearer"
    return Reply(json_document.write(document), status, JSON, told)


def shown(error: BaseException) -> BaseException:
    """Log an error if it is a bug.

    Returns:
        The error.
    """
    if not isinstance(error, EdgeRuntimeError):
        _log.error("a request failed for an unforeseen reason", exc_info=error)
    return error


def no_such_path(path: str) -> Reply:
    """Answer that there is no such path."""
    said = {
        "error": f"no route {headers.safe(path)[:200]}",
        "do": "See /openapi.json",
        "code": "unknown-route",
    }
    return Reply(json_document.write(said), 404)


def other_method(method: str, allowed: frozenset[str]) -> Reply:
    """Answer that a path has other methods."""
    names = ", ".join(sorted(allowed))
    said = {
        "error": f"method: expected {names}, got {headers.safe(method)[:20]}",
        "expected": names,
        "got": headers.safe(method)[:20],
        "code": "other-method",
    }
    return Reply(json_document.write(said), 405, headers={"allow": names})
