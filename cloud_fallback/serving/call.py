"""One request on its way through: who asks, and what is learnt of it for logs, metrics and traces.

The doors make a `Call` and put it in the context; what runs in that context reads and completes it. Decides
nothing.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from cloud_fallback.serving.quota import ApiKey


@dataclass(slots=True)
class Call:
    """A request as the cloud's own layers see it.

    Args:
        route: What was asked: `infer`, `predict`, `grpc-infer`, …; never a path as it came.
        key: Whose request; None where no keys are used.
        request_id: The caller's own; empty: it gave none.
        traceparent: Of the caller; empty: none.
        asked: The path, where it asks a model for tensors; empty otherwise.
        timeout_s: Time that the caller gave; None: any.
        priority: Of it; 0 is the highest.
        model: The model that was asked, once it is known to exist.
        version: The version that answered.
        rows: Rows of the request.
        code: How it ended: HTTP status, or gRPC's name of one.
        queue_s: Waited for an instance of the model; None: not told.
        run_s: Ran in an engine, with others perhaps; None: not told.
        repeated: Whether the answer was computed for an earlier request of this id.
        trace_id: Of the trace this is part of; empty: not traced.
        span_id: Of the request's span.
    """

    route: str
    key: ApiKey | None = None
    request_id: str = ""
    traceparent: str = ""
    asked: str = ""
    timeout_s: float | None = None
    priority: int = 1
    model: str = ""
    version: str = ""
    rows: int = 0
    code: int | str = ""
    queue_s: float | None = None
    run_s: float | None = None
    repeated: bool = False
    trace_id: str = ""
    span_id: str = ""

    @property
    def caller(self) -> str:
        """Who asks, for what must not be shared between callers."""
        return self.key.name if self.key is not None else ""


current: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The request that the running task works for."""
