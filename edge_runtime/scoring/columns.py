"""The columns of a job's rows, by what the model does, and an answer as the cells of one. Writes no file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.result import (
    Classification,
    Detections,
    Embedding,
    Entities,
    Generation,
    TextClassification,
    Tracks,
)
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    GenerationSpec,
    ImageEmbeddingSpec,
    PictureSpec,
    TaskSpec,
    TensorsSpec,
    TextClassificationSpec,
    TokenClassificationSpec,
)

Plain: TypeAlias = Literal["string", "bool", "int32", "int64", "float32"]
Cells: TypeAlias = dict[str, Any]
"""One row: by the column's name what is in it; a column that is absent is null."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of structures.

    Args:
        fields: Of each, by name.
    """

    fields: Mapping[str, Plain]


@dataclass(frozen=True, slots=True)
class Vector:
    """So many float32."""

    size: int


Type: TypeAlias = Plain | Listed | Vector
Columns: TypeAlias = Mapping[str, Type]

LAST = "_last"
"""Of a row on its way: whether it is its input's last one. Not written."""

_FOUND: dict[str, Plain] = {
    "label": "string",
    "class": "int32",
    "score": "float32",
    **dict.fromkeys(("x1", "y1", "x2", "y2"), "float32"),
}
_CLASS: dict[str, Plain] = {"label": "string", "class": "int32", "score": "float32"}
_ENTITY: dict[str, Plain] = {
    "label": "string",
    "start": "int32",
    "end": "int32",
    "text": "string",
    "score": "float32",
}
_CLASSES: dict[str, Type] = {"label": "string", "score": "float32", "classes": Listed(_CLASS)}
_SEEN: dict[str, Type] = {"tokens": "int32", "truncated": "bool"}
_GENERATED: dict[str, Type] = {
    "text": "string",
    "finish": "string",
    "prompt_tokens": "int32",
    "tokens": "int32",
    "probability": "float32",
}


def columns_for(task: TaskSpec, *, track: bool = False, vector: int = 0) -> Columns:
    """Give the columns of a job.

    Args:
        task: What the model does.
        track: Whether objects get identities.
        vector: Numbers of a vector, of a model that gives one.

    Raises:
        ConfigError: A model of tensors, whose answers have no columns of their own.
    """
    where: dict[str, Type] = {"source": "string", "row": "int64"}
    if isinstance(task, PictureSpec):
        where |= {"pts_ns": "int64", "height": "int32", "width": "int32"}
    answer = _answer(task, vector)
    if track:
        answer["tracks"] = Listed({"id": "int64", **_FOUND})
    model: dict[str, Type] = dict.fromkeys(("model", "version", "variant", "engine"), "string")
    return {**where, **answer, "error": "string", "ms": "float32", **model}


def _answer(task: TaskSpec, vector: int) -> dict[str, Type]:
    match task:
        case DetectionSpec():
            return {"detections": Listed(_FOUND)}
        case ClassificationSpec():
            return dict(_CLASSES)
        case TextClassificationSpec():
            return {**_CLASSES, **_SEEN, "windows": "int32"}
        case TokenClassificationSpec():
            return {"entities": Listed(_ENTITY), **_SEEN, "windows": "int32"}
        case EmbeddingSpec():
            return {"vector": Vector(vector), **_SEEN}
        case ImageEmbeddingSpec():
            return {"vector": Vector(vector)}
        case GenerationSpec():
            return dict(_GENERATED)
        case TensorsSpec():
            raise ConfigError(
                "--model",
                expected="a model of pictures or texts",
                got="a model of tensors",
                do="Ask it through the door's /v2 routes",
            )


def cells_of(answer: Any) -> Cells:
    """Give an answer as cells.

    Args:
        answer: Of any task but `tensors`.
    """
    return _CELLS[type(answer)](answer)


def _found(some: Detections | Tracks) -> list[Cells]:
    return [
        {"label": some.labels[index], "class": index, "score": score, **dict(zip(_SIDES, box, strict=True))}
        for index, score, box in zip(
            some.classes.tolist(), some.scores.tolist(), some.boxes.tolist(), strict=True
        )
    ]


_SIDES = ("x1", "y1", "x2", "y2")


def tracks_cells(tracks: Tracks) -> list[Cells]:
    """Give tracks as the cells of `tracks`."""
    return [{"id": one, **cells} for one, cells in zip(tracks.ids.tolist(), _found(tracks), strict=True)]


def detections_from(cells: list[Cells], labels: tuple[str, ...]) -> Detections:
    """Give the detections that a row holds.

    Args:
        cells: What is in its column `detections`.
        labels: All of the model.
    """
    boxes = np.array([[one[side] for side in _SIDES] for one in cells], np.float32).reshape(-1, 4)
    scores = np.array([one["score"] for one in cells], np.float32)
    return Detections(boxes, scores, np.array([one["class"] for one in cells], np.int32), labels)


def _classes(some: Classification | TextClassification) -> Cells:
    found: list[Cells] = [
        {"label": some.labels[index], "class": index, "score": score}
        for index, score in zip(some.classes.tolist(), some.scores.tolist(), strict=True)
    ]
    best: Cells = found[0] if found else {}
    return {"label": best.get("label"), "score": best.get("score"), "classes": found}


def _text_classes(some: TextClassification) -> Cells:
    return {
        **_classes(some),
        "tokens": some.tokens,
        "truncated": some.truncated,
        "windows": some.windows,
    }


def _entities(some: Entities) -> Cells:
    found = [{name: getattr(one, name) for name in _ENTITY} for one in some.entities]
    return {
        "entities": found,
        "tokens": some.tokens,
        "truncated": some.truncated,
        "windows": some.windows,
    }


def _generation(some: Generation) -> Cells:
    return {
        "text": some.text,
        "finish": some.finish.value,
        "prompt_tokens": some.prompt_tokens,
        "tokens": some.tokens,
        "probability": some.probability,
    }


_CELLS: Mapping[type, Callable[[Any], Cells]] = {
    Detections: lambda some: {"detections": _found(some)},
    Classification: _classes,
    TextClassification: _text_classes,
    Entities: _entities,
    Embedding: lambda some: {
        "vector": some.vector,
        "tokens": some.tokens,
        "truncated": some.truncated,
    },
    Generation: _generation,
}
