"""Labels of samples, checked against the samples and the task's classes. Measures nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from converters.verify.sample_files import read_table
from edge_runtime.contract.errors import ConversionError, InputError
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    TaskSpec,
    TensorsSpec,
    TextClassificationSpec,
)
from edge_runtime.contract.tensors import Array
from edge_runtime.tasks.rows import why_unreadable

_UNLABELLED = np.array(-1, np.int64)
_NAMED = 3
"""Unknown names that an error lists."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What people say of the samples.

    Args:
        rows: One a sample: a class, another number, or (k, 6) boxes; empty: there are none. -1: this one has
            none.
        pairs: (m, 3) of an embedding task; None: there are none.
    """

    rows: tuple[Array, ...] = ()
    pairs: Array | None = None


def read_labels(path: Path, spec: TaskSpec, names: Sequence[str]) -> Labels:
    """Read the labels of a recipe.

    Args:
        path: As `recipe.Samples.labels` says, of the kind that the task takes.
        spec: The task.
        names: The samples, see `Entries.names`.

    Raises:
        ConversionError: They name samples or classes that do not exist, or are of another kind.
        InputError: The file cannot be read.
    """
    match spec:
        case DetectionSpec():
            return Labels(tuple(_coco(path, spec.labels, names)))
        case ClassificationSpec():
            return Labels(tuple(_classes(path, spec.labels, names)))
        case EmbeddingSpec():
            return Labels(pairs=_pairs(path, len(names)))
        case TensorsSpec() | TextClassificationSpec():
            return Labels(tuple(_values(path, spec.labels, len(names))))
        case _:
            raise ConversionError(
                f"labels {path}",
                expected=f"none for a task of {spec.kind}: its accuracy is not measured here",
                got="a file",
                do="Leave `labels` out; the variants are still compared with the source",
            )


def _classes(path: Path, classes: Sequence[str], names: Sequence[str]) -> list[Array]:
    table = read_table(path) if path.suffix.lower() == ".csv" else []
    if not table or max(map(len, table)) < 2:
        return _values(path, classes, len(names))
    if [cell.strip().lower() for cell in table[0][:2]] == ["file", "label"]:
        table = table[1:]
    places = {name: at for at, name in enumerate(names)}
    rows = [_UNLABELLED] * len(names)
    strangers = [row[0] for row in table if row[0] not in places]
    if strangers:
        raise _unknown(path, "files", strangers, "files of the samples")
    for row in table:
        if len(row) < 2:
            raise ConversionError(f"labels {path}", expected="file,label in every row", got=",".join(row))
        rows[places[row[0]]] = _class(path, row[1], classes)
    return rows


def _values(path: Path, classes: Sequence[str], count: int) -> list[Array]:
    """One label a row: a `.npy`, or the only column of a `.csv`."""
    if path.suffix.lower() == ".npy":
        values = _load(path)
        if values.ndim == 1 and values.dtype.kind == "U":
            rows = [_class(path, str(value), classes) for value in values]
        elif values.ndim == 1 and values.dtype.kind in "iufb":
            rows = [_number(path, float(value), classes) for value in values]
        else:
            raise ConversionError(
                f"labels {path}", expected="one number a row", got=f"{values.dtype} {values.shape}"
            )
    elif path.suffix.lower() == ".csv":
        cells = [row[-1].strip() for row in read_table(path)]
        if cells and cells[0].lower() == "label":
            cells = cells[1:]
        rows = [_class(path, cell, classes) for cell in cells]
    else:
        raise ConversionError(f"labels {path}", expected=".csv or .npy", got=path.suffix or "a file")
    if len(rows) != count:
        raise ConversionError(f"labels {path}", expected=f"{count} rows, one a sample", got=str(len(rows)))
    return rows


def _class(path: Path, cell: str, classes: Sequence[str]) -> Array:
    """A class by its name or its index; without classes, any number."""
    cell = cell.strip()
    if cell in classes:
        return np.array(classes.index(cell), np.int64)
    try:
        return _number(path, float(cell), classes)
    except ValueError:
        raise _unknown(path, "classes", [cell], "labels of the task") from None


def _number(path: Path, value: float, classes: Sequence[str]) -> Array:
    if value.is_integer():
        if classes and not 0 <= value < len(classes):
            raise _unknown(path, "classes", [f"{value:g}"], f"indices of the task's {len(classes)} labels")
        return np.array(int(value), np.int64)
    if classes:
        raise _unknown(path, "classes", [f"{value:g}"], "labels of the task")
    return np.array(value, np.float64)


def _pairs(path: Path, count: int) -> Array:
    table = read_table(path)
    if table and [cell.strip().lower() for cell in table[0]] == ["first", "second", "score"]:
        table = table[1:]
    try:
        pairs = np.array([[float(cell) for cell in row] for row in table], np.float64)
    except ValueError as error:
        raise InputError(f"labels {path}", expected="first,second,score", got=str(error)) from error
    if pairs.ndim != 2 or pairs.shape[1] != 3:
        raise InputError(f"labels {path}", expected="three columns: first,second,score", got=str(pairs.shape))
    ends = pairs[:, :2]
    wrong = ends[(ends < 0) | (ends >= count) | (ends % 1 != 0)]
    if len(wrong):
        raise _unknown(path, "rows", [f"{one:g}" for one in wrong], f"numbers of the {count} texts, from 0")
    return pairs


def _coco(path: Path, classes: Sequence[str], names: Sequence[str]) -> list[Array]:
    """Boxes of COCO JSON; pictures that it has and the folder has not are left out."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        files = {image["id"]: str(image["file_name"]) for image in document["images"]}
        categories = {one["id"]: str(one["name"]) for one in document["categories"]}
        annotations = cast("list[dict[str, Any]]", document["annotations"])
        used = {one["category_id"] for one in annotations}
        lost = sorted(map(str, used - set(categories)))
        if lost:
            raise ConversionError(
                f"labels {path}: annotations of unknown categories",
                expected=f"a category_id of {_some([*map(str, categories)]) or 'its categories'}",
                got=_some(lost),
            )
        strangers = sorted({categories[one] for one in used} - set(classes))
        if strangers:
            raise _unknown(path, "classes", strangers, "labels of the task")
        places = _places(path, files, names)
        boxes: list[list[list[float]]] = [[] for _ in names]
        for one in annotations:
            place = places.get(one["image_id"])
            if place is None:
                continue
            x, y, width, height = map(float, one["bbox"])
            number = classes.index(categories[one["category_id"]])
            boxes[place].append([x, y, x + width, y + height, number, float(one.get("iscrowd", 0))])
    except OSError as error:
        raise InputError(f"labels {path}", expected="a readable file", got=error.strerror) from error
    except KeyError as error:
        raise _no_coco(path, f"an entry without {error.args[0]!r}") from error
    except (ValueError, TypeError) as error:
        raise _no_coco(path, str(error)[:80]) from error
    return [np.array(rows, np.float32).reshape(-1, 6) for rows in boxes]


def _no_coco(path: Path, got: str) -> InputError:
    return InputError(
        f"labels {path}",
        expected="COCO JSON: images with id and file_name, categories with id and name, annotations with"
        " image_id, category_id and bbox",
        got=got,
    )


def _places(path: Path, files: Mapping[Any, str], names: Sequence[str]) -> dict[Any, int]:
    by_name = {name: at for at, name in enumerate(names)}
    by_file = {Path(name).name: at for at, name in enumerate(names)}
    places = {key: by_name.get(file, by_file.get(Path(file).name, -1)) for key, file in files.items()}
    found = {key: at for key, at in places.items() if at >= 0}
    known = set(found.values())
    bare = [name for at, name in enumerate(names) if at not in known]
    if bare:
        raise ConversionError(
            f"labels {path}", expected="every sample among its images", got=f"none for {_some(bare)}"
        )
    return found


def _load(path: Path) -> Array:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"labels {path}",
            expected="a plain .npy",
            got=why_unreadable(error),
            do="Write it with numpy.save, of numbers or texts",
        ) from error


def _unknown(path: Path, what: str, names: Sequence[str], expected: str) -> ConversionError:
    return ConversionError(f"labels {path}: unknown {what}", expected=expected, got=_some(names))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
