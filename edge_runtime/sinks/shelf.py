"""Shelf: a folder of recordings, a folder a day in it, that bounds itself and finds the one of an event.

    {folder}/2026-01-31/14-05-09.250_{camera}_{id of the event}.mp4
    {folder}/2026-01-31/14-05-09.250_{camera}_{id of the event}.ids   other events that it shows, one a line

The names are the index: nothing else has to be kept right, and a search lists one day. What is being written
has a hidden name, and gets its own when it is whole. It knows no event, no codec and no camera.
"""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from edge_runtime.atomic import cannot_write, flush_folder
from edge_runtime.contract.errors import StorageError
from edge_runtime.sinks.retention import Kept, Limits, surplus

log = logging.getLogger(__name__)

RESERVE_BYTES = 512 * 2**20
"""Of a disk, left free at least: the events, the journals and the system have to be written, too."""

_STALE_S = 3600.0
"""A hidden file that nobody has written to for this long has no writer, whoever has its number by now."""


class Shelf:
    """The recordings of one sink; used by one thread, but for `find`.

    Args:
        folder: Where they are; made when the first comes.
        suffix: Of their files: `.mp4`, `.jpg`.
        limits: What may be kept.
        reserve_bytes: Free space of the disk below which nothing is written.
        clock: Unix time.
    """

    def __init__(
        self,
        folder: Path,
        suffix: str,
        limits: Limits,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._suffix = suffix
        self._limits = limits
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._bytes: int | None = None
        """Of everything kept; None: not counted yet."""

    def open(self) -> None:
        """Remove what a killed writer left, count what there is, and delete what may not stay."""
        self._sweep()
        self._bytes = None
        self.tidy()

    def part(self, camera: str, event: str, moment: str) -> Path:
        """Give the hidden file to write a recording to; `keep` puts it into its place.

        Args:
            camera: Its camera.
            event: The id of the event that it is of.
            moment: The event's time, ISO 8601 UTC with milliseconds.

        Raises:
            StorageError: The disk has no room for more, or is read-only.
        """
        when = _parse(moment)
        name = f"{when:%H-%M-%S}.{when.microsecond // 1000:03d}_{camera}_{event}{self._suffix}"
        part = self._folder / f"{when:%Y-%m-%d}" / f".{name}.{os.getpid()}.part"
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(part.parent, error) from error
        self.check_room()
        return part

    def check_room(self) -> None:
        """Refuse to write more where the disk is almost full.

        Raises:
            StorageError: Less than the reserve is free.
        """
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        if free < self._reserve_bytes:
            raise StorageError(
                f"{self._folder}: nothing is recorded",
                expected=f"{self._reserve_bytes >> 20} MB free on its disk",
                got=f"{free >> 20} MB",
                do="Free the disk, or lower `keep_bytes` of the sinks that record on it",
            )

    def keep(self, part: Path, events: Sequence[str]) -> Path:
        """Put a recording that is whole into its place, and let go of the oldest.

        Args:
            part: As `part` gave it.
            events: Ids of the events that it shows; the first is the one it is named after.

        Returns:
            Its place.

        Raises:
            StorageError: The disk did not take it; nothing is left of it.
        """
        place = part.with_name(part.name.removeprefix(".").rsplit(".", 2)[0])
        others = place.with_suffix(".ids")
        try:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            if len(events) > 1:
                others.write_text("".join(f"{event}\n" for event in events[1:]))
            part.replace(place)
            flush_folder(place.parent)
        except OSError as error:
            for left in (part, others):
                _delete(left)
            raise cannot_write(place, error) from error
        if self._bytes is not None:
            self._bytes += _size(place) + _size(others)
        self.tidy()
        return place

    def tidy(self) -> None:
        """Delete what is too much or too old, the oldest first."""
        if self._bytes is None:
            self._bytes = sum(kept.bytes for kept in self._oldest_first())
        doomed = surplus(self._oldest_first(), self._bytes, self._limits, self._clock())
        for kept in doomed:
            if not _delete(kept.what) and kept.what.exists():
                log.warning("%s cannot be deleted", kept.what)
                continue
            _delete(kept.what.with_suffix(".ids"))
            self._bytes = max(0, self._bytes - kept.bytes)
            self._drop_if_empty(kept.what.parent)

    def find(self, event: str, camera: str, moment: str, longest_s: float) -> Path | None:
        """Find the recording of an event.

        Args:
            event: Its id.
            camera: Its camera.
            moment: Its time, as in the event.
            longest_s: A recording of earlier events shows it at most this long after the first of them.

        Returns:
            The file; None: there is none (yet, or any more).
        """
        when = _parse(moment)
        exact = f"{when:%H-%M-%S}.{when.microsecond // 1000:03d}_{camera}_{event}{self._suffix}"
        path = self._folder / f"{when:%Y-%m-%d}" / exact
        if path.is_file():
            return path
        since = when - timedelta(seconds=longest_s)
        for day in sorted({f"{since:%Y-%m-%d}", f"{when:%Y-%m-%d}"}):
            for others in (self._folder / day).glob(f"*_{camera}_*.ids"):
                began = _time_of(others)
                if began is not None and since.timestamp() <= began <= when.timestamp() + 1:
                    place = others.with_suffix(self._suffix)
                    if event in _lines(others) and place.is_file():
                        return place
        return None

    def _oldest_first(self) -> Iterator[Kept[Path]]:
        for day in self._days():
            names = [path for path in day.iterdir() if path.suffix == self._suffix]
            for path in sorted(names):
                began = _time_of(path)
                if began is not None:
                    yield Kept(path, began, _size(path) + _size(path.with_suffix(".ids")))

    def _days(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if _is_day(path.name))
        except FileNotFoundError:
            return []

    def _sweep(self) -> None:
        for day in self._days():
            for path in day.glob(f".*{self._suffix}.*.part"):
                pid = path.name.rsplit(".", 2)[1]
                mine = pid == str(os.getpid())
                alive = pid.isdigit() and psutil.pid_exists(int(pid))
                if mine or not alive or time.time() - path.stat().st_mtime > _STALE_S:
                    _delete(path)
            for others in day.glob("*.ids"):
                if not others.with_suffix(self._suffix).exists():
                    _delete(others)
            self._drop_if_empty(day)

    @staticmethod
    def _drop_if_empty(day: Path) -> None:
        try:
            day.rmdir()
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EROFS, errno.EACCES}:
                log.warning("%s: %s", day, error)


def _parse(moment: str) -> datetime:
    return datetime.fromisoformat(moment).astimezone(UTC)


def _is_day(name: str) -> bool:
    return len(name) == len("2026-01-31") and name.replace("-", "").isdigit()


def _time_of(path: Path) -> float | None:
    """Give the Unix time in a recording's name; None: it is no recording of this program."""
    try:
        when = datetime.strptime(f"{path.parent.name} {path.name[:12]}", "%Y-%m-%d %H-%M-%S.%f")
    except ValueError:
        return None
    return when.replace(tzinfo=UTC).timestamp()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:  # deleted since it was listed
        return []


def _delete(path: Path) -> bool:
    """Delete a file; False: that cannot be done, or it is not there."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
