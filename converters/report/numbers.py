"""The few numbers that stand for a variant in tables and plots, out of all its receipts.

Writes no page and judges nothing.
"""

from converters.report.data import Outcome, ReportData, ReportVariant
from converters.verify.gate import MEASURES, SOURCE
from edge_runtime.contract.bundle import Receipt

IN_BUNDLE = frozenset({Outcome.SHIPPED, Outcome.UNVERIFIED})


def outcome_of(variant: ReportVariant) -> Outcome:
    """Give the best that became of a variant for any profile."""
    found = {verdict.outcome for verdict in variant.verdicts.values()}
    return next(outcome for outcome in Outcome if outcome in found or outcome is Outcome.FAILED)


def in_bundle(variant: ReportVariant) -> bool:
    """Say whether any profile is served by it."""
    return outcome_of(variant) in IN_BUNDLE


def measure_of(data: ReportData) -> str:
    """Give the task's own measure of accuracy; empty where none was taken."""
    keys = {key for variant in data.variants for receipt in variant.receipts for key in receipt.accuracy}
    return next((measure for measure in MEASURES if measure in keys), "")


def source_accuracy(data: ReportData) -> float | None:
    """Give what the source model reached of that measure."""
    key = SOURCE + measure_of(data)
    receipts = (receipt for variant in data.variants for receipt in variant.receipts)
    return next((one.accuracy[key] for one in receipts if key in one.accuracy), None)


def accuracy_of(variant: ReportVariant, measure: str) -> float | None:
    """Give the lowest accuracy that any engine reached."""
    return min((one.accuracy[measure] for one in variant.receipts if measure in one.accuracy), default=None)


def parity_of(variant: ReportVariant, prefix: str) -> float | None:
    """Give the lowest of all outputs and engines, of the measures whose key begins so."""
    values = (
        value for one in variant.receipts for key, value in one.parity.items() if key.startswith(prefix)
    )
    return min(values, default=None)


def latency_of(variant: ReportVariant) -> float | None:
    """Give the median of the fastest engine, milliseconds."""
    quickest = _quickest(variant)
    return quickest.latency.p50_ms if quickest and quickest.latency else None


def memory_of(variant: ReportVariant) -> int | None:
    """Give the peak of the fastest engine, bytes."""
    quickest = _quickest(variant)
    return quickest.peak_memory_bytes if quickest else None


def megabytes_of(variant: ReportVariant) -> float | None:
    """Give the size in millions of bytes."""
    return None if variant.size_bytes is None else variant.size_bytes / 1e6


def _quickest(variant: ReportVariant) -> Receipt | None:
    timed = [one for one in variant.receipts if one.latency]
    return min(timed, key=lambda one: one.latency.p50_ms if one.latency else 0.0, default=None)
