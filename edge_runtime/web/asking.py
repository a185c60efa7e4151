"""From what a caller sent to a `Request`: its metadata, the time left, and what its caller says it holds.

Asks nobody; the routes ask the backend. What a request plainly holds, whatever its caller says, is found by
whoever sends it on: `edge_runtime.routing.contents`.
"""

from collections.abc import Mapping

from edge_runtime.contract.errors import DeadlineError
from edge_runtime.contract.request import Request, Value
from edge_runtime.protocol.headers import USUAL_PRIORITY
from edge_runtime.web.exchange import Exchange

PRIORITY = "priority"
"""Of a request's parameters: 0 is the highest; absent: the usual."""
STICKY = "sticky"
"""Of a request's parameters: requests of one key go to one version."""


def request_for(
    exchange: Exchange,
    model: str,
    value: Value,
    *,
    version: str | None = None,
    index: int | None = None,
    timeout_s: float | None = None,
    priority: int | None = None,
    parameters: Mapping[str, str | int | float | bool] | None = None,
) -> Request:
    """Make a request of what a caller sent.

    Args:
        exchange: Its headers; they win over what the body says.
        model: Which model.
        value: What is asked.
        version: Of the model; None: the one that is served.
        index: Of this among several requests in one body, each of which needs an id of its own; None: alone.
        timeout_s: What the body says.
        priority: What the body says; 0 is the highest.
        parameters: To hand on unread.

    Raises:
        DeadlineError: The body took all the time there was.
    """
    metadata = exchange.metadata
    extra = dict(parameters or {})
    wanted = metadata.priority if metadata.priority != USUAL_PRIORITY or priority is None else priority
    if wanted != USUAL_PRIORITY:
        extra[PRIORITY] = wanted
    if metadata.sticky:
        extra[STICKY] = metadata.sticky
    limits = [limit for limit in (metadata.timeout_s, timeout_s) if limit is not None]
    left_s = min(limits) - exchange.spent_s if limits else None
    if left_s is not None and left_s <= 0:
        raise DeadlineError(
            f"model '{model}': the deadline is over", got=f"{exchange.spent_s:.3g} s spent on the body"
        )
    return Request(
        id=exchange.id if index is None else f"{exchange.id}-{index}",
        model=model,
        value=value,
        version=version,
        data=metadata.data,
        timeout_s=left_s,
        parameters=extra,
        trace=metadata.trace,
    )
