"""Rows of raw input or of output on disk: `.npz` files as `contract.bundle.Golden` describes them.

Looks into no row: what a picture, a text or a tensor must be, the tasks say.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt
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
from edge_runtime.contract.tensors import Array

PICTURES = "pictures"
TEXTS = "texts"
LABELS = "labels"
PAIRS = "pairs"

Rows: TypeAlias = Mapping[str, Sequence[Array]]
"""By the name of the array: its rows."""

_MARK = "#"


def write_rows(path: Path, rows: Rows, *, compress: bool = False) -> None:
    """Write rows; the same rows give the same bytes.

    Args:
        path: The `.npz` file.
        rows: Stored as one array where all rows have one shape and dtype, one by one otherwise.
        compress: Deflate them: smaller, and slower to write.

    Raises:
        OSError: The file cannot be written.
    """
    arrays: dict[str, Array] = {}
    for name in sorted(rows):
        some = rows[name]
        if some and len({(row.shape, row.dtype.str if row.dtype.kind != "U" else "U") for row in some}) == 1:
            arrays[name] = np.stack(list(some))
            continue
        for index, row in enumerate(some):
            arrays[f"{name}{_MARK}{index:04d}"] = row
    save: Any = np.savez_compressed if compress else np.savez
    with path.open("wb") as stream:
        save(stream, **arrays)


def read_rows(path: Path) -> dict[str, list[Array]]:
    """Read what `write_rows` wrote, or any `.npz` with rows first.

    Raises:
        InputError: The file is missing, damaged, or has an array without rows.
    """
    rows: dict[str, list[Array]] = {}
    ragged: dict[str, dict[int, Array]] = {}
    try:
        # Opened here: NumPy leaves a file open that is no archive.
        with path.open("rb") as stream:
            stored: Any = np.load(stream, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("a single array")
            for key in stored.files:
                name, mark, index = key.rpartition(_MARK)
                if mark and index.isdecimal():
                    ragged.setdefault(name, {})[int(index)] = stored[key]
                else:
                    rows[key] = list(stored[key])
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"rows {path}",
            expected="an .npz file of plain arrays, rows first",
            got=why_unreadable(error),
            do="Write it with numpy.savez, of arrays of numbers or texts",
        ) from error
    for name, parts in ragged.items():
        rows[name] = [parts[index] for index in sorted(parts)]
    return rows


def why_unreadable(error: Exception) -> str:
    """Say why NumPy does not read a file, without its advice to load pickles, which can run any code."""
    said = str(error)
    return "Python objects (pickled), or no file of NumPy's" if "pickle" in said else said


def raw_inputs(rows: Rows, spec: TaskSpec) -> list[Any]:
    """Make of rows what the `preprocess` of a task takes.

    Args:
        rows: Of `read_rows`; labels and pairs among them are left out.
        spec: The task.

    Returns:
        Pictures; texts; prompts of a task of generation; or, for a task of tensors, a mapping of arrays with
        a batch axis of 1 for each row.

    Raises:
        InputError: What the task takes is not there, or the arrays have different numbers of rows.
    """
    match spec:
        case DetectionSpec() | ClassificationSpec() | ImageEmbeddingSpec():
            return [Picture.from_bgr(np.ascontiguousarray(row)) for row in _of(rows, PICTURES)]
        case TextClassificationSpec() | TokenClassificationSpec() | EmbeddingSpec():
            return [str(row) for row in _of(rows, TEXTS)]
        case GenerationSpec():
            return [Prompt(text=str(row)) for row in _of(rows, TEXTS)]
        case TensorsSpec():
            tensors = {name: some for name, some in rows.items() if name not in {LABELS, PAIRS}}
            counts = {len(some) for some in tensors.values()}
            if len(counts) != 1:
                raise InputError(
                    "rows of tensors",
                    expected="as many rows in every array",
                    got=", ".join(f"{name}: {len(some)}" for name, some in tensors.items()) or "no array",
                )
            return [{name: some[at][None] for name, some in tensors.items()} for at in range(counts.pop())]


def _of(rows: Rows, name: str) -> Sequence[Array]:
    if name not in rows:
        raise InputError("rows", expected=f"an array '{name}'", got=", ".join(rows) or "none")
    return rows[name]
