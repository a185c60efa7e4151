"""A decision to refuse, as the error that the caller gets. Decides nothing."""

from edge_runtime.contract.errors import (
    DeadlineError,
    EdgeRuntimeError,
    EngineError,
    OverloadedError,
    RefusedError,
    RemoteError,
)
from edge_runtime.contract.route import Decision, Reason

_BUDGET_PAUSE_S = 60.0
"""Budgets are kept by the minute."""


def refusal(model: str, decision: Decision) -> EdgeRuntimeError:
    """Make the error that says why nobody answers.

    Args:
        model: As the request names it.
        decision: Its route is REFUSE.
    """
    problem, got = f"model '{model}': {decision.reason}", decision.detail or None
    match decision.reason:
        case Reason.PRIVACY:
            do = "By the settings such data may not leave, and the device has no model that answers it"
            return RefusedError(problem, got=got, do=do)
        case Reason.POLICY:
            return RefusedError(problem, got=got, do="The settings leave no other way to an answer")
        case Reason.DEADLINE:
            return DeadlineError(problem, got=got)
        case Reason.BUDGET:
            return OverloadedError(problem, retry_after_s=_BUDGET_PAUSE_S, got=got)
        case Reason.OFFLINE | Reason.BREAKER_OPEN | Reason.CLOUD_FAILED:
            return RemoteError(problem, retryable=True, got=got, do="The cloud may come back")
        case _:
            return EngineError(problem, got=got)
