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
    """The variant's measured peak memory is over the device's budget."""
    NO_ENGINE = "no-engine"
    """No engine here runs any variant, or the device has no bundle of it at all."""
    LOCAL_FAILED = "local-failed"
    LOW_CONFIDENCE = "low-confidence"
    """The local answer is a hard example by the policy's rule."""
    CONFIDENT = "confident"
    """The local answer is good enough by the policy's rule."""
    FASTEST = "fastest"
    """This side is predicted to answer first."""
    AUDIT = "audit"
    """Answered locally; the cloud looks at it too, in the background, to check the threshold."""
    OFFLINE = "offline"
    BREAKER_OPEN = "breaker-open"
    """The cloud failed or was slow too often; it is left alone for a while."""
    BUDGET = "budget"
    """The tokens or bytes for the cloud are used up, or the last escalation was too short ago."""
    PRIVACY = "privacy"
    """The request holds data that may never leave."""
    DEADLINE = "deadline"
    """Too little time is left."""
    CLOUD_FAILED = "cloud-failed"
    """The cloud was asked and did not answer; this is the local answer."""


class DataClass(StrEnum):
    """What a request holds, for the rule of what may never leave the device."""

    VIDEO = "video"
    FACES = "faces"
    TEXT = "text"
    EMBEDDING = "embedding"
    TENSORS = "tensors"


@dataclass(frozen=True, slots=True)
class Decision:
    """A route with its reason, and a sentence for a person."""

    route: Route
    reason: Reason
    detail: str = ""
