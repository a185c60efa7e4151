"""What became of each planned variant: made and measured, its evidence meets the gate. Runs nothing."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from pydantic import JsonValue, TypeAdapter

from converters.bundle.writer import BuiltVariant
from converters.planned import PlannedVariant
from converters.recipe import Recipe
from converters.report.data import LayerError, Outcome, Verdict
from converters.runner import Done, Failed
from converters.store import OWN_NAMES
from converters.targets import HOST_KERNELS
from converters.variants import differences, task_of
from converters.verify import gate
from converters.walk import Walk
from edge_runtime.contract.bundle import Precision, Receipt

_RECEIPTS = "receipt.json"
_LIST: TypeAdapter[tuple[Receipt, ...]] = TypeAdapter(tuple[Receipt, ...])


@dataclass(frozen=True, slots=True)
class Judged:
    """A planned variant, and what became of it.

    Args:
        planned: As planned.
        outcome: As reports call it.
        why: The number or the error; empty where it passed.
        precision: What it became.
        size_bytes: Of its files; None: it was not made.
        receipts: What was measured.
        built: What the bundle gets; None: nothing.
        layers: Sensitivity, where it was measured.
        warnings: Of all the steps that made it, and of its measuring.
        verdicts: By profile, where it was judged: the same numbers may pass on one device's engine and fail
            on another's.
        failure: The step that could not make or measure it; None: both were done.
    """

    planned: PlannedVariant
    outcome: Outcome
    why: str
    precision: Precision
    size_bytes: int | None = None
    receipts: tuple[Receipt, ...] = ()
    built: BuiltVariant | None = None
    layers: tuple[LayerError, ...] = ()
    warnings: tuple[str, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    failure: Failed | None = None

    def verdict(self, profile: str) -> Verdict:
        """Say what became of it for one profile."""
        return self.verdicts.get(profile, Verdict(self.outcome, self.why))


def judge(variant: PlannedVariant, recipe: Recipe, walk: Walk) -> Judged:
    """Say what became of a variant.

    Args:
        variant: As planned.
        recipe: Its budgets decide.
        walk: Over.
    """
    made = walk.outcomes[variant.step]
    if not isinstance(made, Done):
        return _failed(variant, variant.precision, walk.failure(made))
    told = made.facts.get("precision")
    precision = Precision(str(told)) if told in set(Precision) else variant.precision
    size, layers = _size(made.path), _layers(made.facts)
    steps = (*walk.plan.chain(variant.step), f"verify-{variant.id}")
    warnings = tuple(
        dict.fromkeys(text for step in steps for text in texts(walk.facts(step).get("warnings")))
    )
    trial = walk.measured(variant)
    if not isinstance(trial, Done):
        lost = _failed(variant, precision, walk.failure(trial))
        return replace(lost, size_bytes=size, layers=layers, warnings=warnings)
    receipts = _LIST.validate_json((trial.path / _RECEIPTS).read_bytes())
    foreign = variant.kernels not in HOST_KERNELS.get(platform.machine(), {""})
    shown = tuple(_without_speed(one) for one in receipts) if foreign else receipts
    labelled = bool(trial.facts.get("labelled"))
    missing = texts(trial.facts.get("not_verified"))
    verdicts: dict[str, Verdict] = {}
    for profile in variant.profiles:
        own_receipts = _of(profile, variant, shown)
        evidence = gate.Evidence(precision, size, own_receipts, labelled, variant.twin is not None)
        verdicts[profile] = _told(gate.judge(evidence, recipe.budgets), missing)
    served = tuple(name for name, one in verdicts.items() if one.outcome is not Outcome.LEFT_OUT)
    own = differences(recipe.task, task_of(recipe.task, walk.shape(variant.step)))
    return Judged(
        variant,
        min((one.outcome for one in verdicts.values()), key=_ORDER.index),
        _why(verdicts),
        precision,
        size,
        receipts,
        BuiltVariant(variant.id, variant.format, precision, made.path, served, **own) if served else None,
        layers,
        warnings,
        verdicts,
    )


def _failed(variant: PlannedVariant, precision: Precision, failure: Failed | None) -> Judged:
    why = str(failure.error) if failure else ""
    return Judged(variant, Outcome.FAILED, why, precision, failure=failure)


_ORDER = (Outcome.SHIPPED, Outcome.UNVERIFIED, Outcome.LEFT_OUT)
"""What is said of a variant as a whole is the best that is said for a profile."""


def _of(profile: str, variant: PlannedVariant, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Take the receipts of a profile's own engines, and of what stands in for one that cannot be here."""
    engines = {engine for name, engine in variant.serving if name == profile}
    return [one for one in receipts if one.engine in engines or one.engine not in variant.engines]


def _told(verdict: gate.Verdict, missing: Sequence[str]) -> Verdict:
    if verdict.outcome is gate.Outcome.FAILED:
        return Verdict(Outcome.LEFT_OUT, verdict.why)
    if verdict.outcome is gate.Outcome.PASSED:
        return Verdict(Outcome.SHIPPED)
    unknown = [one.words for one in verdict.checks if one.outcome is gate.Outcome.NOT_VERIFIED]
    # The outcome says it once, before all of them.
    said = (text.removesuffix(f": {gate.Outcome.NOT_VERIFIED}") for text in (*unknown, *missing))
    return Verdict(Outcome.UNVERIFIED, "; ".join(dict.fromkeys(said)))


def _why(verdicts: Mapping[str, Verdict]) -> str:
    """Say why in one line; with the profiles where they differ."""
    profiles: dict[str, list[str]] = {}
    for profile, one in verdicts.items():
        profiles.setdefault(one.why, []).append(profile)
    if len(profiles) == 1:
        return next(iter(profiles))
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in profiles.items() if why)


def texts(value: JsonValue) -> list[str]:
    """Give a fact that is a list of lines; empty where it is not there."""
    return [str(one) for one in value] if isinstance(value, list) else []


def _without_speed(receipt: Receipt) -> Receipt:
    """Leave out what a processor of another kind says of kernels that it does not have."""
    latency = receipt.latency and receipt.latency.model_copy(update={"times_fp32": None})
    return receipt.model_copy(update={"latency": latency})


def _layers(facts: Mapping[str, JsonValue]) -> tuple[LayerError, ...]:
    told = facts.get("layers")
    rows = [row for row in told if isinstance(row, dict)] if isinstance(told, list) else []
    return tuple(
        LayerError(str(row["name"]), float(cast(float, row["error"])), str(row.get("precision", "")))
        for row in rows
        if row.get("error") is not None
    )


def _size(folder: Path) -> int:
    """Bytes of what a step left, without what the store keeps beside it."""
    return sum(
        file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file() and file.relative_to(folder).parts[0] not in OWN_NAMES
    )
