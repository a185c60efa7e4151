"""Does a new version stand its trial? Pure: measurements come in, a verdict with its number goes out."""

from dataclasses import dataclass

from edge_runtime.contract.fleet import Trial
from edge_runtime.contract.update import Failure

_ENOUGH = 10
"""Answers that an agreement can be told from."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a trial measured.

    Args:
        golden: Golden inputs that were run.
        golden_wrong: Of them, how many answers differ from what the bundle says.
        golden_worst: What the worst one looks like, for a person.
        not_finite: Outputs with a NaN or an infinity, golden and live.
        calls: Live inputs the new version was asked.
        errors: Of them, how many failed.
        latency_p95_ms: Of the new version; None: not measured.
        old_latency_p95_ms: Of the old one; None: there is none.
        memory_bytes: The new version's peak; None: not measured.
        old_memory_bytes: The old one's peak; None: there is none.
        compared: Live inputs that both versions answered.
        agreed: Of them, how many answers agree.
    """

    golden: int = 0
    golden_wrong: int = 0
    golden_worst: str = ""
    not_finite: int = 0
    calls: int = 0
    errors: int = 0
    latency_p95_ms: float | None = None
    old_latency_p95_ms: float | None = None
    memory_bytes: int | None = None
    old_memory_bytes: int | None = None
    compared: int = 0
    agreed: int = 0


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """Why a version does not stand its trial.

    Args:
        code: Reported to the manager.
        detail: The number that failed, and its limit.
    """

    code: Failure
    detail: str


def judge(evidence: Evidence, needs: Trial) -> Unhealthy | None:
    """Judge a trial; what is wrong for certain comes before what is slow.

    Args:
        evidence: What was measured.
        needs: What the deployment asks for.

    Returns:
        The first thing that failed; None: it may replace the old version.
    """
    return (
        _wrong(evidence)
        or _erring(evidence, needs)
        or _over(
            Failure.TOO_SLOW, "p95 latency", "ms", limit=needs.max_latency_ratio,
            new=evidence.latency_p95_ms, old=evidence.old_latency_p95_ms,
        )
        or _over(
            Failure.TOO_MUCH_MEMORY, "peak memory", "bytes", limit=needs.max_memory_ratio,
            new=evidence.memory_bytes, old=evidence.old_memory_bytes,
        )
        or _disagreeing(evidence, needs)
    )  # fmt: skip


def _wrong(evidence: Evidence) -> Unhealthy | None:
    if evidence.not_finite:
        return Unhealthy(Failure.NOT_A_NUMBER, f"{evidence.not_finite} outputs with NaN or infinity, limit 0")
    if evidence.golden_wrong:
        return Unhealthy(
            Failure.GOLDEN_MISMATCH,
            f"{evidence.golden_wrong} of {evidence.golden} golden answers differ, limit 0"
            + (f"; worst: {evidence.golden_worst}" if evidence.golden_worst else ""),
        )
    return None


def _erring(evidence: Evidence, needs: Trial) -> Unhealthy | None:
    if evidence.calls == 0 or evidence.errors <= needs.max_error_rate * evidence.calls:
        return None
    rate = evidence.errors / evidence.calls
    return Unhealthy(
        Failure.TOO_MANY_ERRORS,
        f"{evidence.errors} of {evidence.calls} calls failed: {rate:.3g}, limit {needs.max_error_rate:g}",
    )


def _over(
    code: Failure, what: str, unit: str, *, new: float | None, old: float | None, limit: float
) -> Unhealthy | None:
    if new is None or not old or new <= limit * old:
        return None
    return Unhealthy(
        code,
        f"{what} {new:,.6g} {unit}, the old version's {old:,.6g}: {new / old:.3g} times, limit {limit:g}",
    )


def _disagreeing(evidence: Evidence, needs: Trial) -> Unhealthy | None:
    """Catch a version that sees nothing, or something else: its golden answers are its own, and agree."""
    if needs.min_agreement <= 0:
        return None
    if evidence.compared < _ENOUGH:
        if needs.min_agreement <= Trial().min_agreement:
            return None
        return Unhealthy(
            Failure.SHADOW_DISAGREES,
            f"{evidence.compared} live inputs came to compare on, at least {_ENOUGH} are needed",
        )
    if evidence.agreed >= needs.min_agreement * evidence.compared:
        return None
    return Unhealthy(
        Failure.SHADOW_DISAGREES,
        f"{evidence.agreed} of {evidence.compared} answers agree: "
        f"{evidence.agreed / evidence.compared:.3g}, limit {needs.min_agreement:g}",
    )
