"""GivenAnswer: who answered a request, and why, as the local page shows it. Holds nothing that was asked."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer to a request.

    Args:
        time_s: When, seconds since 1970, UTC.
        model: As the request named it.
        version: That answered.
        variant: That answered.
        route: `local` or `cloud`.
        reason: Why.
        latency_ms: From the call to the answer.
    """

    time_s: float
    model: str
    version: str
    variant: str
    route: str
    reason: str
    latency_ms: float
