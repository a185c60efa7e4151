"""Golden answers: is what a new version gives for its golden inputs what its source model gave?

A variant may be quantized, so the cosine of the two must be at least `1 - 3 · (1 - c) - 0.001`, where `c` is
what the variant's receipt says was measured when it was built; 0.999 (fp32, fp16) or 0.95 where no receipt
says anything. The median over the rows counts. Lengths, which a cosine does not see, may differ by a factor
of 1.5. Outputs that are boxes already are compared as boxes: of those that the source is sure of, 60 % must
be found again. Runs no model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from edge_runtime.contract.bundle import Precision
from edge_runtime.contract.errors import BundleError, ConfigError
from edge_runtime.contract.task import DetectionSpec, NmsHead, SsdHead
from edge_runtime.contract.tensors import Array, Tensors, TensorSpec
from edge_runtime.tasks.likeness import cosine
from edge_runtime.tasks.make import make_any_task
from edge_runtime.tasks.names import plain_name
from edge_runtime.tasks.outputs import Output
from edge_runtime.tasks.rows import Rows
from edge_runtime.update.trial_likeness import found_again
from edge_runtime.update.trial_side import Side

COSINE = "cosine."
"""Prefix, in a receipt's `parity`, of the median cosine of an output."""
_TIMES = 3
_SLACK = 0.001
_UNMEASURED = {Precision.FP32: 0.999, Precision.FP16: 0.999}
_UNMEASURED_QUANTIZED = 0.95
_MOST_RATIO = 1.5
_TINY = 1e-9
_FOUND = 0.6
_SURE = 1.5
"""A box counts when its score is this many times the least one that the task gives."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs.

    Args:
        rows: How many golden answers.
        said: The worst of it, for a person.
    """

    rows: int
    said: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike the two were.

    Args:
        likeness: The least median cosine of an output, or the share of objects found again; None: none could
            be compared.
        difference: What differs; None: nothing does.
    """

    likeness: float | None
    difference: Difference | None = None


def compare(side: Side, raws: Sequence[Any], answers: Sequence[Tensors], wanted: Rows) -> Comparison:
    """Hold a version's outputs against those of its source model.

    Args:
        side: The version.
        raws: The golden inputs.
        answers: What it gave for each.
        wanted: What the source model gave, by output.

    Raises:
        BundleError: The golden files do not belong together.
    """
    if not raws or any(len(some) != len(raws) for some in wanted.values()):
        raise BundleError(
            f"golden outputs of model '{side.bundle.manifest.name}'",
            expected=f"{len(raws)} rows, as many as there are inputs, and at least 1",
            got=", ".join(f"{name}: {len(some)}" for name, some in wanted.items()) or "none",
            do="Build the bundle again",
        )
    specs = side.bundle.manifest.task, side.spec
    if any(isinstance(spec, DetectionSpec) and isinstance(spec.head, NmsHead | SsdHead) for spec in specs):
        return _boxes(side, raws, answers, wanted)
    worst: float | None = None
    for name, cosines, ratios in _likenesses(side, answers, wanted):
        least, value = _least(side, name), median(cosines)
        worst = value if worst is None else min(worst, value)
        if value < least:
            said = f"output '{name}': cosine {value:.4f}, at least {least:.4f} expected"
            return Comparison(worst, Difference(sum(each < least for each in cosines), said))
        if not 1 / _MOST_RATIO <= median(ratios) <= _MOST_RATIO:
            far = sum(not 1 / _MOST_RATIO <= each <= _MOST_RATIO for each in ratios)
            said = f"output '{name}': {median(ratios):.3g} times as large"
            return Comparison(worst, Difference(far, said))
    return Comparison(worst)


def _likenesses(
    side: Side, answers: Sequence[Tensors], wanted: Rows
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Give cosines and ratios of lengths of each output that both have; axes of 1 do not count."""
    specs = {plain_name(spec.name): spec for spec in side.session.outputs}
    if len(specs) == len(wanted) == 1:
        specs = {plain_name(next(iter(wanted))): next(iter(specs.values()))}
    for name, rows in wanted.items():
        spec = specs.get(plain_name(name))
        if spec is None:
            continue
        output = Output("output", spec)
        pairs = [(row, output.read(answer)) for row, answer in zip(rows, answers, strict=True)]
        if all(_without_ones(mine) == _without_ones(theirs) for mine, theirs in pairs):
            cosines = [cosine(mine, theirs) for mine, theirs in pairs]
            ratios = [(_length(theirs) + _TINY) / (_length(mine) + _TINY) for mine, theirs in pairs]
            yield name, cosines, ratios


def _length(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _without_ones(array: Array) -> tuple[int, ...]:
    return tuple(axis for axis in array.shape if axis != 1)


def _least(side: Side, name: str) -> float:
    """Give the cosine that an output must reach."""
    measured = [
        receipt.parity[COSINE + name]
        for receipt in side.bundle.manifest.receipts
        if receipt.variant == side.variant.id and COSINE + name in receipt.parity
    ]
    if measured:
        return 1 - _TIMES * (1 - min(measured)) - _SLACK
    return _UNMEASURED.get(side.variant.precision, _UNMEASURED_QUANTIZED)


def _boxes(side: Side, raws: Sequence[Any], answers: Sequence[Tensors], wanted: Rows) -> Comparison:
    """Compare what the two found, where it can be told which output is which, and any is sure."""
    spec = side.bundle.manifest.task
    places = {plain_name(one.name): place for place, one in enumerate(side.session.outputs)}
    if any(plain_name(name) not in places for name in wanted):
        return Comparison(None)
    wanted = {name: wanted[name] for name in sorted(wanted, key=lambda each: places[plain_name(each)])}
    try:
        source = make_any_task(spec, side.session.inputs, _specs_of(wanted))
    except (BundleError, ConfigError):
        return Comparison(None)  # the source's outputs are not the head's: an export had put it on
    least = _SURE * spec.min_score if isinstance(spec, DetectionSpec) else 0
    counts: list[tuple[int, int]] = []
    for at, (raw, answer) in enumerate(zip(raws, answers, strict=True)):
        given = {name: rows[at] for name, rows in wanted.items()}
        mine = source.postprocess(given, source.preprocess(raw)[1])
        theirs = side.task.postprocess(answer, side.task.preprocess(raw)[1])
        counts.append(found_again(mine, theirs, least))
    sure, found = (sum(column) for column in zip(*counts, strict=True))
    if not sure:
        return Comparison(None)
    if found >= _FOUND * sure:
        return Comparison(found / sure)
    said = f"{found} of {sure} objects found that the source model is sure of, at least {_FOUND:.0%} expected"
    return Comparison(found / sure, Difference(sum(some < _FOUND * every for every, some in counts), said))


def _specs_of(rows: Rows) -> list[TensorSpec]:
    return [
        TensorSpec(name, str(some[0].dtype), tuple(_common([row.shape for row in some])))
        for name, some in rows.items()
    ]


def _common(shapes: Sequence[Sequence[int]]) -> Iterator[int | None]:
    for axis in zip(*shapes, strict=True):
        yield axis[0] if len(set(axis)) == 1 else None
