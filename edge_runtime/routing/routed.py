"""A model with its policy and its two sides, and what is removed before anything leaves. Holds values."""

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.contract.request import Request
from edge_runtime.contract.route import DataClass
from edge_runtime.routing.local import Local
from edge_runtime.routing.policy import Policy


@dataclass(frozen=True, slots=True)
class Redaction:
    """Removes from a request what may not leave.

    Args:
        hook: Gives the request as it may be sent; runs only when something is about to be.
        removes: The classes of data that it removes.
    """

    hook: Callable[[Request], Request]
    removes: frozenset[DataClass]


@dataclass(frozen=True, slots=True)
class Routed:
    """A model, and how its requests find an answer.

    Args:
        name: As requests name it.
        policy: The user's.
        local: The device's side; None: it has no bundle of it.
        cloud_model: As the cloud calls it.
        timeout_s: Where a request says nothing.
        retries: Times the cloud is asked again.
    """

    name: str
    policy: Policy
    local: Local | None
    cloud_model: str
    timeout_s: float = 5.0
    retries: int = 2


_WAY_BACK_S = 0.05
_WAY_BACK_SHARE = 0.1
"""Of the time left: callers count from before the request was sent."""


def wait_until_s(deadline_s: float, now_s: float) -> float:
    """Say how long the cloud may be waited for where the device's own answer is in hand.

    Args:
        deadline_s: Of the request.
        now_s: On the same clock.

    Returns:
        A time that leaves the device's answer the way back.
    """
    left_s = deadline_s - now_s
    return deadline_s - min(max(_WAY_BACK_S, _WAY_BACK_SHARE * left_s), left_s / 2)
