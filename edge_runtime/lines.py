"""LineLog: JSON documents, one a line, appended to a file of bounded size; older files beside it.

Knows no document. What `append` returned for survives `kill -9`, not a power cut.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

_TAIL_BYTES = 512 * 1024
"""Read of each file for the newest lines, however large it is."""


class LineLog:
    """One file and the older ones. Safe to share between threads, not between processes.

    A line that a killed process tore stays what it is; the next one begins anew, and readers pass it over.

    Args:
        path: Made with its folder when absent; `name.1.jsonl` is the newest of the older ones.
        max_bytes: When it is larger, a new one is begun.
        kept: Older files at most.
    """

    def __init__(self, path: Path, *, max_bytes: int, kept: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._older = [path.with_suffix(f".{number}{path.suffix}") for number in range(1, kept + 1)]
        self._lock = threading.Lock()
        self._file: TextIO | None = None

    def append(self, document: Mapping[str, object]) -> None:
        """Write a document down.

        Raises:
            OSError: The disk does not take it.
        """
        line = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        with self._lock:
            try:
                file = self._opened()
                file.write(line + "\n")
                file.flush()
                if file.tell() > self._max_bytes:
                    self._turn_over()
            except OSError:
                self._release()
                raise

    def newest(self, count: int) -> tuple[dict[str, Any], ...]:
        """Give the newest documents, the newest first, as far as the last half megabyte of each file goes.

        Raises:
            OSError: They cannot be read.
        """
        found: list[dict[str, Any]] = []
        with self._lock:
            for path in (self.path, *self._older):
                if len(found) < count and path.exists():
                    found += _documents(path)
        return tuple(found[:count])

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        with self._lock:
            self._release()

    def _opened(self) -> TextIO:
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            torn = self.path.exists() and not _ends_a_line(self.path)
            self._file = self.path.open("a", encoding="utf-8")
            if torn:
                self._file.write("\n")
        return self._file

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                # What it still held was refused before, and said so.
                return

    def _turn_over(self) -> None:
        self._release()
        for younger, older in reversed(list(zip([self.path, *self._older], self._older, strict=False))):
            if younger.exists():
                younger.replace(older)


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        start = max(0, file.seek(0, 2) - _TAIL_BYTES)
        file.seek(start)
        lines = file.read().splitlines()
    for line in reversed(lines[1:] if start else lines):
        try:
            document = json.loads(line)
        except ValueError:
            continue  # torn: it was never acknowledged
        if isinstance(document, dict):
            yield cast("dict[str, Any]", document)


def _ends_a_line(path: Path) -> bool:
    """Tell whether the last line is whole: a process that was killed may have torn it."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"
