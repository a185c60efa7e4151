"""What the report of a conversion is about, filled in by `build`.

Holds only; `page` writes it as HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from edge_runtime.contract.bundle import Provenance, Receipt


class Outcome(StrEnum):
    """What became of a variant for one device profile."""

    SHIPPED = "shipped"
    """In the bundle, and measured to hold its budgets."""
    UNVERIFIED = "not verified here"
    """In the bundle; nothing on this host can run it."""
    LEFT_OUT = "left out"
    """Made and measured; the gate refused it."""
    FAILED = "failed"
    """Could not be made or measured."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a variant for one profile, and why: the number that failed, or the error in one line."""

    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class LayerError:
    """How much one layer loses.

    Args:
        name: As in the model.
        error: Larger is worse; 0 is exact. The unit is that of `ReportVariant.layer_unit`.
        precision: What the layer has now: `fp32` where mixed precision gave it back.
    """

    name: str
    error: float
    precision: str = ""


@dataclass(frozen=True, slots=True)
class ReportVariant:
    """One variant that was planned.

    Args:
        id: E.g. `onnx-int8`.
        format: E.g. `onnx`.
        precision: E.g. `int8`.
        verdicts: By device profile; at least one.
        size_bytes: Of its files; None: it was not made.
        receipts: What was measured, with the keys of `verify.parity` and `verify.gate`; empty: nothing was.
        layers: Sensitivity of layers, where it was measured.
        layer_unit: What the numbers of `layers` are, for the chart's title.
        warnings: One line each.
    """

    id: str
    format: str
    precision: str
    verdicts: Mapping[str, Verdict]
    size_bytes: int | None = None
    receipts: Sequence[Receipt] = ()
    layers: Sequence[LayerError] = ()
    layer_unit: str = "error"
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReportData:
    """One conversion.

    Args:
        name: Of the bundle.
        version: Of the bundle.
        task: The task's kind.
        source: Where the model came from, for a person.
        variants: In the order of the plan.
        source_size_bytes: Of the source model.
        facts: What else a reader should know, by name: the machine, the samples, the seconds it took.
        provenance: As in the bundle.
    """

    name: str
    version: str
    task: str
    source: str
    variants: Sequence[ReportVariant]
    source_size_bytes: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    provenance: Provenance | None = None
