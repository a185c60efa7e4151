"""What stands in for samples that a recipe does not give: the same every time. Real inputs are better."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import edge_runtime.media
from converters.recipe import TensorExample
from converters.verify.sample_files import Entries, arrays, texts
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    ImageEmbeddingSpec,
    TaskSpec,
    TextSpec,
)
from edge_runtime.contract.tensors import Array
from edge_runtime.tasks.rows import PICTURES

_COUNT = 128
_CLIP = "pedestrians.mp4"
_EVERY = 6
"""Pictures of the clip that are skipped on the way to the next: neighbours show the same."""
_WHO = (
    "A customer",
    "The new colleague",
    "Our delivery service",
    "Nobody",
    "My neighbour's dog",
    "This camera",
)
_DOES = ("asked for", "lost", "has never seen", "returned", "is happy with")
_WHAT = (
    "a refund",
    "the blue jacket",
    "the invoice of last March",
    "two tickets for the train to the sea",
    "it",
)


def entries(spec: TaskSpec, examples: Sequence[TensorExample]) -> Entries:
    """Give samples for a task.

    Args:
        spec: The task.
        examples: Inputs of the source; a task of tensors needs them.

    Raises:
        ConversionError: A task of tensors has none.
    """
    if isinstance(spec, TextSpec):
        return texts([f"{who} {does} {what}." for who, does, what in product(_WHO, _DOES, _WHAT)][:_COUNT])
    match spec:
        case DetectionSpec() | ClassificationSpec() | ImageEmbeddingSpec():
            return arrays({PICTURES: _clip()})
        case _:
            return arrays(_noise(examples))


def _clip() -> list[Array]:
    path = Path(edge_runtime.media.__path__[0]) / _CLIP
    video: Any = cv2.VideoCapture(str(path))
    pictures: list[Array] = []
    try:
        for number in range(_EVERY * _COUNT):
            if not video.grab():
                break
            if number % _EVERY == 0:
                pictures.append(np.asarray(video.retrieve()[1], np.uint8))
    finally:
        video.release()
    return pictures


def _noise(examples: Sequence[TensorExample]) -> dict[str, list[Array]]:
    if not examples:
        raise ConversionError(
            "samples",
            expected="some, for a task of tensors",
            got="none",
            do="Name an .npz or a .csv in the recipe",
        )
    dice = np.random.default_rng(0)
    made: dict[str, list[Array]] = {}
    for example in examples:
        shape, dtype = (_COUNT, *example.shape[1:]), np.dtype(example.dtype)
        if dtype.kind == "f":
            values = dice.standard_normal(shape)
        else:
            values = dice.integers(0, 256 if dtype == np.uint8 else 2, shape)
        made[example.name] = list(values.astype(dtype))
    return made
