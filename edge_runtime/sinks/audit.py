"""Audit: a list, on disk, of what this device does with pictures of people, and on whose behalf.

Says what was allowed, shown, given and changed; holds no picture and no secret. What leaves for the cloud has
a list of its own (`routing.audit_log`).
"""

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import iso_time
from edge_runtime.lines import LineLog

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
    LOGIN = "login"
    LOGIN_FAILED = "login_failed"


class Audit:
    """Appends to `{folder}/privacy.jsonl`; what does not fit moves to `privacy.1.jsonl`. From any thread.

    Args:
        folder: Made when absent.
        max_bytes: Of each of the two files, give or take an entry.
        clock: Unix time in nanoseconds.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = 4 * 2**20, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._lines = LineLog(folder / "privacy.jsonl", max_bytes=max_bytes, kept=1)
        self._clock = clock

    def note(self, act: Act, who: str, facts: Facts | None = None) -> None:
        """Write an entry down; when this returns, it survives `kill -9`.

        Args:
            act: What was done.
            who: On whose behalf: `agent`, `fleet`, or a browser's address.
            facts: JSON values; no secrets.

        Raises:
            StorageError: It cannot be written.
        """
        entry = {"v": 1, "time": iso_time(self._clock()), "act": act, "who": who, **(facts or {})}
        try:
            self._lines.append(entry)
        except OSError as error:
            raise StorageError(
                f"{self._lines.path}: cannot write down what was done",
                got=error.strerror or str(error),
                do="Free the disk or allow this user to write there",
            ) from error

    def newest(self, count: int = 200) -> tuple[dict[str, Any], ...]:
        """Give the newest entries, the newest first.

        Raises:
            StorageError: The files cannot be read.
        """
        try:
            return self._lines.newest(count)
        except OSError as error:
            raise StorageError(
                f"{self._lines.path}: cannot be read", got=error.strerror or str(error)
            ) from error

    def close(self) -> None:
        """Close the file; a later entry opens it again."""
        self._lines.close()
