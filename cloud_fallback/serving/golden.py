"""Golden inputs: a version answers them before it is ready, and is refused where its answers are not those.

What counts as the same. The golden outputs are the source model's, and a variant may be quantized, so the
cosine of the two, the median over the golden rows, must be at least

    1 - 3 · (1 - c) - 0.001      c: what the variant's receipt says was measured when it was built
    0.999 (fp32, fp16), 0.95     where no receipt says anything

and their lengths must be within a factor of 1.5 of each other, which a cosine does not see.

Outputs whose rows are sorted or suppressed inside the model are compared as boxes: of those that the source
is sure of, at least 60 % must be found again. A version without golden inputs runs once on a made-up one,
and is taken at its word.

The same runs prove whether rows may run together: two rows must get the same answers together as alone.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from cloud_fallback.serving.lengths import can_be_longer, cut, filled_up
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Precision, Variant
from edge_runtime.contract.errors import BundleError, ConfigError, EdgeRuntimeError
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import DetectionSpec, NmsHead, SsdHead
from edge_runtime.contract.tensors import Array, Tensors, TensorSpec
from edge_runtime.engines.base import Session
from edge_runtime.predict import run_rows
from edge_runtime.tasks.base import Task
from edge_runtime.tasks.likeness import cosine
from edge_runtime.tasks.make import make_any_task
from edge_runtime.tasks.names import plain_name
from edge_runtime.tasks.outputs import Output
from edge_runtime.tasks.rows import Rows, raw_inputs, read_rows
from edge_runtime.tasks.sample_input import sample_input

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
_SAME_BOX_IOU = 0.5
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


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried.

    Args:
        bundle: The model.
        variant: What was opened of it.
        session: The engine's side.
        task: Of this variant.
    """

    bundle: ModelBundle
    variant: Variant
    session: Session
    task: Task[Any, Any]

    @property
    def name(self) -> str:
        """For messages."""
        manifest = self.bundle.manifest
        return f"model '{manifest.name}' {manifest.version}, variant '{self.variant.id}'"

    def prepared(self, raw: Any) -> Tensors:
        """Make tensors that last."""
        return {name: np.array(array) for name, array in self.task.preprocess(raw)[0].items()}


def prove(trial: Trial) -> Proof:
    """Try a version on its golden inputs; afterwards it is warm.

    Args:
        trial: The version.

    Raises:
        BundleError: An answer is not what the source model gave, or the golden files do not belong together.
        EdgeRuntimeError: The model does not run.
    """
    manifest, session = trial.bundle.manifest, trial.session
    raws: Sequence[Any]
    likeness: float | None = None
    if manifest.golden is None:
        raws = [sample_input(manifest.task_of(trial.variant), session.inputs)]
        samples = [trial.prepared(raw) for raw in raws]
        run_rows(session, samples[0])
    else:
        raws = raw_inputs(read_rows(trial.bundle.root / manifest.golden.inputs.path), manifest.task)
        samples = [trial.prepared(raw) for raw in raws]
        answers = [run_rows(session, tensors) for tensors in samples]
        wanted = read_rows(trial.bundle.root / manifest.golden.outputs.path)
        likeness = _compare(trial, raws, answers, wanted)
    times: list[float] = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        run_rows(session, samples[0])
        times.append(time.perf_counter() - began)
    why = why_alone(session, samples, trial.variant.precision)
    rows = len(samples) if manifest.golden else 0
    fills = not why and minds_no_filling(session, samples[0], trial.variant.precision)
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


def _compare(trial: Trial, raws: Sequence[Any], answers: Sequence[Tensors], wanted: Rows) -> float | None:
    if not raws or any(len(some) != len(raws) for some in wanted.values()):
        raise BundleError(
            f"golden outputs of {trial.name}",
            expected=f"{len(raws)} rows, as many as there are inputs, and at least 1",
            got=", ".join(f"{name}: {len(some)}" for name, some in wanted.items()) or "none",
            do="Build the bundle again",
        )
    manifest = trial.bundle.manifest
    specs = manifest.task, manifest.task_of(trial.variant)
    if any(isinstance(spec, DetectionSpec) and isinstance(spec.head, NmsHead | SsdHead) for spec in specs):
        return _compare_boxes(trial, raws, answers, wanted)
    worst: float | None = None
    for name, value, ratio in _likenesses(trial.session, answers, wanted):
        least = _least(trial, name)
        if value < least:
            raise BundleError(
                f"{trial.name}: its '{name}' is not what the source model gave for the golden inputs",
                expected=f"a cosine of at least {least:.4f}",
                got=f"{value:.4f}, the median of {len(raws)} rows",
                do="Compare the engine's release with the receipt's, or build the bundle again",
            )
        if not 1 / _MOST_RATIO <= ratio <= _MOST_RATIO:
            raise BundleError(
                f"{trial.name}: its '{name}' is not what the source model gave for the golden inputs",
                expected="about the same size",
                got=f"{ratio:.3g} times as large, the median of {len(raws)} rows",
                do="Build the bundle again",
            )
        worst = value if worst is None else min(worst, value)
    return worst


def _likenesses(
    session: Session, answers: Sequence[Tensors], wanted: Rows
) -> Iterator[tuple[str, float, float]]:
    """Give the median cosine, and the median ratio of lengths, of each output that both have.

    Their shapes must be the same but for axes of 1.
    """
    specs = {plain_name(spec.name): spec for spec in session.outputs}
    if len(specs) == len(wanted) == 1:
        specs = {plain_name(next(iter(wanted))): next(iter(specs.values()))}
    for name, rows in wanted.items():
        spec = specs.get(plain_name(name))
        if spec is None:
            continue
        output = Output("output", spec)
        pairs = [(row, output.read(answer)) for row, answer in zip(rows, answers, strict=True)]
        if all(_without_ones(mine) == _without_ones(theirs) for mine, theirs in pairs):
            cosines = (cosine(mine, theirs) for mine, theirs in pairs)
            ratios = ((_length(theirs) + _TINY) / (_length(mine) + _TINY) for mine, theirs in pairs)
            yield name, median(cosines), median(ratios)


def _length(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _without_ones(array: Array) -> tuple[int, ...]:
    return tuple(axis for axis in array.shape if axis != 1)


def _least(trial: Trial, name: str) -> float:
    """Give the cosine that an output must reach."""
    measured = [
        receipt.parity[COSINE + name]
        for receipt in trial.bundle.manifest.receipts
        if receipt.variant == trial.variant.id and COSINE + name in receipt.parity
    ]
    if measured:
        return 1 - _TIMES * (1 - min(measured)) - _SLACK
    return _UNMEASURED.get(trial.variant.precision, _UNMEASURED_QUANTIZED)


def _compare_boxes(
    trial: Trial, raws: Sequence[Any], answers: Sequence[Tensors], wanted: Rows
) -> float | None:
    """Compare what the two found; None where it cannot be told which output is which, or none is sure."""
    spec, task = trial.bundle.manifest.task, trial.task
    places = {plain_name(one.name): place for place, one in enumerate(trial.session.outputs)}
    if any(plain_name(name) not in places for name in wanted):
        return None
    wanted = {name: wanted[name] for name in sorted(wanted, key=lambda each: places[plain_name(each)])}
    try:
        source = make_any_task(spec, trial.session.inputs, _specs_of(wanted))
    except (BundleError, ConfigError):
        return None  # the source's outputs are not the head's: an export had put it on
    sure = found = 0
    for at, (raw, answer) in enumerate(zip(raws, answers, strict=True)):
        mine = source.postprocess(
            {name: rows[at] for name, rows in wanted.items()}, source.preprocess(raw)[1]
        )
        theirs = task.postprocess(answer, task.preprocess(raw)[1])
        counts = _found_again(mine, theirs, _SURE * spec.min_score if isinstance(spec, DetectionSpec) else 0)
        sure, found = sure + counts[0], found + counts[1]
    if not sure:
        return None
    if found / sure < _FOUND:
        raise BundleError(
            f"{trial.name}: does not find in the golden pictures what the source model found",
            expected=f"at least {_FOUND:.0%} of {sure} boxes",
            got=f"{found / sure:.0%}",
            do="Compare the engine's release with the receipt's, or build the bundle again",
        )
    return found / sure


def _specs_of(rows: Rows) -> list[TensorSpec]:
    return [
        TensorSpec(name, str(some[0].dtype), tuple(_common([row.shape for row in some])))
        for name, some in rows.items()
    ]


def _common(shapes: Sequence[Sequence[int]]) -> Iterator[int | None]:
    for axis in zip(*shapes, strict=True):
        yield axis[0] if len(set(axis)) == 1 else None


def _found_again(mine: Detections, theirs: Detections, least: float) -> tuple[int, int]:
    """Count the boxes of one with a sure score, and those of them that the other has too."""
    sure = [at for at, score in enumerate(mine.scores) if score >= least]
    found = 0
    for at in sure:
        same = theirs.boxes[theirs.classes == mine.classes[at]]
        found += bool(len(same)) and float(_iou(mine.boxes[at], same).max()) >= _SAME_BOX_IOU
    return len(sure), found


def _iou(box: Array, others: Array) -> Array:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / np.maximum(areas - shared, 1e-9)
