"""Removes what neither a slot nor the journal names: old files, parts, and what a killed writer left.

Not to be run while something is written to the store.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from edge_runtime.update.record import Record
from edge_runtime.update.slots import Slots, all_slots
from edge_runtime.update.store import Store


def named(record: Record, slots: Iterable[Slots]) -> frozenset[str]:
    """Give the SHA-256 of every file that must stay.

    Raises:
        StorageError: A pointer cannot be read: then nothing may be removed.
    """
    held = {version.sha256 for each in slots for version in each.read().versions()}
    return record.named() | held


def unneeded(names: Iterable[str], keep: frozenset[str]) -> list[str]:
    """Pick the file names that nothing needs: their stem is no SHA-256 that must stay."""
    return sorted(name for name in names if name.partition(".")[0] not in keep)


def collect(store: Store, slots: Path, record: Record) -> int:
    """Remove what nothing names.

    Args:
        store: The files.
        slots: The folder of all slots.
        record: What the journal says now.

    Returns:
        Bytes freed.

    Raises:
        StorageError: A pointer cannot be read; nothing was removed.
    """
    keep = named(record, all_slots(slots))
    freed = 0
    for folder in (store.objects, store.parts):
        if not folder.is_dir():
            continue
        for name in unneeded((each.name for each in folder.iterdir()), keep):
            with suppress(OSError):  # it is looked at again the next time
                size = (folder / name).stat().st_size
                (folder / name).unlink()
                freed += size
    return freed
