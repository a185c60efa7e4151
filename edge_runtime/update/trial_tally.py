"""What a trial has seen so far, and the evidence that is made of it. Pure: times come in."""

from dataclasses import dataclass, field
from math import ceil

from edge_runtime.update.health import Evidence
from edge_runtime.update.trial_golden import Difference


@dataclass(slots=True)
class Tally:
    """Counts.

    Args:
        new_ms: What the new version took, an entry a pair of runs.
        old_ms: What the old version took on the same input, right before or after.
    """

    new_ms: list[float] = field(default_factory=list[float])
    old_ms: list[float] = field(default_factory=list[float])
    golden: int = 0
    difference: Difference | None = None
    not_finite: int = 0
    calls: int = 0
    errors: int = 0
    compared: int = 0
    agreed: int = 0
    memory_bytes: int | None = None
    old_memory_bytes: int | None = None

    def evidence(self) -> Evidence:
        """Sum up."""
        wrong = self.difference
        return Evidence(
            golden=self.golden,
            golden_wrong=0 if wrong is None else max(1, wrong.rows),
            golden_worst="" if wrong is None else wrong.said,
            not_finite=self.not_finite,
            calls=self.calls,
            errors=self.errors,
            latency_p95_ms=p95(self.new_ms),
            old_latency_p95_ms=p95(self.old_ms),
            memory_bytes=self.memory_bytes,
            old_memory_bytes=self.old_memory_bytes,
            compared=self.compared,
            agreed=self.agreed,
        )


def p95(values: list[float]) -> float | None:
    """Give the value that 95 of 100 do not exceed; None where there are none."""
    return sorted(values)[ceil(0.95 * len(values)) - 1] if values else None
