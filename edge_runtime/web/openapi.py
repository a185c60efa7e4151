"""The OpenAPI 3.1 document of the door's routes, made from its table of routes.

Describes; checks nothing.
"""

import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edge_runtime.contract.route import DataClass
from edge_runtime.protocol import headers, v2
from edge_runtime.protocol.json_document import Document
from edge_runtime.protocol.problems import PROBLEMS
from edge_runtime.web import schemas
from edge_runtime.web.routing_table import Way

_HEADERS: tuple[tuple[str, str, Document], ...] = (
    (headers.REQUEST_ID, "the same id is answered once", {"type": "string", "pattern": "^[!-~]{1,128}$"}),
    # Fewer are taken from 1 on, but are rarely enough; who makes requests of this document wants answers.
    (headers.DEADLINE, "milliseconds left", {"type": "integer", "minimum": 100, "maximum": 86400000}),
    (headers.TRACE, "W3C Trace Context", {"type": "string"}),
    (headers.DATA, f"what it holds: {', '.join(DataClass)}", {"type": "string"}),
    (headers.PRIORITY, "0 is the highest", {"type": "integer", "minimum": 0, "maximum": 9}),
    (headers.STICKY, "one key, one version", {"type": "string", "pattern": "^[!-~]{1,256}$"}),
)


def document(ways: Sequence[Way], *, needs_token: bool) -> Document:
    """Write the document.

    Args:
        ways: All routes.
        needs_token: Whether a bearer token is asked for.
    """
    paths: Document = {}
    for way in ways:
        paths.setdefault(way.path, {})[way.method.lower()] = _operation(way, needs_token=needs_token)
    described: Document = {
        "openapi": "3.1.0",
        "info": {"title": "edge-runtime", "version": own_version()},
        "paths": paths,
        "components": {"schemas": {"Error": schemas.ERROR, "OpenAIError": schemas.OPENAI_ERROR}},
    }
    if needs_token:
        described["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return described


def own_version() -> str:
    """Give this package's version."""
    try:
        return version("edge-runtime")
    except PackageNotFoundError:  # run from a copy that was never installed
        return "0"


def _operation(way: Way, *, needs_token: bool) -> Document:
    asked = [
        _parameter(name, "path", True, "", {"type": "string"}) for name in re.findall(r"{(\w+)}", way.path)
    ]
    if way.method == "POST":
        asked += [_parameter(name, "header", False, what, schema) for name, what, schema in _HEADERS]
    operation: Document = {
        "operationId": f"{way.method.lower()}{re.sub(r'[^a-z0-9]+', '_', way.path.lower())}".rstrip("_"),
        "summary": way.summary,
        "tags": [way.tag],
        "parameters": asked,
        "responses": _responses(way),
    }
    if way.body is not None:
        needed = way.body is not schemas.ANYTHING and way.body is not schemas.INDEX
        operation["requestBody"] = {"required": needed, "content": _contents(way.body)}
    if needs_token and way.needs_token:
        operation["security"] = [{"bearer": []}]
    return operation


def _contents(body: Document) -> Document:
    contents: Document = {"application/json": {"schema": body}}
    if body is schemas.PREDICT:
        contents |= {f"image/{kind}": {"schema": {"type": "string"}} for kind in ("jpeg", "png", "webp")}
    return contents


def _responses(way: Way) -> Document:
    good: Document = {"application/json": {"schema": way.answer}}
    if way.answer is schemas.INFER_RESPONSE:
        good["application/octet-stream"] = {"schema": {"type": "string", "description": v2.HEADER_LENGTH}}
    if way.path.endswith("completions"):
        good["text/event-stream"] = {"schema": {"type": "string"}}
    responses: Document = {"200": {"description": "answered", "content": good}}
    if way.path.startswith("/v1/answers"):
        responses["202"] = {"description": "awaited", "content": good}
    if way.path.endswith("health/ready"):
        responses["503"] = {"description": "not all are", "content": good}
    name = "OpenAIError" if way.openai else "Error"
    failed: Document = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    for problem in PROBLEMS if way.body is not None or "{" in way.path else ():
        responses.setdefault(str(problem.status), {"description": problem.code, "content": failed})
    return responses


def _parameter(name: str, place: str, required: bool, what: str, schema: Document) -> dict[str, Any]:
    told: Document = {"name": name, "in": place, "required": required, "schema": schema}
    return told | {"description": what} if what else told
