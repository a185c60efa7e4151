"""What a routing decision may depend on: the device, the cloud, the request, and the device's own answer.

Measures nothing itself; whoever asks for a decision fills the facts in.
"""

import math
from dataclasses import dataclass, field

from edge_runtime.contract.route import DataClass, Decision
from edge_runtime.routing.breaker import BreakerState


@dataclass(frozen=True, slots=True)
class LocalFacts:
    """What the device can do with a model.

    Args:
        peak_bytes: Memory the variant needs at its peak, as its receipt measured it; of its files where no
            receipt says.
        budget_bytes: Memory this model may take; what it holds already counts as free.
        queue: Requests before this one.
        predicted_ms: From now to the answer, the queue included; None: never measured, or too long ago.
        why_not: Why no engine here runs any variant; empty: one does.
    """

    peak_bytes: int = 0
    budget_bytes: int = 0
    queue: int = 0
    predicted_ms: float | None = None
    why_not: str = ""

    @property
    def fits(self) -> bool:
        """Whether an engine runs it and its memory is there."""
        return not self.why_not and self.peak_bytes <= self.budget_bytes


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """How the cloud has been doing.

    Args:
        reachable: As measured by requests and probes.
        breaker: Of the circuit breaker, now.
        p50_ms: Median time to an answer, over the last minutes; None: nothing measured in them.
        p95_ms: The time 95 of 100 answers need.
        tokens_left: Of the budget, now; None: no limit.
        bytes_left: Of the budget, now; None: no limit.
    """

    reachable: bool = True
    breaker: BreakerState = BreakerState.CLOSED
    p50_ms: float | None = None
    p95_ms: float | None = None
    tokens_left: float | None = None
    bytes_left: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a decision may depend on.

    Args:
        local: The device's side; None: the device has no bundle of this model.
        cloud: The cloud's side; None: no cloud is configured.
        data: What the request holds.
        redacted: Classes that a redaction hook has removed from what would be sent.
        request_bytes: That sending it would cost.
        request_tokens: That sending it would cost; 0 where the cloud does not count tokens.
        deadline_left_s: Until an answer is worth nothing.
        since_escalation_s: Since this model's last escalation; infinite: there was none.
        dice: Uniform in [0, 1), thrown for this request.
    """

    local: LocalFacts | None = None
    cloud: CloudFacts | None = None
    data: frozenset[DataClass] = field(default_factory=frozenset[DataClass])
    redacted: frozenset[DataClass] = field(default_factory=frozenset[DataClass])
    request_bytes: int = 0
    request_tokens: int = 0
    deadline_left_s: float = math.inf
    since_escalation_s: float = math.inf
    dice: float = 0.5


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """How sure the device's own answer is. Make one with `hardness.measure`.

    Args:
        chosen: The decision by which the device answered.
        confidence: In [0, 1], as the task defines it.
        entropy: Of the classes' probabilities, over its greatest value: 0 certain, 1 no idea; None: the
            answer has no classes.
        margin: Best probability less the second best; None: there are not two.
        detection_scores: Of the boxes; None: the answer has no boxes.
    """

    chosen: Decision
    confidence: float
    entropy: float | None = None
    margin: float | None = None
    detection_scores: tuple[float, ...] | None = None
