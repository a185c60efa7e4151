"""Digests of files outside the plan, remembered by place, size and times: a large source is read once.

Remembers only what has not just changed: within a clock's tick a file can change and show the same times.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

_SETTLED_NS = 2_000_000_000
"""FAT, with the coarsest clock of the file systems, counts time in 2 s."""


class Digests:
    """A memory of digests, in a file that may be lost or damaged at any time.

    Args:
        file: Where it is kept.
        clock_ns: Gives the time since 1970.
    """

    def __init__(self, file: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._file = file
        self._clock_ns = clock_ns
        self._known: dict[str, list[int | str]] = {}
        self._changed = False
        with suppress(OSError, ValueError):
            loaded: object = json.loads(file.read_bytes())
            if isinstance(loaded, dict):
                entries = cast(dict[str, object], loaded).items()
                self._known = {
                    place: cast(list[int | str], known) for place, known in entries if isinstance(known, list)
                }

    def of(self, path: Path) -> str:
        """Digest a file or a folder.

        Args:
            path: A file; or a folder, whose digest is the SHA-256 of one line `<sha256>  <relative path>` for
                each file in it, sorted by path, as for a bundle's variant.

        Returns:
            SHA-256 in hexadecimal.

        Raises:
            OSError: It is missing or cannot be read.
        """
        if not path.is_dir():
            return self._of_file(path)
        names = [
            (Path(folder, name).relative_to(path).as_posix(), Path(folder, name))
            for folder, _, files in os.walk(path)
            for name in files
        ]
        lines = "".join(f"{self._of_file(file)}  {name}\n" for name, file in sorted(names))
        return hashlib.sha256(lines.encode()).hexdigest()

    def save(self) -> None:
        """Keep what was learnt.

        Raises:
            OSError: The disk is full or not writeable.
        """
        if not self._changed:
            return
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(self._known))
            draft.replace(self._file)
        finally:
            draft.unlink(missing_ok=True)
        self._changed = False

    def _of_file(self, path: Path) -> str:
        place = str(path.absolute())
        status = path.stat()
        # A copy can bring an old time of change along, but not an old ctime.
        looks = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        known = self._known.get(place)
        if known and known[:-1] == looks and isinstance(known[-1], str):
            return known[-1]
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if self._clock_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
            self._known[place] = [*looks, sha256]
            self._changed = True
        return sha256
