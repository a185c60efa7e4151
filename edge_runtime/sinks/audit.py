"""Audit: a list, on disk, of what this device does with pictures of people, and on whose behalf.

Says what was allowed, shown, sent and changed; holds no picture and no secret. Bounded: the older half goes
when the file is full. Reads nothing but its own files.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from edge_runtime.contract.errors import StorageError

Facts = Mapping[str, object]


class Act(StrEnum):
    """What was done."""

    STARTED = "started"
    """The agent began; with the policy that holds."""
    POLICY_CHANGED = "policy_changed"
    """Settings changed what is hidden, kept or sent; with the policy from now on."""
    LOOKED = "looked"
    """Somebody began to watch a camera's live picture."""
    PICTURE_GIVEN = "picture_given"
    """A picture or a recording was handed out."""
    ASKED_CLOUD = "asked_cloud"
    """Requests left for the cloud since the last such entry, by model."""
    LOGIN = "login"
    LOGIN_FAILED = "login_failed"


class Audit:
    """Appends to `{folder}/audit.jsonl`; what does not fit moves to `audit.1.jsonl`. From any thread.

    Args:
        folder: Made when absent.
        max_bytes: Of each of the two files.
        clock: Unix time in seconds.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = 4 * 2**20, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = folder / "audit.jsonl"
        self._older = folder / "audit.1.jsonl"
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()

    def note(self, act: Act, who: str, facts: Facts | None = None) -> None:
        """Write an entry down; when this returns, it survives `kill -9`.

        Args:
            act: What was done.
            who: On whose behalf: `agent`, `fleet`, or a browser's address.
            facts: JSON values; no secrets.

        Raises:
            StorageError: It cannot be written.
        """
        moment = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        entry = {"v": 1, "time": moment.replace("+00:00", "Z"), "act": act, "who": who, **(facts or {})}
        line = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._path.exists() and self._path.stat().st_size + len(line) > self._max_bytes:
                    self._path.replace(self._older)
                with self._path.open("ab") as file:
                    if file.tell() and not _ends_in_newline(self._path):
                        line = b"\n" + line
                    file.write(line)
            except OSError as error:
                raise StorageError(
                    f"{self._path}: cannot write down what was done",
                    got=error.strerror or str(error),
                    do="Free the disk or allow this user to write there",
                ) from error

    def newest(self, count: int = 200) -> tuple[dict[str, Any], ...]:
        """Give the newest entries, the newest first; a line that a crash tore is left out.

        Raises:
            StorageError: The files cannot be read.
        """
        with self._lock:
            try:
                lines = [
                    line
                    for path in (self._path, self._older)
                    if path.exists()
                    for line in reversed(path.read_bytes().splitlines())
                ]
            except OSError as error:
                raise StorageError(
                    f"{self._path}: cannot be read", got=error.strerror or str(error)
                ) from error
        entries: list[dict[str, Any]] = []
        for line in lines:
            entry = _entry(line)
            if entry is not None:
                entries.append(entry)
            if len(entries) == count:
                break
        return tuple(entries)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None  # torn: the entry was never acknowledged
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
