"""A second request to the cloud when the first takes long, within a budget of extra requests.

Sends nothing: says when. The first answer counts, and the idempotency key lets the server see that both are
one question. Pure; not thread-safe.
"""

from edge_runtime.contract.route import Decision, Route
from edge_runtime.routing.facts import Facts
from edge_runtime.routing.policy import Policy
from edge_runtime.routing.privacy import forbidden

SHARE = 0.05
_UNIT = 1_000_000


def hedge_after_s(policy: Policy, facts: Facts, decision: Decision) -> float | None:
    """Say how long after the first request a second one may go.

    Args:
        policy: The user's.
        facts: Of the moment when the first one goes.
        decision: By which it goes.

    Returns:
        Seconds; None: no second one, because the policy has none, nothing is known of the cloud's p95, the
        budget has no room for two, no time would be left, or the request may not be sent at all.
    """
    cloud = facts.cloud
    if policy.hedge_after is None or cloud is None or decision.route is not Route.CLOUD:
        return None
    if forbidden(policy.never_leave, facts.data, facts.redacted):
        return None
    if cloud.bytes_left is not None and not cloud.bytes_left >= 2 * facts.request_bytes:
        return None
    if cloud.tokens_left is not None and not cloud.tokens_left >= 2 * facts.request_tokens:
        return None
    if policy.hedge_after == "p95":
        after_s = None if cloud.p95_ms is None else cloud.p95_ms / 1000
    else:
        after_s = policy.hedge_after
    return after_s if after_s is not None and after_s < facts.deadline_left_s else None


class HedgeBudget:
    """Lets at most a share of the requests be sent a second time.

    Each first request earns a share of a second one; they can be saved up, but only a few, so that an outage
    after a quiet day does not begin with a burst. Starts empty: at no moment were more sent than the share.

    Args:
        share: Second requests a first request.
        most: That can be saved up.
    """

    def __init__(self, share: float = SHARE, most: int = 5) -> None:
        # Whole millionths, because twenty times 0.05 is not 1 in floats.
        self._earns = round(share * _UNIT)
        self._most = most * _UNIT
        self._saved = 0
        self.sent = 0
        """Second requests so far."""

    def earn(self) -> None:
        """Count a first request."""
        self._saved = min(self._most, self._saved + self._earns)

    def spend(self) -> bool:
        """Ask to send a second request now; whether it may go."""
        if self._saved < _UNIT:
            return False
        self._saved -= _UNIT
        self.sent += 1
        return True
