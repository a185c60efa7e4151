"""AuditLog: one JSON line for everything that leaves the device, written before it leaves, or is withheld.

Holds no content: what, how much, its digest, and why it was allowed. What cannot be written down is not sent.
"""

import hashlib
import time
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import iso_time
from edge_runtime.lines import LineLog
from edge_runtime.routing.outgoing import Outgoing

_MAX_BYTES = 32 << 20
_KEPT = 4
"""Older files beside the one that is written: `audit.1.jsonl` is the newest of them."""
FILE = "audit.jsonl"
"""In the state folder."""


def departures(state_dir: Path, count: int = 100) -> tuple[dict[str, Any], ...]:
    """Give what was written down last in a state folder, the newest first; from any process.

    Raises:
        StorageError: It cannot be read.
    """
    path = state_dir / FILE
    try:
        return LineLog(path, max_bytes=_MAX_BYTES, kept=_KEPT).newest(count)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read", got=error.strerror or str(error)) from error


class AuditLog:
    """Appends to `audit.jsonl`. Safe to share between threads.

    Args:
        path: The file; made with its folder when absent.
        max_bytes: When it is larger, a new one is begun; `_KEPT` old ones are kept.
    """

    def __init__(self, path: Path, *, max_bytes: int = _MAX_BYTES) -> None:
        self._lines = LineLog(path, max_bytes=max_bytes, kept=_KEPT)
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
        self._lines.close()

    def _write(self, what: Outgoing, how: str, why: str, to: str) -> None:
        document = {
            "time": iso_time(time.time_ns()),
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
        try:
            self._lines.append(document)
        except OSError as error:
            raise StorageError(
                f"{self._lines.path}: cannot write down what leaves the device, so nothing does",
                got=str(error),
                do="Free the disk or allow this user to write there",
            ) from error
        self.written += 1
