"""Where an answer comes from, and why. The policies that decide stand in `edge_runtime.routing`."""

from dataclasses import dataclass
from enum import StrEnum


class Route(StrEnum):
    """Who answers a request."""

    LOCAL = "local"
    CLOUD = "cloud"
    REFUSE = "refuse"


class Reason(StrEnum):
    """Why a route was taken."""

    POLICY = "policy"
    """The policy leaves no choice."""
    FITS = "fits"
    """The device has an engine, a variant and the memory for it."""
    DOES_NOT_FIT = "does-not-fit"
    NO_ENGINE = "no-engine"
    LOCAL_FAILED = "local-failed"
    LOW_CONFIDENCE = "low-confidence"
    OFFLINE = "offline"
    PRIVACY = "privacy"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Decision:
    """A route with its reason, and a sentence for a person."""

    route: Route
    reason: Reason
    detail: str = ""
