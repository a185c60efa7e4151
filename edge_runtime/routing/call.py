"""One call over HTTP: what is sent, what comes back, and how it can fail. Sends nothing itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge_runtime.contract.errors import OverloadedError, RemoteError
from edge_runtime.routing.retry import MEANINGS, Again, Failure


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request.

    Args:
        method: `GET` or `POST`.
        path: Behind the endpoint's URL.
        body: The bytes.
        headers: More headers.
    """

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whatever its status.

    Args:
        status: HTTP's.
        headers: Names in lower case.
        body: Decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a second call goes out beside the first.

    Args:
        after_s: When the first has taken so long.
        may: Asked then; False: no second call, the budget is used up.
    """

    after_s: float
    may: Callable[[], bool]


class CallError(RemoteError):
    """A call that got no answer of HTTP.

    Args:
        failure: How it went wrong.
        problem: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: As for `EdgeRuntimeError`; None: why trying again can help, or cannot.
    """

    def __init__(self, failure: Failure, problem: str, *, got: str, do: str | None = None) -> None:
        meaning = MEANINGS[failure]
        why = meaning.why[:1].upper() + meaning.why[1:]
        super().__init__(problem, retryable=meaning.again is not Again.NO, got=got, do=do or why)
        self.failure = failure


class NotNowError(OverloadedError):
    """A call that did not go: a breaker is open, or the budget is used up.

    Args:
        model: Whose own breaker is open; None: none of the calls may go.
    """

    def __init__(self, model: str | None) -> None:
        got = (
            "an open breaker, or no budget" if model is None else f"an open breaker of model '{model}' alone"
        )
        super().__init__("the cloud must not be asked now", retry_after_s=1.0, got=got)
        self.model = model
