"""Calibration samples: raw inputs become a model's tensors as on the device, and are looked at for sense.

Finds no ranges and quantizes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue, TypeAdapter

from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    GenerationSpec,
    ImageEmbeddingSpec,
    TaskSpec,
    TensorsSpec,
    TextClassificationSpec,
    TokenClassificationSpec,
)
from edge_runtime.contract.tensors import Array, TensorSpec, check_tensors
from edge_runtime.tasks.pixels import ImageTensor
from edge_runtime.tasks.rows import raw_inputs, read_rows
from edge_runtime.tasks.tensors_task import TensorsTask
from edge_runtime.tasks.text import TextTensors

ENOUGH = 32
"""Fewer samples than this leave ranges to chance (64 are this project's default)."""

_FEW_GREYS = 8
"""Pixel values a picture has at least, if it shows something."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One raw input as the model takes it.

    Args:
        tensors: By the model's names; owned.
        undo: What the task's `postprocess` wants to know of it.
    """

    tensors: Mapping[str, Array]
    undo: Any


def read_task(options: Mapping[str, JsonValue]) -> TaskSpec:
    """Read a step's option `task`.

    Raises:
        ConversionError: It is missing or not a task.
    """
    try:
        return TypeAdapter[TaskSpec](TaskSpec).validate_python(options.get("task"))
    except ValueError as error:
        raise ConversionError(
            "option 'task'",
            expected="the task of the variant",
            got=str(error).splitlines()[0],
            do="Declare the task in the recipe",
        ) from error


def tensors(
    samples: Path,
    task: Mapping[str, JsonValue],
    inputs: Sequence[TensorSpec],
    limit: int,
    tokenizer: Path | None = None,
) -> list[dict[str, Array]]:
    """Make a model's input tensors of raw samples with the device's own preprocessing.

    Args:
        samples: The `.npz` of the samples step; see `contract.bundle.Golden`.
        task: The variant's task as JSON.
        inputs: What the model takes.
        limit: At most so many samples; the samples step puts those for calibration first.
        tokenizer: `tokenizer.json`; only text models need it.

    Raises:
        ConversionError: Samples, task and model do not belong together.
    """
    spec = read_task({"task": dict(task)})
    rows = raw_samples(samples, spec)[:limit]
    return [dict(sample.tensors) for sample in prepare(rows, spec, inputs, tokenizer)]


def raw_samples(samples: Path, task: TaskSpec) -> list[Any]:
    """Read raw samples as the task takes them.

    Raises:
        ConversionError: The file is damaged, empty, or has not what the task takes.
    """
    try:
        rows = raw_inputs(read_rows(samples), task)
    except EdgeRuntimeError as error:
        raise _misfit(error) from error
    if not rows:
        raise ConversionError(
            f"samples {samples}",
            expected="at least one",
            got="none",
            do="Give real inputs of the model: a few dozen pictures, texts or rows",
        )
    return rows


def prepare(
    rows: Sequence[Any], task: TaskSpec, inputs: Sequence[TensorSpec], tokenizer: Path | None = None
) -> list[Sample]:
    """Turn raw samples into tensors.

    Args:
        rows: Of `raw_samples`.
        task: What the model does.
        inputs: What it takes.
        tokenizer: Of a text model.

    Raises:
        ConversionError: A sample is not what the model takes.
    """
    try:
        make = _preprocessing(task, inputs, tokenizer)
        return [_sample(make(row), inputs) for row in rows]
    except EdgeRuntimeError as error:
        raise _misfit(error) from error


def _preprocessing(task: TaskSpec, inputs: Sequence[TensorSpec], tokenizer: Path | None) -> Any:
    match task:
        case DetectionSpec() | ClassificationSpec() | ImageEmbeddingSpec():
            image = ImageTensor(task.input, inputs)

            def fill(row: Any) -> tuple[Mapping[str, Array], Any]:
                tensor, placement = image.fill(row)
                return {image.name: tensor}, placement

            return fill
        case TextClassificationSpec() | TokenClassificationSpec() | EmbeddingSpec():
            if tokenizer is None:
                raise ConversionError(
                    "a text model", expected="its tokenizer.json", got="none", do="Name it in the recipe"
                )
            # One row a sample: of a long text its beginning.
            start = task.input.model_copy(update={"overflow": "truncate"})
            return TextTensors(start, inputs, tokenizer).fill
        case GenerationSpec():
            raise ConversionError(
                "a task of generation", expected="a model that answers in one run", got="a decoder"
            )
        case TensorsSpec():
            return TensorsTask(task, inputs, ()).preprocess


def _sample(made: tuple[Mapping[str, Array], Any], inputs: Sequence[TensorSpec]) -> Sample:
    owned = {name: array.copy() for name, array in made[0].items()}
    check_tensors(owned, inputs)
    for name, array in owned.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ConversionError(f"input '{name}' of a sample", expected="numbers", got="NaN or infinity")
    return Sample(owned, made[1])


def _misfit(error: EdgeRuntimeError) -> ConversionError:
    return ConversionError(
        f"samples: {error.problem}",
        expected=error.expected,
        got=error.got,
        do=error.do or "Give samples of the model's own inputs",
    )


def spread(count: int, limit: int) -> list[int]:
    """Choose indices evenly, the first and the last among them: neighbours in a recording are alike."""
    if limit >= count:
        return list(range(count))
    return sorted({round(position) for position in np.linspace(0, count - 1, limit)})


def split(count: int, judged: int) -> tuple[list[int], list[int]]:
    """Choose calibration samples to find ranges with, and others to judge candidates with: a third, evenly.

    What is for verification is neither: a model chosen by the samples that prove it proves little.

    Args:
        count: How many there are for calibration.
        judged: How many to judge with, at most.

    Returns:
        Indices; all for both where there are fewer than three samples.
    """
    if count < 3:
        return list(range(count)), list(range(count))
    others = {1 + 3 * index for index in spread(count // 3, judged)}
    return sorted(set(range(count)) - others), sorted(others)


def doubts(rows: Sequence[Any], samples: Sequence[Sample], task: TaskSpec) -> list[str]:
    """Say what speaks against these samples.

    Args:
        rows: Raw, as `raw_samples` gives them.
        samples: The same ones, prepared.
        task: What the model does.

    Returns:
        One line each; empty where nothing is odd.
    """
    found: list[str] = []
    if len(samples) < ENOUGH:
        count = f"{len(samples)} sample{'s' * (len(samples) != 1)}"
        found.append(f"calibrated with {count}: give at least {ENOUGH} like those the device will see")
    different = len({_fingerprint(sample) for sample in samples})
    if different < len(samples):
        found.append(f"{len(samples) - different} of {len(samples)} calibration samples repeat others")
    flat = sum(all(array.min() == array.max() for array in sample.tensors.values()) for sample in samples)
    if flat:
        found.append(f"{flat} of {len(samples)} calibration samples are one constant value")
    if isinstance(task, DetectionSpec | ClassificationSpec):
        found += _picture_doubts([row.planes[0] for row in rows])
    return found


def _fingerprint(sample: Sample) -> int:
    return hash(tuple((name, array.tobytes()) for name, array in sorted(sample.tensors.items())))


def _picture_doubts(pictures: Sequence[Array]) -> list[str]:
    found: list[str] = []
    if max(int(picture.max()) for picture in pictures) <= 1:
        found.append(
            "the calibration pictures have no pixel above 1: give 0 to 255, the task scales them itself"
        )
    elif all(len(np.unique(picture)) < _FEW_GREYS for picture in pictures):
        found.append(
            "the calibration pictures show next to nothing: give photographs of what the device will see"
        )
    return found
