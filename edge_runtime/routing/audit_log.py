"""AuditLog: one JSON line for everything that leaves the device, written before it leaves, or is withheld.

Holds no content: what, how much, its digest, and why it was allowed. What cannot be written down is not sent.
"""

import hashlib
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from edge_runtime.contract.errors import StorageError
from edge_runtime.routing.outgoing import Outgoing

_MAX_BYTES = 32 << 20
_KEPT = 4
"""Older files beside the one that is written: `audit.1.jsonl` is the newest of them."""


class AuditLog:
    """Appends to `audit.jsonl`. Safe to share between threads.

    Args:
        path: The file; made with its folder when absent.
        max_bytes: When it is larger, a new one is begun; `_KEPT` old ones are kept.
    """

    def __init__(self, path: Path, *, max_bytes: int = _MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        self.written = 0
        """Lines since it was made."""

    def leaving(self, what: Outgoing, how: str, to: str) -> None:
        """Write down that something is about to leave.

        Args:
            what: It.
            how: `request`, `retry`, `hedge` or `outbox`.
            to: The endpoint.

        Raises:
            StorageError: It could not be written down, so it must not leave.
        """
        self._write(what, how, what.reason, f"{to}{what.path}")

    def withheld(self, what: Outgoing, why: str) -> None:
        """Write down that something that was owed does not leave after all: `how` is `withheld`.

        Args:
            what: It.
            why: For a person.

        Raises:
            StorageError: It could not be written down.
        """
        self._write(what, "withheld", why, "")

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        with self._lock:
            self._release()

    def _write(self, what: Outgoing, how: str, why: str, to: str) -> None:
        line = json.dumps(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "id": what.id,
                "model": what.model,
                "how": how,
                "why": why,
                "data": sorted(what.data),
                "redacted": sorted(what.redacted),
                "bytes": len(what.body),
                "sha256": hashlib.sha256(what.body).hexdigest(),
                "to": to,
            }
        )
        with self._lock:
            try:
                file = self._opened()
                file.write(line + "\n")
                file.flush()
                if file.tell() > self._max_bytes:
                    self._turn_over()
            except OSError as error:
                self._release()
                raise StorageError(
                    f"{self._path}: cannot write down what leaves the device, so nothing does",
                    got=str(error),
                    do="Free the disk or allow this user to write there",
                ) from error
            self.written += 1

    def _opened(self) -> TextIO:
        if self._file is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            torn = self._path.exists() and not _ends_a_line(self._path)
            self._file = self._path.open("a", encoding="utf-8")
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
        old = [self._path.with_suffix(f".{number}{self._path.suffix}") for number in range(1, _KEPT + 1)]
        for younger, older in reversed(list(zip([self._path, *old], old, strict=False))):
            if younger.exists():
                younger.replace(older)


def _ends_a_line(path: Path) -> bool:
    """Tell whether the last line is whole: a process that was killed may have torn it."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"
