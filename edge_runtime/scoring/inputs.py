"""The inputs of a job: pictures, recordings and tables, found by name. Opens and decodes none of them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edge_runtime.contract.errors import InputError, StorageError
from edge_runtime.tasks.picture_file import SUFFIXES as PICTURES

RECORDINGS = frozenset(
    (".mp4", ".mkv", ".mov", ".m4v", ".avi", ".webm", ".ts", ".mpg", ".mpeg", ".mjpeg", ".h264", ".h265")
)
"""How recordings are called that are looked for in a folder; one that is named itself may have any name."""


class Kind(StrEnum):
    """What an input is."""

    PICTURE = "picture"
    RECORDING = "recording"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


TABLES = {
    ".csv": Kind.CSV,
    ".jsonl": Kind.JSONL,
    ".ndjson": Kind.JSONL,
    ".parquet": Kind.PARQUET,
    ".pq": Kind.PARQUET,
}


@dataclass(frozen=True, slots=True)
class Source:
    """One input file.

    Args:
        name: Its path below the folder that was named, with `/`; its file name where it was named itself.
        path: Where it is.
        kind: What it is.
        size_bytes: When it was found.
        mtime_ns: When it was found.
    """

    name: str
    path: Path
    kind: Kind
    size_bytes: int
    mtime_ns: int

    def again(self) -> "Source | None":
        """Look at the file once more; None when it is gone."""
        try:
            return _source(self.path, self.name, self.kind)
        except OSError:
            return None


@dataclass(slots=True)
class Inventory:
    """What there is to do.

    Attributes:
        sources: How many inputs.
        size_bytes: Of all of them.
        recordings: How many of them are recordings.
        others: Files of the folder that are nothing to this model.
    """

    sources: int = 0
    size_bytes: int = 0
    recordings: int = 0
    others: int = 0


def find(path: Path, *, texts: bool, avoid: Path) -> Callable[[], Iterator[Source]]:
    """See what a person named, and give a way to walk through it, as often as wanted.

    Args:
        path: A folder of pictures and recordings, or of tables; or one of them.
        texts: Whether the model reads texts.
        avoid: A folder that is passed over: the results.

    Returns:
        Gives the inputs in the order of their names, folder by folder; holds one folder's names at a time.

    Raises:
        InputError: It is not there, or not what the model takes.
    """
    if not path.exists():
        raise InputError(str(path), expected="a folder, a recording, a picture or a table", got="nothing")
    table = TABLES.get(path.suffix.lower())
    if path.is_dir():
        walk = _Walk(texts, avoid)
        return lambda: (one for one in walk.through(path) if isinstance(one, Source))
    if texts != (table is not None):
        wanted = "CSV, JSON Lines or Parquet" if texts else "a recording or a picture"
        reads = "reads texts" if texts else "looks at pictures"
        raise InputError(
            str(path), expected=f"{wanted}, for the model {reads}", got=f"a file called {path.name}"
        )
    picture = path.suffix.lower() in PICTURES
    kind = table or (Kind.PICTURE if picture else Kind.RECORDING)
    return lambda: iter((_source(path, path.name, kind),))


def take_stock(path: Path, sources: Callable[[], Iterator[Source]], *, texts: bool, avoid: Path) -> Inventory:
    """Count the inputs.

    Args:
        path: What was named.
        sources: Of `find`.
        texts: As for `find`.
        avoid: As for `find`.

    Raises:
        InputError: There is none.
    """
    stock = Inventory()
    found = _Walk(texts, avoid).through(path) if path.is_dir() else sources()
    for one in found:
        if isinstance(one, Source):
            stock.sources += 1
            stock.size_bytes += one.size_bytes
            stock.recordings += one.kind is Kind.RECORDING
        else:
            stock.others += 1
    if not stock.sources:
        raise InputError(
            str(path),
            expected="tables" if texts else "pictures or recordings",
            got=f"{stock.others} other files" if stock.others else "an empty folder",
            do=f"Known are {', '.join(sorted(TABLES if texts else {*PICTURES, *RECORDINGS}))}",
        )
    return stock


class _Walk:
    """Looks for inputs below a folder; a link to a folder is not followed, for it may lead round."""

    def __init__(self, texts: bool, avoid: Path) -> None:
        self._texts = texts
        self._avoid = avoid.resolve()

    def through(self, folder: Path, prefix: str = "") -> Iterator[Source | Path]:
        """Give inputs, and the paths of other files."""
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be listed", got=error.strerror or str(error)) from error
        for entry in entries:
            path = Path(entry.path)
            # A name of bytes that are no text is shown with their numbers; the path stays what it is.
            name = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
            if entry.is_dir(follow_symlinks=False):
                if path.resolve() != self._avoid:
                    yield from self.through(path, f"{name}/")
                continue
            kind = None if entry.name.startswith(".") else self._kind(path.suffix.lower())
            if kind is None:
                yield path
                continue
            try:
                yield _source(path, name, kind)
            except OSError:  # a link to nowhere: reading it says so, as the row's error
                yield Source(name, path, kind, 0, 0)

    def _kind(self, suffix: str) -> Kind | None:
        if self._texts:
            return TABLES.get(suffix)
        return Kind.PICTURE if suffix in PICTURES else Kind.RECORDING if suffix in RECORDINGS else None


def _source(path: Path, name: str, kind: Kind) -> Source:
    facts = path.stat()
    return Source(name, path, kind, facts.st_size, facts.st_mtime_ns)
