"""How many bytes an update sends: a file against the one that is already on the device.

Keeps no patch: it measures what the update route would send, with zstd's `--patch-from`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

_MAX_BYTES = 1 << 30
"""Of either file: the window holds both, and a device must hold the window to undo the patch."""
_MIN_PREFIX = 8
"""zstd takes no shorter one."""
_WINDOW_LOGS = (10, 31)
"""What zstd takes, on 64-bit machines."""


class Method(StrEnum):
    """How a new file gets to a device that has the old one."""

    NONE = "unchanged"
    PATCH = "patch"
    """zstd, with the old file as the prefix."""
    COMPRESSED = "compressed"
    """zstd, by itself."""
    WHOLE = "whole"
    """As it is: zstd is not installed, or does not help."""


@dataclass(frozen=True, slots=True)
class Update:
    """What an update of a variant sends.

    Args:
        size_bytes: Sent.
        whole_bytes: The variant as it is.
        methods: Used for its files.
    """

    size_bytes: int
    whole_bytes: int
    methods: frozenset[Method]

    @classmethod
    def of(cls, files: Iterable["Update"]) -> "Update":
        """Add up the files of a variant."""
        parts = list(files)
        return cls(
            sum(part.size_bytes for part in parts),
            sum(part.whole_bytes for part in parts),
            frozenset[Method]().union(*(part.methods for part in parts)),
        )


def can_compress() -> bool:
    """Say whether zstd is here: Python 3.14 has it, the extra `convert` brings it to older ones."""
    return _zstd() is not None


def update_of(old: Path | None, new: Path) -> Update:
    """Measure the smallest way to send a variant.

    Args:
        old: The variant on the device, a file or a folder; None: it has none.
        new: The variant to be there, a file or a folder.

    Raises:
        OSError: A file cannot be read.
    """
    if not new.is_dir():
        return _update_of_file(old if old is not None and old.is_file() else None, new)
    files = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file())
    return Update.of(
        _update_of_file(old / name if old is not None and (old / name).is_file() else None, new / name)
        for name in files
    )


def _update_of_file(old: Path | None, new: Path) -> Update:
    size = new.stat().st_size
    zstd = _zstd()
    if size > _MAX_BYTES:
        return Update(size, size, frozenset({Method.WHOLE}))
    content = new.read_bytes()
    base = old.read_bytes() if old is not None and old.stat().st_size <= _MAX_BYTES else None
    if content == base:
        return Update(0, size, frozenset({Method.NONE}))
    ways = {Method.WHOLE: size}
    if zstd is not None:
        ways[Method.COMPRESSED] = len(zstd.compress(content))
        if base and len(base) >= _MIN_PREFIX:
            ways[Method.PATCH] = _patch_bytes(zstd, base, content)
    best = min(ways, key=lambda way: ways[way])
    return Update(ways[best], size, frozenset({best}))


def _patch_bytes(zstd: Any, old: bytes, new: bytes) -> int:
    parameter = zstd.CompressionParameter
    low, high = _WINDOW_LOGS
    options = {
        parameter.window_log: min(max((len(old) + len(new)).bit_length(), low), high),
        # Finds matches anywhere in the old file; without it only near the same place.
        parameter.enable_long_distance_matching: 1,
    }
    return len(zstd.compress(new, options=options, zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix))


def _zstd() -> Any | None:
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name)
    return None
