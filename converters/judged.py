"""What became of each planned variant: made and measured, its evidence meets the gate. Runs nothing."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue, TypeAdapter

from converters.bundle.writer import BuiltVariant
from converters.planned import PlannedVariant
from converters.recipe import Recipe
from converters.report.data import LayerError, Outcome
from converters.runner import Done
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


def judge(variant: PlannedVariant, recipe: Recipe, walk: Walk) -> Judged:
    """Say what became of a variant.

    Args:
        variant: As planned.
        recipe: Its budgets decide.
        walk: Over.
    """
    made = walk.outcomes[variant.step]
    if not isinstance(made, Done):
        return Judged(variant, Outcome.FAILED, walk.why(made), variant.precision)
    told = made.facts.get("precision")
    precision = Precision(str(told)) if told in set(Precision) else variant.precision
    size, layers = _size(made.path), _layers(made.facts)
    steps = (*walk.plan.chain(variant.step), f"verify-{variant.id}")
    warnings = tuple(
        dict.fromkeys(text for step in steps for text in texts(walk.facts(step).get("warnings")))
    )
    trial = walk.measured(variant)
    if not isinstance(trial, Done):
        return Judged(
            variant, Outcome.FAILED, walk.why(trial), precision, size, layers=layers, warnings=warnings
        )
    receipts = _LIST.validate_json((trial.path / _RECEIPTS).read_bytes())
    foreign = variant.kernels not in HOST_KERNELS.get(platform.machine(), {""})
    shown = tuple(_without_speed(one) for one in receipts) if foreign else receipts
    evidence = gate.Evidence(
        precision, size, shown, bool(trial.facts.get("labelled")), variant.twin is not None
    )
    verdict = gate.judge(evidence, recipe.budgets)
    if verdict.outcome is gate.Outcome.FAILED:
        return Judged(
            variant, Outcome.LEFT_OUT, verdict.why, precision, size, receipts, None, layers, warnings
        )
    own = differences(recipe.task, task_of(recipe.task, walk.shape(variant.step)))
    built = BuiltVariant(variant.id, variant.format, precision, made.path, variant.profiles, **own)
    passed = verdict.outcome is gate.Outcome.PASSED
    why = "" if passed else "; ".join(dict.fromkeys([verdict.why, *texts(trial.facts.get("not_verified"))]))
    outcome = Outcome.SHIPPED if passed else Outcome.UNVERIFIED
    return Judged(variant, outcome, why, precision, size, receipts, built, layers, warnings)


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
