"""Lanes: what waits in a batcher, one lane for each priority, the earliest deadline first.

Pure; decides nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

T = TypeVar("T")


class State(Enum):
    """Where an item is; it leaves `WAITING` once."""

    WAITING = auto()
    RUN = auto()
    SHED = auto()
    CANCELLED = auto()


@dataclass(slots=True, eq=False)
class Item(Generic[T]):
    """One request in the queue.

    Args:
        value: The caller's.
        rows: Of its tensors.
        key: What may run together has the same.
        deadline: Monotonic seconds; infinity: none.
        priority: 0 is the highest.
        size_bytes: Of its tensors.
        number: Of its arrival.
        arrived: Monotonic seconds.
        start_by: Later than this, it cannot end in time.
        cost_s: What it is expected to take of an instance.
        state: Where it is.
    """

    value: T
    rows: int
    key: Hashable
    deadline: float
    priority: int
    size_bytes: int
    number: int
    arrived: float
    start_by: float
    cost_s: float
    state: State = State.WAITING


class Lane(Generic[T]):
    """What waits in one priority, by deadline, then by arrival.

    Attributes:
        cost_s: What all of it is expected to take of an instance.
        passed: Batches that began with another priority while this one waited.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Item[T]]] = []
        self.cost_s = 0.0
        self.passed = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, at: int) -> Item[T]:
        return self._entries[at][2]

    def place(self, item: Item[T]) -> int:
        """Say how many are before an item, which is here or not."""
        return bisect_left(self._entries, (item.deadline, item.number, item))

    def put(self, item: Item[T]) -> None:
        """Take an item in."""
        insort(self._entries, (item.deadline, item.number, item))
        self.cost_s += item.cost_s

    def take(self, at: int) -> Item[T]:
        """Give an item away."""
        item = self._entries.pop(at)[2]
        self.cost_s = self.cost_s - item.cost_s if self._entries else 0.0
        return item
