"""Pipeline: which waiting frame is inferred next, and in what order results go on. Pure.

Each camera has a short waiting line. A live camera's line holds one frame and the newest wins; a recording's
line makes its reader wait. Every camera gets the same number of turns, whatever its rate, give or take
`SLACK`; and within that the freshest frame goes first, so that an overloaded machine answers about now and
not about whenever the next camera in the row last had a picture. Results of one camera leave in the order its
frames came, however many workers finish out of turn. Runs no thread, holds no lock, reads no clock: a shell
does, and calls this under its lock.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edge_runtime.contract.errors import ConfigError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

RECORDING_DEPTH = 1
"""Frames of a recording that may wait; its reader decodes the next one meanwhile. Each has 3 MB at 1080p."""

SLACK = 3
"""Turns a camera may be ahead of the one that had the fewest, for having a fresher frame. With none, whoever
is last in a round is looked at however old its frame is; a few are enough to choose from."""

_PATIENT = 1 << 62
"""The age of a recording's frame: it does not grow old, and goes where no live one wants to."""


@dataclass(frozen=True, slots=True)
class Ticket(Generic[Item]):
    """A frame on its way through a worker."""

    camera: str
    generation: int
    sequence: int
    item: Item
    offered_ns: int


@dataclass(slots=True)
class _Line(Generic[Item, Outcome]):
    generation: int
    live: bool
    deadline_ns: int | None
    waiting: deque[tuple[Item, int]] = field(default_factory=deque[tuple[Item, int]])
    turns: int = 0
    """Virtual: turns it had, and those it did not want while it had nothing to show."""
    served: int = 0
    """When this camera was served last, for an order among equals."""
    taken: int = 0
    released: int = 0
    finished: dict[int, tuple[Ticket[Item], Outcome]] = field(
        default_factory=dict[int, tuple[Ticket[Item], Outcome]]
    )
    claimed: bool = False


class Pipeline(Generic[Item, Outcome]):
    """The schedule of all cameras that share the workers."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[Item, Outcome]] = {}
        self._serving = 0
        self._fewest = 0
        """Turns of the waiting camera that had the fewest when a worker was last free."""
        self._generation = 0

    def add(self, camera: str, *, live: bool, deadline_ns: int | None = None) -> None:
        """Give a camera a waiting line.

        Args:
            camera: Its name.
            live: The newest frame wins; otherwise no frame is lost and the reader must wait for `room`.
            deadline_ns: A frame that waited longer than this is late and not worth a worker.

        Raises:
            ConfigError: The name is taken.
        """
        if camera in self._lines:
            raise ConfigError(
                f"camera '{camera}' is there already", do="remove it first or take another name"
            )
        self._generation += 1
        self._lines[camera] = _Line(
            self._generation, live, deadline_ns, turns=self._fewest, served=self._serving
        )

    def remove(self, camera: str) -> None:
        """Forget a camera, its waiting frames and the results it is still owed. Unknown names are fine."""
        self._lines.pop(camera, None)

    def room(self, camera: str) -> bool:
        """Tell whether `offer` would take a frame without dropping one. True for a removed camera."""
        line = self._lines.get(camera)
        return line is None or line.live or len(line.waiting) < RECORDING_DEPTH

    def offer(self, camera: str, item: Item, now_ns: int) -> Item | None:
        """Put a frame into its camera's line.

        Returns:
            The frame that lost its place to this one, if any; the frame itself when the camera is gone.
        """
        line = self._lines.get(camera)
        if line is None:
            return item
        line.turns = max(line.turns, self._fewest - SLACK)
        replaced = line.waiting.popleft()[0] if line.live and line.waiting else None
        line.waiting.append((item, now_ns))
        return replaced

    def take(
        self, now_ns: int, among: Collection[str] | None = None
    ) -> tuple[Ticket[Item] | None, list[tuple[str, Item]]]:
        """Take the next frame for a free worker.

        Args:
            now_ns: The clock that `offer` was given.
            among: Only these cameras; None: all.

        Returns:
            Its ticket, or None when nothing waits; and the frames found too late, with their cameras.
        """
        late: list[tuple[str, Item]] = []
        for name, line in self._lines.items():
            while (
                line.deadline_ns is not None
                and line.waiting
                and now_ns - line.waiting[0][1] > line.deadline_ns
            ):
                late.append((name, line.waiting.popleft()[0]))
        name = self._next(now_ns, among)
        if name is None:
            return None, late
        line = self._lines[name]
        item, offered_ns = line.waiting.popleft()
        self._serving += 1
        line.turns, line.served = line.turns + 1, self._serving
        line.taken += 1
        return Ticket(name, line.generation, line.taken - 1, item, offered_ns), late

    def _next(self, now_ns: int, among: Collection[str] | None) -> str | None:
        """Choose the camera whose turn it is; None when none of them waits."""
        ready = [
            (name, line)
            for name, line in self._lines.items()
            if line.waiting and (among is None or name in among)
        ]
        if not ready:
            return None
        fewest = min(line.turns for _, line in ready)
        if among is None:
            self._fewest = fewest
        fair = [(name, line) for name, line in ready if line.turns < fewest + SLACK]

        def standing(one: tuple[str, _Line[Item, Outcome]]) -> tuple[int, int, int]:
            line = one[1]
            age_ns = now_ns - line.waiting[0][1] if line.live else _PATIENT
            return age_ns, line.turns, line.served

        return min(fair, key=standing)[0]

    def finish(self, ticket: Ticket[Item], outcome: Outcome) -> None:
        """Hand in a worker's result; a result of a camera that is gone is dropped."""
        line = self._line_of(ticket)
        if line is not None:
            line.finished[ticket.sequence] = (ticket, outcome)

    def claim(self, camera: str) -> tuple[Ticket[Item], Outcome] | None:
        """Take a camera's next result in order, and with it the sole right to work on that camera.

        Returns:
            None when the next result is not there yet, or another worker holds the claim: that worker will
            come back for what is there by then. Otherwise `release` must follow.
        """
        line = self._lines.get(camera)
        if line is None or line.claimed or line.released not in line.finished:
            return None
        line.claimed = True
        return line.finished.pop(line.released)

    def release(self, ticket: Ticket[Item]) -> None:
        """Give the claim on a result back: it is done with."""
        line = self._line_of(ticket)
        if line is not None:
            line.claimed = False
            line.released += 1

    def idle(self, camera: str) -> bool:
        """Tell whether no frame of a camera waits, is being inferred or is being worked on."""
        line = self._lines.get(camera)
        return line is None or (not line.waiting and line.taken == line.released)

    def _line_of(self, ticket: Ticket[Item]) -> _Line[Item, Outcome] | None:
        """The line a ticket came from; None when that camera is gone, even if its name is in use again."""
        line = self._lines.get(ticket.camera)
        return line if line is not None and line.generation == ticket.generation else None
