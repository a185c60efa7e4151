"""What holds for every verdict, whatever was measured; and a table of decisions."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.recipe import Budgets
from converters.verify.gate import QUANTIZED, Evidence, Outcome, judge
from edge_runtime.contract.bundle import Latency, Precision, Receipt

SHARES = st.sampled_from((-1.0, 0.0, 0.5, 0.9, 0.95, 0.99, 1.0))
KEYS = ("cosine.boxes", "cosine.scores", "agreement.boxes", "agreement.top1", "export.rel", "samples")


def receipt(**more: Any) -> Receipt:
    return Receipt(
        **{
            "variant": "onnx-int8",
            "engine": "onnxruntime",
            "machine": "here",
            "measured_at": "2026-01-01T00:00:00Z",
            **more,
        }
    )


def latency(p50_ms: float, times_fp32: float | None = None) -> Latency:
    return Latency(p50_ms=p50_ms, p95_ms=p50_ms, threads=1, runs=9, times_fp32=times_fp32)


latencies = st.none() | st.builds(
    latency, st.sampled_from((1.0, 5.0, 20.0)), st.none() | st.sampled_from((0.5, 1.0, 1.5))
)
receipts = st.builds(
    receipt,
    engine=st.sampled_from(("onnxruntime", "openvino")),
    parity=st.dictionaries(st.sampled_from(KEYS), SHARES, max_size=4),
    accuracy=st.dictionaries(st.sampled_from(("top1", "source.top1", "ap", "source.ap")), SHARES),
    latency=latencies,
    peak_memory_bytes=st.none() | st.sampled_from((10, 1000)),
)
evidence = st.builds(
    Evidence,
    precision=st.sampled_from(Precision),
    size_bytes=st.none() | st.sampled_from((10, 1000)),
    receipts=st.lists(receipts, max_size=3),
    labelled=st.booleans(),
)
LIMITS = {
    "size_bytes": (5, 100, 2000),
    "latency_ms": (0.5, 3.0, 50.0),
    "memory_bytes": (5, 100, 2000),
    "accuracy_drop": (0.0, 0.05, 1.0),
    "cosine": (1.0, 0.95, -1.0),
    "agreement": (1.0, 0.95, 0.0),
    "slower_than_fp32": (0.4, 1.0, 2.0),
}
"""Values of each budget, the strictest first."""
budgets = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in LIMITS.items()}).map(
    lambda chosen: Budgets(**chosen)
)


@given(evidence, budgets, st.sampled_from(sorted(LIMITS)), st.sampled_from((1, 2)))
def test_loosening_a_budget_fails_nothing_that_did_not_fail(
    of: Evidence, limits: Budgets, name: str, place: int
) -> None:
    values = LIMITS[name]
    looser = limits.model_copy(update={name: values[min(2, values.index(getattr(limits, name)) + place)]})
    strict, loose = judge(of, limits), judge(of, looser)
    assert [check.name for check in strict.checks] == [check.name for check in loose.checks]
    for before, after in zip(strict.checks, loose.checks, strict=True):
        assert after.outcome in {before.outcome, Outcome.PASSED}


@given(evidence, budgets)
def test_what_nobody_measured_is_never_passed(of: Evidence, limits: Budgets) -> None:
    verdict = judge(replace(of, receipts=()), limits)
    assert verdict.outcome in {Outcome.NOT_VERIFIED, Outcome.FAILED}
    assert all(check.name == "size" for check in verdict.checks if check.outcome is not Outcome.NOT_VERIFIED)


@given(evidence, budgets)
def test_the_outcome_is_that_of_the_checks_and_says_why(of: Evidence, limits: Budgets) -> None:
    verdict = judge(of, limits)
    outcomes = {check.outcome for check in verdict.checks}
    assert (verdict.outcome is Outcome.FAILED) == (Outcome.FAILED in outcomes)
    assert (verdict.outcome is Outcome.PASSED) == (outcomes <= {Outcome.PASSED})
    assert bool(verdict.why) == (verdict.outcome is not Outcome.PASSED)
    assert all(check.words in verdict.why for check in verdict.checks if check.outcome is Outcome.FAILED)


@given(evidence, budgets)
def test_the_order_of_receipts_does_not_matter(of: Evidence, limits: Budgets) -> None:
    backwards = replace(of, receipts=tuple(reversed(of.receipts)))
    assert judge(backwards, limits).outcome is judge(of, limits).outcome


@given(evidence, receipts, budgets)
def test_another_engine_never_mends_wrong_numbers(of: Evidence, more: Receipt, limits: Budgets) -> None:
    before = {c.words for c in judge(of, limits).checks if c.outcome is Outcome.FAILED and "cosine" in c.name}
    after = {c.words for c in judge(replace(of, receipts=(*of.receipts, more)), limits).checks}
    assert before <= after


FINE = {"cosine.out": 0.999, "agreement.top1": 1.0}
DROPPED = {"top1": 0.88, "source.top1": 0.9}
TABLE: tuple[tuple[str, Evidence, dict[str, Any], Outcome, str], ...] = (
    ("alike", Evidence(Precision.FP32, 10, [receipt(parity=FINE)]), {}, Outcome.PASSED, ""),
    (
        "one of two outputs is not",
        Evidence(Precision.FP32, 10, [receipt(parity={"cosine.boxes": 1, "cosine.scores": 0.0})]),
        {},
        Outcome.FAILED,
        "cosine.scores 0.0000 on onnxruntime, the budget is at least 0.99",
    ),
    (
        "boxes are lost",
        Evidence(Precision.FP32, 10, [receipt(parity={"agreement.boxes": 0.64})]),
        {},
        Outcome.FAILED,
        "agreement.boxes 0.6400 on onnxruntime, the budget is at least 0.95",
    ),
    (
        "the export itself is wrong",
        Evidence(Precision.FP32, 10, [receipt(parity={**FINE, "export.rel": 0.3})]),
        {},
        Outcome.FAILED,
        "a relative error of 0.3 against the framework, the budget is 0.14, as cosine 0.99 allows",
    ),
    (
        "quantized and slower",
        Evidence(Precision.INT8, 10, [receipt(parity=FINE, latency=latency(3, 1.5))]),
        {},
        Outcome.FAILED,
        "1.50 times fp32's time on onnxruntime, the budget is 1",
    ),
    (
        "quantized, slower in one engine only",
        Evidence(
            Precision.INT8,
            10,
            [
                receipt(parity=FINE, latency=latency(3, 1.5)),
                receipt(parity=FINE, engine="openvino", latency=latency(1, 0.4)),
            ],
        ),
        {},
        Outcome.PASSED,
        "",
    ),
    (
        "quantized, its fp32 twin not measured",
        Evidence(Precision.INT8, 10, [receipt(parity=FINE, latency=latency(3))]),
        {},
        Outcome.NOT_VERIFIED,
        "its speed against fp32: not verified here",
    ),
    (
        "half precision may be slower",
        Evidence(Precision.FP16, 10, [receipt(parity=FINE, latency=latency(3, 1.5))]),
        {},
        Outcome.PASSED,
        "",
    ),
    (
        "less accurate",
        Evidence(Precision.FP32, 10, [receipt(parity=FINE, accuracy=DROPPED)], labelled=True),
        {},
        Outcome.FAILED,
        "top1 0.8800 against the source's 0.9000 on onnxruntime, the budget is a drop of 0.01",
    ),
    (
        "less accurate, and that is allowed",
        Evidence(Precision.FP32, 10, [receipt(parity=FINE, accuracy=DROPPED)], labelled=True),
        {"accuracy_drop": 0.02},
        Outcome.PASSED,
        "",
    ),
    (
        "labels, but no accuracy",
        Evidence(Precision.FP32, 10, [receipt(parity=FINE)], labelled=True),
        {},
        Outcome.NOT_VERIFIED,
        "its accuracy: not verified here",
    ),
    ("nothing runs it", Evidence(Precision.FP32, 10), {}, Outcome.NOT_VERIFIED, "its likeness to the source"),
    (
        "too large, whoever runs it",
        Evidence(Precision.FP32, 10),
        {"size_bytes": 9},
        Outcome.FAILED,
        "10 bytes, the budget is 9 bytes",
    ),
    (
        "too slow",
        Evidence(Precision.FP32, 10, [receipt(parity=FINE, latency=latency(12))]),
        {"latency_ms": 10},
        Outcome.FAILED,
        "12 ms on onnxruntime, the budget is 10",
    ),
    (
        "too much memory",
        Evidence(Precision.FP32, 10, [receipt(parity=FINE, peak_memory_bytes=12)]),
        {"memory_bytes": 10},
        Outcome.FAILED,
        "12 bytes at its peak on onnxruntime, the budget is 10",
    ),
)


@pytest.mark.parametrize(
    ("of", "limits", "outcome", "why"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_decisions(of: Evidence, limits: dict[str, Any], outcome: Outcome, why: str) -> None:
    verdict = judge(of, Budgets(**limits))
    assert verdict.outcome is outcome
    assert why in verdict.why


def test_every_precision_that_promises_speed_is_judged_by_it() -> None:
    assert set(Precision) - QUANTIZED == {Precision.FP32, Precision.FP16}
