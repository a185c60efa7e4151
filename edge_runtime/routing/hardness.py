"""Is an answer a hard example? Each rule gives a number in [0, 1]; below the threshold it is hard.

Decides no route: `policy.judge` does, with the privacy gate, the budget and the clock in view.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from edge_runtime.contract.result import Classification, Detections, Entities, TextClassification
from edge_runtime.contract.route import Decision
from edge_runtime.routing.facts import AnswerFacts


class Rule(StrEnum):
    """What makes an answer a hard example."""

    SCORE = "score"
    """Its confidence is under the threshold."""
    ENTROPY = "entropy"
    """One less the entropy of its classes, over ln(classes), is under the threshold."""
    MARGIN = "margin"
    """Its best class is ahead of the second best by less than the threshold."""
    DETECTION = "detection"
    """Too many of its boxes are unsure (Sedna's IBT, image and box thresholds)."""


RULES: Mapping[str, tuple[Rule, ...]] = {
    "detection": (Rule.SCORE, Rule.DETECTION),
    "classification": (Rule.SCORE, Rule.ENTROPY, Rule.MARGIN),
    "text-classification": (Rule.SCORE, Rule.ENTROPY, Rule.MARGIN),
    "token-classification": (Rule.SCORE, Rule.DETECTION),
}
"""The rules that can judge a task's answers; of other tasks only the score can."""


def rules_of(kind: str) -> tuple[Rule, ...]:
    """List the rules that can judge the answers of a kind of task."""
    return RULES.get(kind, (Rule.SCORE,))


def measure(value: Any, confidence: float, chosen: Decision) -> AnswerFacts:
    """Take from an answer what the rules look at.

    Args:
        value: A task's result.
        confidence: Of the answer.
        chosen: The decision by which it was made.
    """
    match value:
        case Classification() | TextClassification():
            scores: list[float] = value.scores.tolist()
            margin = scores[0] - scores[1] if len(scores) > 1 else None
            return AnswerFacts(chosen, confidence, _entropy(scores, len(value.labels)), margin)
        case Detections():
            return AnswerFacts(chosen, confidence, detection_scores=tuple(value.scores.tolist()))
        case Entities():
            found = tuple(each.score for each in value.entities)
            return AnswerFacts(chosen, confidence, detection_scores=found)
        case _:
            return AnswerFacts(chosen, confidence)


def sureness(rule: Rule, box_threshold: float, answer: AnswerFacts) -> float:
    """Give the number that a rule compares with its threshold.

    - `score`: the confidence.
    - `entropy`: `1 + sum(p ln p) / ln n`, as Sedna's CrossEntropy filter.
    - `margin`: best less second best.
    - `detection`: the share of boxes with a score over `box_threshold`. Sedna's IBT filter calls
      `boxes with score <= threshold_box / boxes` the hard coefficient, and a picture hard when that is at
      least `1 - threshold_img`; no boxes: not hard. (KubeEdge Sedna, algorithms/hard_example_mining)

    Args:
        rule: Which.
        box_threshold: Sedna's `threshold_box`; of `detection` only.
        answer: The device's.

    Returns:
        In [0, 1]; 0 where the answer has NaN, or nothing that the rule looks at: nothing vouches for it.
    """
    if rule is Rule.SCORE:
        sure: float | None = answer.confidence
    elif rule is Rule.ENTROPY:
        sure = None if answer.entropy is None else 1.0 - answer.entropy
    elif rule is Rule.MARGIN:
        sure = answer.margin
    elif answer.detection_scores is None:
        sure = None
    elif not answer.detection_scores:
        sure = 1.0
    else:
        boxes = answer.detection_scores
        # Counted as "not over", so that a NaN is an unsure box.
        sure = sum(score > box_threshold for score in boxes) / len(boxes)
    return sure if sure is not None and sure == sure else 0.0  # noqa: PLR0124 (NaN)


def is_hard(rule: Rule, threshold: float, box_threshold: float, answer: AnswerFacts) -> tuple[bool, float]:
    """Say whether an answer is a hard example, and how sure it is.

    `detection` counts a share that equals the threshold as hard, as Sedna does, unless there are no boxes.
    """
    sure = sureness(rule, box_threshold, answer)
    if rule is Rule.DETECTION and answer.detection_scores:
        return sure <= threshold, sure
    return sure < threshold, sure


def _entropy(scores: Sequence[float], classes: int) -> float | None:
    """Entropy over its greatest value; what the best classes leave over is shared by the others evenly."""
    if classes < 2 or not scores:
        return None
    total = sum(scores)
    known = [score / total for score in scores] if total > 1 else list(scores)
    rest, others = max(0.0, 1.0 - sum(known)), classes - len(known)
    entropy = -sum(p * math.log(p) for p in known if p > 0)
    if others > 0 and rest > 0:
        entropy -= rest * math.log(rest / others)
    return min(1.0, entropy / math.log(classes))
