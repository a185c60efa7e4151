"""Samples: a recipe's real inputs, read and checked once, for all steps that need some.

A step (see `converters.step`). Makes no tensors: what a picture becomes for a model, the device's tasks say.
Its files: `samples` and `labels` of `recipe.Samples`, both may be absent. Its options:

    task          TaskSpec of the recipe
    calibration   how many rows are for calibration; absent: 64
    verification  how many are for verification; absent: 64
    inputs        [recipe.TensorExample …] of the source; needed for a task of tensors without samples, and to
                  name the columns of a `.csv`

Without samples it takes what this package has: pictures of the shipped clip, some sentences, tensors of
noise. That shows whether a conversion works, hardly what it costs in accuracy; a warning says so.

It leaves `samples.npz` (`step.SAMPLES_FILE`); facts: `count`, `calibration`, `verification`, `labelled`,
`synthetic`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import TypeAdapter, ValidationError

from converters.recipe import TensorExample
from converters.step import SAMPLES_FILE, Facts, Options, Tell
from converters.verify import stand_ins
from converters.verify.labels import Labels, read_labels
from converters.verify.options import integer, task_of
from converters.verify.sample_files import Entries, read_entries
from edge_runtime.contract.errors import ConversionError, InputError
from edge_runtime.contract.task import TaskSpec, TensorsSpec, TextSpec
from edge_runtime.contract.tensors import Array
from edge_runtime.tasks.rows import LABELS, PAIRS, PICTURES, write_rows

_COUNT = 64
_HALF_MOST = 65504.0
"""The largest number of IEEE 754 binary16."""
_FAR = 1000.0
"""So many times the usual value, one step of int8 over the whole range is four usual values and more."""
_LONGEST_PX = 1280
"""Longer pictures are shrunk: few models see more, and a hundred photographs do not fit into memory."""
_EXAMPLES: TypeAdapter[tuple[TensorExample, ...]] = TypeAdapter(tuple[TensorExample, ...])


@dataclass(frozen=True, slots=True)
class Division:
    """Which samples are taken, in the order they are stored.

    Args:
        rows: Indices of the samples, those for calibration first.
        calibration: How many are for calibration, from the beginning.
        verification: How many are for verification, from the end.
    """

    rows: tuple[int, ...]
    calibration: int
    verification: int


def prepare(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Read the samples; see the module.

    Raises:
        ConversionError: There is no sample, or a label names what does not exist.
        InputError: A sample cannot be read.
    """
    spec = task_of(options)
    examples = _examples(options)
    tell(0, "reading samples")
    path = inputs.get("samples")
    entries = stand_ins.entries(spec, examples) if path is None else read_entries(path, spec, examples)
    if not len(entries):
        raise ConversionError(
            f"samples {path}", expected="at least one sample", got="none", do="Give real inputs of the model"
        )
    labels = read_labels(inputs["labels"], spec, entries.names) if "labels" in inputs else Labels()
    wanted = integer(options, "calibration", _COUNT), integer(options, "verification", _COUNT)
    division = divide(len(entries), *wanted, everything=labels.pairs is not None)
    rows = _load(entries, division, tell)
    stored = _with_labels(rows, labels, division)
    for name, some in stored.items():
        _check_numbers(name, some)
    write_rows(out / SAMPLES_FILE, stored)
    return {
        "count": len(division.rows),
        "calibration": division.calibration,
        "verification": division.verification,
        "labelled": labels.pairs is not None or bool(labels.rows),
        "synthetic": path is None,
        "warnings": [
            *_warnings(spec, path, len(entries), wanted, labels),
            *(tensor_doubts(rows) if path is not None and isinstance(spec, TensorsSpec) else ()),
        ],
    }


def divide(count: int, calibration: int, verification: int, *, everything: bool = False) -> Division:
    """Choose samples, evenly over all of them: files are often sorted by class or by time.

    Args:
        count: How many there are.
        calibration: How many are wanted for calibration.
        verification: How many are wanted for verification; others than those for calibration, where there are
            enough.
        everything: Take all, in their order: labels name them by their place.
    """
    if everything:
        return Division(tuple(range(count)), min(calibration, count), count)
    taken = _evenly(count, min(count, calibration + verification))
    first = [taken[at] for at in _evenly(len(taken), min(len(taken), calibration))]
    rest = sorted(set(taken) - set(first))
    return Division((*first, *rest), len(first), min(verification, len(taken)))


def _evenly(count: int, wanted: int) -> list[int]:
    return [at * count // wanted for at in range(wanted)]


def _load(entries: Entries, division: Division, tell: Tell) -> dict[str, list[Array]]:
    rows: dict[str, list[Array]] = {}
    for done, at in enumerate(division.rows):
        if done % 16 == 0:
            tell(0.9 * done / len(division.rows), f"sample {done + 1} of {len(division.rows)}")
        for name, array in entries.load(at).items():
            rows.setdefault(name, []).append(array)
    return rows


def _with_labels(rows: dict[str, list[Array]], labels: Labels, division: Division) -> dict[str, list[Array]]:
    chosen = [labels.rows[at] for at in division.rows] if labels.rows else []
    if PICTURES in rows:
        for at, picture in enumerate(rows[PICTURES]):
            scale = _LONGEST_PX / max(picture.shape[:2])
            if scale >= 1:
                continue
            height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
            small: Any = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            rows[PICTURES][at] = small
            if chosen and chosen[at].ndim == 2:
                chosen[at] = chosen[at].copy()
                chosen[at][:, :4] *= scale
    stored = dict(rows)
    if chosen:
        stored[LABELS] = chosen
    if labels.pairs is not None:
        stored[PAIRS] = list(labels.pairs)
    return stored


def _check_numbers(name: str, rows: Sequence[Array]) -> None:
    for at, row in enumerate(rows):
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise InputError(
                f"samples: row {at} of '{name}'",
                expected="numbers",
                got="NaN or infinity",
                do="Remove the row",
            )


def tensor_doubts(rows: Mapping[str, Sequence[Array]]) -> list[str]:
    """Say what is odd about the numbers of a task of tensors, of which nothing else is known.

    Args:
        rows: By the name of the input: one array a sample.

    Returns:
        One line each; empty where nothing is odd.
    """
    found: list[str] = []
    for name, some in rows.items():
        if any(row.dtype.kind not in "fiub" for row in some):
            continue
        if len({row.tobytes() for row in some}) == 1 and len(some) > 1:
            found.append(f"all {len(some)} samples of '{name}' are the same")
        elif all(row.size and row.min() == row.max() for row in some):
            found.append(f"each sample of '{name}' is one constant value")
        sizes = np.concatenate([np.abs(row, dtype=np.float64).ravel() for row in some])
        most, usual = float(sizes.max(initial=0)), float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
        if most > _HALF_MOST:
            found.append(f"values of '{name}' reach {most:.3g}, and fp16 ends at {_HALF_MOST:g}: scale them")
        if usual and most > _FAR * usual:
            found.append(
                f"values of '{name}' reach {most:.3g}, and half of them are below {usual:.3g}: int8 has 256"
                " steps for all; clip what is far out"
            )
    return found


def _examples(options: Options) -> tuple[TensorExample, ...]:
    try:
        return _EXAMPLES.validate_python(options.get("inputs") or [])
    except ValidationError as error:
        raise ConversionError(f"option 'inputs': {error.errors(include_url=False)[0]['msg']}") from error


def _warnings(
    spec: TaskSpec, path: Path | None, count: int, wanted: tuple[int, int], labels: Labels
) -> Sequence[str]:
    said: list[str] = []
    if path is None:
        said.append("no samples were given: parity and ranges were measured on stand-ins; give real inputs")
    elif count < sum(wanted) and not isinstance(spec, TextSpec):
        said.append(
            f"only {count} sample{'s' * (count != 1)}, for {wanted[0]} to calibrate with and {wanted[1]}"
            " others to verify with: some are used for both"
        )
    bare = sum(row.ndim == 0 and row.dtype.kind == "i" and int(row) < 0 for row in labels.rows)
    if bare:
        said.append(f"{bare} of {count} samples have no label; accuracy is measured on the others")
    return said
