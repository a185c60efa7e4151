"""Golden inputs: a version answers them before it is ready, and is refused where its answers are not those.

What counts as the same is `edge_runtime.update.trial_golden`'s matter, as it is on a device. A version
without golden inputs runs once on a made-up one, and is taken at its word.

The same runs prove whether rows may run together: two rows must get the same answers together as alone.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from cloud_fallback.serving.lengths import can_be_longer, cut, filled_up
from edge_runtime.contract.bundle import Precision
from edge_runtime.contract.errors import BundleError, EdgeRuntimeError
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.engines.base import Session
from edge_runtime.predict import run_rows
from edge_runtime.tasks.rows import read_rows
from edge_runtime.update.trial_golden import compare
from edge_runtime.update.trial_side import Side

_RUNS = 3
_SAME_ROW = {Precision.FP32: 1e-3, Precision.FP16: 1e-2}
_SAME_ROW_QUANTIZED = 0.05
"""Dynamic quantization takes one scale for a whole batch, so a row's mates move its last bits."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What trying a version showed.

    Args:
        rows: Golden rows that were answered as they should be; 0: the bundle has none.
        likeness: The least median cosine of an output, or the share of boxes found; None: none was compared.
        batches: Whether rows may run together.
        why_alone: Why not; empty where they may.
        fills: Whether tokens may be filled up; see `lengths`.
        sample: The tensors of one request, as the model takes them.
        run_s: What a run of those took, median.
    """

    rows: int
    likeness: float | None
    batches: bool
    why_alone: str
    fills: bool
    sample: Tensors
    run_s: float


def prove(side: Side) -> Proof:
    """Try a version on its golden inputs; afterwards it is warm.

    Args:
        side: The version.

    Raises:
        BundleError: An answer is not what the source model gave, or the golden files do not belong together.
        EdgeRuntimeError: The model does not run.
    """
    manifest, session = side.bundle.manifest, side.session
    raws = side.samples()
    samples = [side.tensors(raw)[0] for raw in raws]
    likeness: float | None = None
    if manifest.golden is None:
        run_rows(session, samples[0])
    else:
        likeness = _compare(side, raws, [run_rows(session, tensors) for tensors in samples])
    times: list[float] = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        run_rows(session, samples[0])
        times.append(time.perf_counter() - began)
    why = why_alone(session, samples, side.variant.precision)
    rows = len(samples) if manifest.golden else 0
    fills = not why and minds_no_filling(session, samples[0], side.variant.precision)
    return Proof(rows, likeness, not why, why, fills, samples[0], median(times))


def why_alone(session: Session, samples: Sequence[Tensors], precision: Precision) -> str:
    """Say why requests of a model must not run together; empty when they may.

    Args:
        session: The model.
        samples: Tensors of requests; one is enough.
        precision: How much the last bits may move.
    """
    for spec in (*session.inputs, *session.outputs):
        if not spec.shape or spec.shape[0] is not None:
            return f"'{spec.name}' has no free first axis"
    one = {name: array[:1] for name, array in samples[0].items()}
    fitting = [
        {name: array[:1] for name, array in other.items()}
        for other in samples[1:]
        if all(array.shape[1:] == one[name].shape[1:] for name, array in other.items())
    ]
    turned = {name: array[..., ::-1] for name, array in one.items()}
    other = next(iter(fitting), turned)
    try:
        alone = [session.run(_copied(row)) for row in (one, other)]
        together = session.run({name: np.concatenate([one[name], other[name]]) for name in one})
    except EdgeRuntimeError as error:
        return f"two rows do not run together: {error}"
    for name, array in together.items():
        if array.ndim == 0 or array.shape[0] != 2 or any(row[name].shape[:1] != (1,) for row in alone):
            return f"'{name}' has not one row for each row that goes in"
        for at, row in enumerate(alone):
            if not _same(row[name], array[at : at + 1], precision):
                return f"'{name}' of a row depends on the other rows"
    return ""


def _copied(tensors: Tensors) -> Tensors:
    return {name: np.array(array) for name, array in tensors.items()}


def minds_no_filling(session: Session, sample: Tensors, precision: Precision) -> bool:
    """Tell whether a text gets the same answer with tokens behind it that are masked.

    Args:
        session: The model.
        sample: Tokens of a text; its last two are left out, and the place they had is filled.
        precision: How much the last bits may move.
    """
    if not can_be_longer(session.inputs):
        return False
    length = next(iter(sample.values())).shape[1]
    if length < 3:
        return False
    short = {name: np.ascontiguousarray(array[:, :-2]) for name, array in sample.items()}
    try:
        plain = session.run(short)
        filled = cut(session.run(filled_up(short, length)), length - 2, length)
    except EdgeRuntimeError:
        return False
    return all(_same(array, filled[name], precision) for name, array in plain.items())


def _same(one: Array, other: Array, precision: Precision) -> bool:
    """Tell whether two answers are the same but for their last bits."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fiu" or not one.size:
        return bool(np.array_equal(one, other))
    a, b = one.astype(np.float64), other.astype(np.float64)
    most = _SAME_ROW.get(precision, _SAME_ROW_QUANTIZED)
    return float(np.abs(a - b).max()) <= most * max(float(np.abs(a).max()), 1e-6)


def _compare(side: Side, raws: Sequence[Any], answers: Sequence[Tensors]) -> float | None:
    """Hold the answers to the golden inputs against the source model's; gives how alike they are."""
    golden = side.bundle.manifest.golden
    if golden is None:
        return None
    found = compare(side, raws, answers, read_rows(side.bundle.root / golden.outputs.path))
    if found.difference is not None:
        raise BundleError(
            f"{_name(side)}: its answers are not what the source model gave for the golden inputs",
            got=f"{found.difference.said}; {len(raws)} rows",
            do="Compare the engine's release with the receipt's, or build the bundle again",
        )
    return found.likeness


def _name(side: Side) -> str:
    manifest = side.bundle.manifest
    return f"model '{manifest.name}' {manifest.version}, variant '{side.variant.id}'"
