"""Which recordings have to go: the oldest first, by bytes and age. Pure: deletes nothing, reads no clock."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A recording on the disk.

    Args:
        what: Its file, to whoever deletes it.
        time_s: Unix time of the moment it shows.
        bytes: Of all its files.
    """

    what: T
    time_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be kept.

    Args:
        max_bytes: All recordings together.
        max_age_s: Older ones go; None: age does not matter.
    """

    max_bytes: int
    max_age_s: float | None = None


def surplus(
    oldest_first: Iterable[Kept[T]], total_bytes: int, limits: Limits, now_s: float
) -> Iterator[Kept[T]]:
    """Give the recordings to delete.

    Args:
        oldest_first: What is there; read only as far as it takes.
        total_bytes: Of all of it.
        limits: What may be kept.
        now_s: Unix time.
    """
    for kept in oldest_first:
        old = limits.max_age_s is not None and now_s - kept.time_s > limits.max_age_s
        if not old and total_bytes <= limits.max_bytes:
            return
        total_bytes -= kept.bytes
        yield kept
