"""The gate: receipts × budgets → a verdict, with every number it judged in words.

Pure: measures nothing and opens nothing. What nobody measured is neither passed nor failed: the line says
`not verified here`.

A variant may be measured with several engines. Wrong numbers in any of them fail it, for a device might
choose that engine; too slow, or too much memory, only fails it where no engine keeps the budget.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from converters.recipe import Budgets
from edge_runtime.contract.bundle import Precision, Receipt

MEASURES = ("ap", "top1", "spearman", "r2", "macro_f1")
"""The task's own measure of accuracy: the first of these that a receipt has."""
SOURCE = "source."
"""Prefix, in `Receipt.accuracy`, of what the source model reached on the same samples."""
COSINE = "cosine."
AGREEMENT = "agreement."
EXPORT = "export.rel"
"""Key, in `Receipt.parity`, of the largest difference between the source's own framework and the export that
stands for it, by the largest value."""
QUANTIZED = frozenset(Precision) - {Precision.FP32, Precision.FP16}


class Outcome(StrEnum):
    """Of a check, or of all of them."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_VERIFIED = "not verified here"


@dataclass(frozen=True, slots=True)
class Check:
    """One number and its budget.

    Args:
        name: What was judged: `cosine.boxes`, `size`, `accuracy`, …
        outcome: How it went.
        words: The sentence for a person, with the number and the budget.
    """

    name: str
    outcome: Outcome
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a variant."""

    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        """FAILED where one check failed; NOT_VERIFIED where one could not be made; PASSED otherwise."""
        outcomes = {check.outcome for check in self.checks}
        return next(
            (one for one in (Outcome.FAILED, Outcome.NOT_VERIFIED) if one in outcomes), Outcome.PASSED
        )

    @property
    def why(self) -> str:
        """What failed, or what was not verified, in one line; empty when all passed."""
        return "; ".join(
            check.words for check in self.checks if check.outcome is self.outcome != Outcome.PASSED
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a variant.

    Args:
        precision: What it became.
        size_bytes: Of its file or folder; None: not known.
        receipts: What was measured on this host, one an engine; empty: nothing could be.
        labelled: Whether the samples had labels, so that accuracy could be measured.
        twin: Whether there is a float model of it; a source that is quantized already has none, and no speed
            to be compared with.
    """

    precision: Precision
    size_bytes: int | None = None
    receipts: Sequence[Receipt] = ()
    labelled: bool = False
    twin: bool = True


def judge(evidence: Evidence, budgets: Budgets) -> Verdict:
    """Judge a variant.

    Args:
        evidence: What is known of it.
        budgets: What it must keep.
    """
    return Verdict(
        (
            *_size(evidence, budgets),
            *_parity(evidence, budgets),
            *_accuracy(evidence, budgets),
            *_latency(evidence, budgets),
            *_speed(evidence, budgets),
            *_memory(evidence, budgets),
        )
    )


def _size(evidence: Evidence, budgets: Budgets) -> Iterator[Check]:
    limit, size = budgets.size_bytes, evidence.size_bytes
    if limit is None:
        return
    if size is None:
        yield _unknown("size", "its size")
    else:
        yield _check("size", size <= limit, f"{size} bytes", f"{limit} bytes")


def _parity(evidence: Evidence, budgets: Budgets) -> Iterator[Check]:
    judged = False
    # The budget of an angle as a relative error: for a small angle a, cos a = 1 - a²/2.
    most = sqrt(2 * (1 - budgets.cosine))
    for receipt in evidence.receipts:
        for key, value in sorted(receipt.parity.items()):
            if key.startswith(COSINE):
                judged = True
                yield _least(key, value, budgets.cosine, receipt)
            elif key.startswith(AGREEMENT):
                judged = True
                yield _least(key, value, budgets.agreement, receipt)
            elif key == EXPORT:
                got = f"a relative error of {value:.2g} against the framework"
                yield _check(key, value <= most, got, f"{most:.2g}, as cosine {budgets.cosine:g} allows")
    if not judged:
        yield _unknown("parity", "its likeness to the source")


def _accuracy(evidence: Evidence, budgets: Budgets) -> Iterator[Check]:
    if not evidence.labelled:
        return
    judged = False
    for receipt in evidence.receipts:
        measure = next((one for one in MEASURES if one in receipt.accuracy), None)
        if measure is None or SOURCE + measure not in receipt.accuracy:
            continue
        judged = True
        got, source = receipt.accuracy[measure], receipt.accuracy[SOURCE + measure]
        # Compared by what is left, not by the difference: 0.9 - 0.8 is not 0.1 in binary.
        yield _check(
            f"accuracy.{measure}",
            got >= source - budgets.accuracy_drop,
            f"{measure} {got:.4f} against the source's {source:.4f} on {receipt.engine}",
            f"a drop of {budgets.accuracy_drop:g}",
        )
    if not judged:
        yield _unknown("accuracy", "its accuracy")


def _latency(evidence: Evidence, budgets: Budgets) -> Iterator[Check]:
    if budgets.latency_ms is None:
        return
    timed = ((one.engine, one.latency.p50_ms) for one in evidence.receipts if one.latency)
    yield _lowest("latency", "its latency", timed, budgets.latency_ms, "{:.3g} ms")


def _speed(evidence: Evidence, budgets: Budgets) -> Iterator[Check]:
    if evidence.precision not in QUANTIZED or not evidence.twin:
        return
    ratios = (
        (one.engine, one.latency.times_fp32)
        for one in evidence.receipts
        if one.latency and one.latency.times_fp32 is not None
    )
    limit = budgets.slower_than_fp32
    yield _lowest("speed", "its speed against fp32", ratios, limit, "{:.2f} times fp32's time")


def _memory(evidence: Evidence, budgets: Budgets) -> Iterator[Check]:
    if budgets.memory_bytes is None:
        return
    peaks = (
        (one.engine, one.peak_memory_bytes) for one in evidence.receipts if one.peak_memory_bytes is not None
    )
    yield _lowest("memory", "its peak memory", peaks, budgets.memory_bytes, "{:.0f} bytes at its peak")


def _lowest(name: str, what: str, values: Iterable[tuple[str, float]], limit: float, form: str) -> Check:
    """Judge the engine that does best."""
    best = min(((value, engine) for engine, value in values), default=None)
    if best is None:
        return _unknown(name, what)
    value, engine = best
    return _check(name, value <= limit, f"{form.format(value)} on {engine}", f"{limit:g}")


def _least(key: str, value: float, limit: float, receipt: Receipt) -> Check:
    return _check(key, value >= limit, f"{key} {value:.4f} on {receipt.engine}", f"at least {limit:g}")


def _check(name: str, passed: bool, got: str, budget: str) -> Check:
    outcome = Outcome.PASSED if passed else Outcome.FAILED
    return Check(name, outcome, f"{got}, the budget is {budget}")


def _unknown(name: str, what: str) -> Check:
    return Check(name, Outcome.NOT_VERIFIED, f"{what}: {Outcome.NOT_VERIFIED}")
