"""Thresholds that are measured, not guessed; and a live check of whether one still holds.

Runs no model and reads no file: samples come in, a threshold and its curve go out. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.contract.errors import ConfigError, InputError

_STEPS = 200
"""Points of a curve at most; the chosen one is among all of them."""
_WORSE = (1.25, 1.5, 2.0, 3.0, 5.0, 8.0)
"""How many times greater odds of a disagreement the live check looks for, all at once."""
_LEAST_DISAGREEMENT = 0.002
"""A rate measured as 0 on some hundred samples is not 0."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled example, answered by both sides.

    Args:
        sureness: Of the device's answer, as `hardness.sureness` gives it for the rule.
        local_right: Whether the device's answer is right.
        cloud_right: Whether the cloud's is; always, where the cloud's answers are the labels.
        agrees: Whether both answer the same.
        request_bytes: That sending it would cost.
    """

    sureness: float
    local_right: bool
    cloud_right: bool
    agrees: bool
    request_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """What a threshold is for: exactly one of them.

    Args:
        share: At most this share of the requests goes to the cloud; the best accuracy within it.
        mean_bytes: At most so many bytes a request go to the cloud, over all requests; likewise.
        accuracy: At least this share of the answers is right; the fewest requests sent that reach it.
    """

    share: float | None = None
    mean_bytes: float | None = None
    accuracy: float | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.share, self.mean_bytes, self.accuracy)) != 1:
            raise ConfigError(
                "calibration: the goal", expected="one of a share, bytes or an accuracy", got=str(self)
            )


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold does.

    Args:
        threshold: Answers less sure go to the cloud.
        share: Of the requests that go.
        accuracy: Of the final answers.
        random: Accuracy if as many went, but drawn by lot.
        mean_bytes: To the cloud, over all requests.
    """

    threshold: float
    share: float
    accuracy: float
    random: float
    mean_bytes: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold with what it was chosen from.

    Args:
        chosen: The threshold, and what it does on the samples.
        curve: From nothing sent to as much as can be.
        samples: How many there were.
        disagreement: Share of the answers kept at the threshold on which the cloud differs; what the live
            audits are compared with.
    """

    chosen: Point
    curve: tuple[Point, ...]
    samples: int
    disagreement: float


def calibrate(samples: Sequence[Sample], goal: Goal) -> Calibration:
    """Choose a threshold.

    Args:
        samples: As the model will meet them; some hundreds at least, or the threshold fits the noise.
        goal: What it is for.

    Raises:
        InputError: There are no samples, or a sureness is not in [0, 1].
        ConfigError: No threshold reaches the goal; says what the best one reaches.
    """
    if not samples:
        raise InputError("calibration: samples", expected="at least one", got="none")
    for each in samples:
        if not 0 <= each.sureness <= 1:
            raise InputError("calibration: a sureness", expected="in [0, 1]", got=f"{each.sureness:g}")
    ordered = sorted(samples, key=lambda each: each.sureness)
    points = _points(ordered)
    chosen = _best(points, goal)
    kept = [each for each in ordered if each.sureness >= chosen.threshold]
    disagreement = sum(not each.agrees for each in kept) / len(kept) if kept else 0.0
    every = max(1, math.ceil(len(points) / _STEPS))
    curve = [point for i, point in enumerate(points) if i % every == 0 or point in (chosen, points[-1])]
    return Calibration(chosen, tuple(curve), len(ordered), disagreement)


def _points(ordered: Sequence[Sample]) -> list[Point]:
    """Give a point for every threshold that sends something else than its neighbours."""
    count = len(ordered)
    local = sum(each.local_right for each in ordered)
    cloud = sum(each.cloud_right for each in ordered)
    points = [Point(0.0, 0.0, local / count, local / count, 0.0)]
    right, sent_bytes = local, 0
    for i, sample in enumerate(ordered):
        right += sample.cloud_right - sample.local_right
        sent_bytes += sample.request_bytes
        above = ordered[i + 1].sureness if i + 1 < count else 1.0
        # Answers that are equally sure go together; at 1 there is no threshold above.
        if above > sample.sureness:
            share = (i + 1) / count
            by_lot = (local + share * (cloud - local)) / count
            points.append(
                Point(_between(sample.sureness, above), share, right / count, by_lot, sent_bytes / count)
            )
    return points


def _between(low: float, high: float) -> float:
    middle = (low + high) / 2
    return middle if low < middle < high else high


def _best(points: Sequence[Point], goal: Goal) -> Point:
    if goal.accuracy is not None:
        reached = [point for point in points if point.accuracy >= goal.accuracy]
        if not reached:
            best = max(points, key=lambda point: (point.accuracy, -point.share))
            raise ConfigError(
                "calibration: the accuracy",
                expected=f"at most {best.accuracy:.4g}, which threshold {best.threshold:.4g} reaches with"
                f" {best.share:.1%} sent",
                got=f"{goal.accuracy:g}",
                do="Ask for less, or take better models",
            )
        return min(reached, key=lambda point: (point.share, -point.accuracy))
    within = [
        point
        for point in points
        if (goal.share is None or point.share <= goal.share)
        and (goal.mean_bytes is None or point.mean_bytes <= goal.mean_bytes)
    ]
    if not within:
        raise ConfigError("calibration: the goal", expected="0 or more", got=str(goal))
    return max(within, key=lambda point: (point.accuracy, -point.share))


class AuditWatch:
    """Says when a threshold no longer holds: when the cloud differs from the kept answers more than it did.

    Each audit of a kept answer is a coin that falls on "differs" with the calibrated rate p at most, while
    all is well. For several greater rates q, R becomes (R + 1) times the likelihood ratio of q to p at each
    audit (the Shiryaev-Roberts statistic); the alarm is raised when the mean of the Rs reaches A. Under p the
    mean less the number of audits is a martingale that starts at 0, so at least A audits pass between false
    alarms on average, however often one looks, and a change long after the start is seen as soon as an early
    one. (Shiryaev 1963, Roberts 1966; as an e-detector: Shin, Ramdas, Rinaldo 2022.)

    Args:
        disagreement: Of the calibration.
        audits_between_false_alarms: A; on average, at least.
        state: Of an earlier watch, to go on from.
    """

    def __init__(
        self,
        disagreement: float,
        *,
        audits_between_false_alarms: float = 10_000.0,
        state: Sequence[float] | None = None,
    ) -> None:
        rate = min(0.95, max(_LEAST_DISAGREEMENT, disagreement))
        odds = rate / (1 - rate)
        greater = [times * odds / (1 + times * odds) for times in _WORSE]
        self._differs = [each / rate for each in greater]
        self._agrees = [(1 - each) / (1 - rate) for each in greater]
        self._limit = audits_between_false_alarms
        self._sums = list(state) if state and len(state) == len(greater) else [0.0] * len(greater)
        self.audits = 0
        """Since it was made."""
        self.differing = 0
        """Of them."""

    @property
    def state(self) -> tuple[float, ...]:
        """What a later watch can go on from."""
        return tuple(self._sums)

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the threshold so far."""
        return sum(self._sums) < self._limit * len(self._sums)

    def add(self, *, agrees: bool) -> bool:
        """Take in an audit.

        Args:
            agrees: Whether the cloud answered as the device did.

        Returns:
            Whether the threshold still holds; once it does not, it stays so until a new calibration.
        """
        self.audits += 1
        self.differing += not agrees
        if self.holds:
            ratios = self._agrees if agrees else self._differs
            self._sums = [(total + 1) * ratio for total, ratio in zip(self._sums, ratios, strict=True)]
        return self.holds
