"""Files of samples, by the kind of the task: each sample read when it is asked for. Chooses none."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from converters.recipe import TensorExample
from edge_runtime.contract.errors import ConversionError, InputError
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    ImageEmbeddingSpec,
    TaskSpec,
    TextSpec,
)
from edge_runtime.contract.tensors import Array, format_shape
from edge_runtime.tasks.picture_file import SUFFIXES, read_picture
from edge_runtime.tasks.rows import PICTURES, TEXTS, read_rows

_COLUMNS = "x"
"""What the tensor of a `.csv` is called where nothing names it; a model of one input takes any name."""


@dataclass(frozen=True, slots=True)
class Entries:
    """Samples that can be read one by one.

    Args:
        names: What labels call each: the path of a picture in its folder, or the number of the row.
        load: Reads one, by its index: arrays by name, without a batch axis.
    """

    names: tuple[str, ...]
    load: Callable[[int], dict[str, Array]]

    def __len__(self) -> int:
        return len(self.names)


def read_entries(path: Path, spec: TaskSpec, examples: Sequence[TensorExample]) -> Entries:
    """Look what samples there are.

    Args:
        path: As `recipe.Samples.path` says, of the kind that the task takes.
        spec: The task.
        examples: Inputs of the source, where they are known.

    Raises:
        ConversionError: It is missing, or of a kind that the task does not take.
        InputError: It cannot be read.
    """
    if not path.exists():
        raise ConversionError(f"samples {path}", expected="a file or folder", got="nothing there")
    if isinstance(spec, TextSpec):
        return texts(read_texts(path))
    match spec:
        case DetectionSpec() | ClassificationSpec() | ImageEmbeddingSpec():
            return _pictures(path)
        case _:
            return _tensors(path, examples)


def texts(lines: Sequence[str]) -> Entries:
    """Make entries of texts."""
    return Entries(_numbers(len(lines)), lambda at: {TEXTS: np.array(lines[at])})


def arrays(rows: dict[str, list[Array]]) -> Entries:
    """Make entries of arrays.

    Raises:
        InputError: They have different numbers of rows.
    """
    counts = {name: len(some) for name, some in rows.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise InputError("samples", expected="as many rows in every array", got=said)
    count = next(iter(counts.values()), 0)
    return Entries(_numbers(count), lambda at: {name: some[at] for name, some in rows.items()})


def read_table(path: Path) -> list[list[str]]:
    """Read a `.csv`: its rows that are not empty, a header included.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"table {path}", expected="a readable .csv in UTF-8", got=str(error)) from error


def read_texts(path: Path) -> list[str]:
    """Read texts.

    A line each of a `.txt`, a string or `{"text": …}` a line of a `.jsonl`, the column `text` of a `.csv`, or
    `texts` of an `.npz`.

    Raises:
        ConversionError: It is another kind of file.
        InputError: It cannot be read.
    """
    match path.suffix.lower():
        case ".txt":
            return [line for line in _lines(path) if line.strip()]
        case ".jsonl":
            return [_text(path, at, line) for at, line in enumerate(_lines(path), 1) if line.strip()]
        case ".csv":
            table = read_table(path)
            named = bool(table) and "text" in table[0]
            column = table[0].index("text") if named else 0
            return [row[column] for row in table[named:] if len(row) > column]
        case ".npz":
            return [str(row) for row in read_rows(path).get(TEXTS, [])]
        case _:
            raise ConversionError(
                f"samples {path}", expected=".txt, .jsonl, .csv or .npz of texts", got=path.suffix
            )


def _pictures(path: Path) -> Entries:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        names = tuple(file.relative_to(path).as_posix() for file in files)
        return Entries(names, lambda at: {PICTURES: read_picture(files[at])})
    if path.suffix.lower() == ".npz":
        rows = read_rows(path)
        return arrays({PICTURES: [_picture(path, at, row) for at, row in enumerate(rows.get(PICTURES, []))]})
    if path.suffix.lower() in SUFFIXES:
        return Entries((path.name,), lambda _: {PICTURES: read_picture(path)})
    raise ConversionError(
        f"samples {path}",
        expected="a folder of pictures, or an .npz with `pictures`",
        got=path.suffix or "a file",
    )


def _picture(path: Path, at: int, row: Array) -> Array:
    if row.dtype == np.uint8 and row.ndim == 2:
        return np.repeat(row[..., None], 3, axis=2)
    if row.dtype != np.uint8 or row.ndim != 3 or row.shape[2] != 3:
        raise InputError(
            f"{path}: picture {at}",
            expected="(height, width, 3) uint8 BGR, or (height, width) grey",
            got=f"{row.dtype} {format_shape(row.shape)}",
        )
    return row


def _tensors(path: Path, examples: Sequence[TensorExample]) -> Entries:
    if path.suffix.lower() == ".npz":
        rows = read_rows(path)
        _check_shapes(path, rows, examples)
        return arrays(rows)
    if path.suffix.lower() != ".csv":
        raise ConversionError(
            f"samples {path}", expected="an .npz, or a .csv of numbers", got=path.suffix or "a file"
        )
    table = read_table(path)
    header = bool(table) and not _is_number(table[0][0])
    try:
        numbers = np.array([[float(cell) for cell in row] for row in table[header:]], np.float32)
    except ValueError as error:
        raise InputError(
            f"samples {path}", expected="numbers in rows of one length", got=str(error)
        ) from error
    name = examples[0].name if len(examples) == 1 else _COLUMNS
    return arrays({name: list(numbers)})


def _check_shapes(path: Path, rows: dict[str, list[Array]], examples: Sequence[TensorExample]) -> None:
    for example in examples:
        name = example.name
        if name not in rows:
            if not len(examples) == len(rows) == 1:
                raise InputError(
                    f"samples {path}", expected=f"an array '{name}'", got=", ".join(rows) or "none",
                    do="Name the arrays as the source's inputs",
                )  # fmt: skip
            # The only one is for the only input, whatever it is called; its shape still tells.
            name = next(iter(rows))
        wanted = [None if at in example.dynamic else axis for at, axis in enumerate(example.shape)][1:]
        for at, row in enumerate(rows[name]):
            fits = row.ndim == len(wanted) and all(
                want in {None, have} for want, have in zip(wanted, row.shape, strict=True)
            )
            if not fits:
                raise InputError(
                    f"samples {path}: row {at} of '{name}'",
                    expected=format_shape(wanted), got=format_shape(row.shape),
                )  # fmt: skip


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"texts {path}", expected="a readable file in UTF-8", got=str(error)) from error


def _text(path: Path, number: int, line: str) -> str:
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number}", expected="JSON", got=str(error)) from error
    if isinstance(found, dict):
        found = cast("dict[str, Any]", found).get("text")
    if not isinstance(found, str):
        raise InputError(f"{path}, line {number}", expected='a string, or {"text": "…"}', got=line[:60])
    return found


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
