"""From what a caller sent to a `Request`: its metadata, the time left, and what the request may hold.

Asks nobody; the routes ask the backend.
"""

from collections.abc import Mapping

from edge_runtime.contract.errors import DeadlineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Request, Value
from edge_runtime.contract.route import DataClass
from edge_runtime.protocol.headers import USUAL_PRIORITY
from edge_runtime.web.exchange import Exchange

PRIORITY = "priority"
"""Of a request's parameters: 0 is the highest; absent: the usual."""
STICKY = "sticky"
"""Of a request's parameters: requests of one key go to one version."""

_PICTURE = frozenset({DataClass.VIDEO, DataClass.FACES})
_TEXT = frozenset({DataClass.TEXT})
_TENSORS = frozenset({DataClass.TENSORS, DataClass.EMBEDDING}) | _PICTURE


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
        data=holds(value, metadata.data),
        timeout_s=left_s,
        parameters=extra,
        trace=metadata.trace,
    )


def holds(value: Value, declared: frozenset[DataClass] = frozenset()) -> frozenset[DataClass]:
    """Tell what a request holds.

    Args:
        value: What is asked.
        declared: What the caller says it holds; it cannot say that a text is none.

    Returns:
        Where nothing is declared all that it may hold: too much rather than too little.
    """
    if isinstance(value, Picture):
        return declared or _PICTURE
    if isinstance(value, str | Prompt):
        return declared | _TEXT
    return declared | {DataClass.TENSORS} if declared else _TENSORS
