"""StartJournal: how the last starts of the agent went, on disk, so that one that keeps dying starts safe.

Three starts in a row that died before a steady minute make the next one a safe one. What was being opened
when they died (a camera, a model) is known from breadcrumbs: names written before each risky step and erased
after it. `judge` is pure; the journal adds the disk. What a safe start leaves out is `caution`'s business.
"""

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from edge_runtime.atomic import new_file
from edge_runtime.contract.errors import StorageError

log = logging.getLogger(__name__)

FAILURES = 3
"""Starts in a row that die early before the next one is a safe one."""

WINDOW_S = 900.0
"""Two starts further apart than this are not in a row: something else than the start ended the first."""

STEADY_S = 60.0
"""A start that ran for this long was a good one."""

SAFE_S = 600.0
"""A safe start that ran for this long gives way to a usual one; twice as long after each that died again."""

LONGEST_SAFE_S = 86400.0

_KEPT = 16


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Args:
        at_s: Unix time.
        file: Digest of the settings it started with.
        well: Whether it ran for a steady minute, or ended because somebody wanted it to.
        safe: Whether it was a safe one.
        trial: Whether it was the first usual one after a safe one.
        safe_s: How long a safe one is to run before the trial.
        left_out: What it left out.
        crumbs: What was being opened when it was last heard of.
    """

    at_s: float
    file: str
    well: bool = False
    safe: bool = False
    trial: bool = False
    safe_s: float = SAFE_S
    left_out: tuple[str, ...] = ()
    crumbs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How to start now.

    Args:
        careful: One camera after the other, so that it is known which one it was.
        safe: Without what killed the last starts; or, where nobody knows, with everything slow and simple.
        trial: A usual start after a safe one.
        left_out: `camera NAME` and `model NAME` that were being opened when the last starts died.
        safe_s: How long a safe start is to run.
        died: How many starts in a row died.
    """

    careful: bool = False
    safe: bool = False
    trial: bool = False
    left_out: tuple[str, ...] = ()
    safe_s: float = SAFE_S
    died: int = 0


def judge(starts: Sequence[Start], file: str, now_s: float) -> Verdict:
    """Say how to start, from how the last starts went.

    Args:
        starts: In the order of time.
        file: Digest of the settings now; starts with others say nothing about these.
        now_s: Unix time.
    """
    failed: list[Start] = []
    later_s = now_s
    for start in reversed(starts):
        # A clock that was set meanwhile may show any distance, also a negative one.
        if start.well or start.file != file or abs(later_s - start.at_s) > WINDOW_S:
            break
        failed.insert(0, start)
        later_s = start.at_s
    if not failed:
        last = starts[-1] if starts else None
        if last is None or not last.safe or last.file != file:
            return Verdict()
        return Verdict(careful=True, trial=True, safe_s=last.safe_s)
    last = failed[-1]
    relapse = any(start.trial for start in failed)
    if len(failed) < FAILURES and not last.safe and not relapse:
        return Verdict(careful=True, died=len(failed))
    safe = [start for start in starts if start.safe and start.file == file]
    known = set(safe[-1].left_out) if safe and (last.safe or relapse) else set[str]()
    # One that died alone may have been switched off just then; a safe start was careful, so its crumb counts.
    counts = {name: sum(name in start.crumbs for start in failed) for name in last.crumbs}
    if last.safe or relapse:
        found = set(last.crumbs)
    else:
        most = max(counts.values(), default=0)
        found = {name for name, count in counts.items() if count >= 2 and count == most}
    safe_s = min(LONGEST_SAFE_S, last.safe_s * 2) if relapse else last.safe_s
    return Verdict(
        careful=True, safe=True, left_out=tuple(sorted(known | found)), safe_s=safe_s, died=len(failed)
    )


_STARTS = TypeAdapter(list[Start])


class StartJournal:
    """The starts of one agent, in a file.

    A disk that does not take it costs the journal, not the start.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._starts = _read(path)
        self._crumbs: list[str] = []
        self._writes = True

    def begin(self, settings: bytes, now_s: float) -> Verdict:
        """Write down that a start begins, and say how it should.

        Args:
            settings: The settings file's bytes.
            now_s: Unix time.
        """
        file = hashlib.blake2b(settings, digest_size=16).hexdigest()
        with self._lock:
            verdict = judge(self._starts, file, now_s)
            start = Start(
                now_s,
                file,
                safe=verdict.safe,
                trial=verdict.trial,
                safe_s=verdict.safe_s,
                left_out=verdict.left_out,
            )
            self._crumbs = []
            self._starts = [*self._starts, start][-_KEPT:]
            self._write()
        return verdict

    def drop_crumb(self, name: str) -> None:
        """Write down that something risky begins."""
        with self._lock:
            self._crumbs.append(name)
            self._note(crumbs=tuple(self._crumbs))

    def pick_crumb(self, name: str) -> None:
        """Erase what is over; a name that is not there is fine."""
        with self._lock:
            if name in self._crumbs:
                self._crumbs.remove(name)
                self._note(crumbs=tuple(self._crumbs))

    def well(self) -> None:
        """Write down that this start went well: it ran for a while, or somebody wanted it to end."""
        with self._lock:
            self._note(well=True, crumbs=())

    def _note(self, **changes: Any) -> None:
        if self._starts:
            changed = replace(self._starts[-1], **changes)
            if changed != self._starts[-1]:
                self._starts[-1] = changed
                self._write()

    def _write(self) -> None:
        document = {"v": 1, "starts": [asdict(start) for start in self._starts]}
        try:
            with new_file(self._path) as stream:
                stream.write(json.dumps(document).encode())
        except StorageError as error:
            if self._writes:
                log.warning("starts are not written down: %s", error)
            self._writes = False
        else:
            self._writes = True


def _read(path: Path) -> list[Start]:
    try:
        document = json.loads(path.read_bytes())
        return _STARTS.validate_python(document["starts"]) if document["v"] == 1 else []
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s is not used, and begun anew: %s", path, error)
        return []
