"""Health: whether what a camera sends is still a picture of its place. Pure.

Looks at a thumbnail of the brightness about once a second and says when the picture is frozen, black, blinded
(no structure: a lamp, a covered lens, spray) or of another place (the camera was turned), and when it is well
again. It judges structure, not brightness: night is no fault, and people in front of the background are none.
Reads no clock, decodes nothing, and remembers nothing across a restart.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.status import Condition

ROWS, COLUMNS = 36, 64
"""Size of the thumbnail. Its 35 x 63 gradients are 5 x 9 blocks of 7 x 7."""

_BLOCK = 7

LOOK_EVERY_NS = 1_000_000_000
"""A look at most this often."""

GAP_NS = 15_000_000_000
"""What lies further apart says nothing about the time between: nothing is pending any more."""

CLEAR_S = 3.0
"""A fault is over when it has been away for this long."""

RELEARN_S = 1800.0
"""A view that has stayed for this long, and has structure, is the camera's place from then on."""

LEARN_S = 600.0
"""Time constant of the reference: the sun may wander, a hand that turns the camera may not."""

FIRST_LOOKS = 10
"""Looks that make the first reference."""

BLACK_LEVEL, BLACK_SHARE = 22, 0.99
"""Black is 16 in video; a picture of which this share is not brighter than this shows nothing."""

LEAST_STRUCTURE = 0.012
"""Mean step between neighbours, as a share of the brightness above black. An even wall with a lamp's
light falling off over it has less; the emptiest corner of a shop has five times as much."""

BLINDED_SHARE = 0.3
"""Structure below this share of what the camera usually shows is a covered or dirty lens."""

MATCH = 0.3
"""Median correlation of the blocks with the reference: another view stays below 0.1, one turned by a
twentieth of the picture below 0.25, and the own one in a twentieth of its light above 0.6."""

_LEAST_BLOCKS = 8
"""Blocks with an edge in them that it takes to know a place."""

_LEAST_EDGE = 2.0
"""Steps of a block's reference, root mean square, in grey levels, to be an edge and not noise."""


_OF_A_PLACE = (Condition.MOVED, Condition.BLINDED)
"""Found by comparing with what the camera usually shows."""


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """How long each fault must last before it is said; None: it is never said.

    Args:
        frozen_s: The same picture again and again although packets come.
        black_s: Nothing brighter than black.
        blinded_s: No structure.
        moved_s: Another place.
    """

    frozen_s: float | None = 10.0
    black_s: float | None = 5.0
    blinded_s: float | None = 10.0
    moved_s: float | None = 20.0


@dataclass(frozen=True, slots=True)
class Change:
    """A fault that is there now, or is over.

    Args:
        condition: Which.
        present: Whether it is there.
        since_ns: When it began, in the time that `look` was given.
    """

    condition: Condition
    present: bool
    since_ns: int


@dataclass(slots=True)
class _Latch:
    """Makes a fault of what has lasted, and ends it when it has been away."""

    after_s: float
    since_ns: int | None = None
    well_ns: int | None = None
    present: bool = False

    def note(self, there: bool, now_ns: int) -> bool:
        """Take one look in; tell whether `present` changed."""
        if there:
            self.well_ns = None
            self.since_ns = now_ns if self.since_ns is None else self.since_ns
            if not self.present and now_ns - self.since_ns >= self.after_s * 1e9:
                self.present = True
                return True
            return False
        if not self.present:
            self.since_ns = None
            return False
        self.well_ns = now_ns if self.well_ns is None else self.well_ns
        if now_ns - self.well_ns < CLEAR_S * 1e9:
            return False
        self.present = False
        return True

    def forget_pending(self) -> None:
        """Begin to count anew, because nobody looked meanwhile."""
        self.well_ns = None
        if not self.present:
            self.since_ns = None


@dataclass(slots=True)
class _Usual:
    """What a camera usually shows."""

    steps: NDArray[np.float32]
    """(2, 35, 63): mean steps to the right and down."""
    structure: float
    looks: int = 1

    def learn(self, steps: NDArray[np.float32], structure: float, passed_s: float) -> None:
        self.looks += 1
        share = 1 / self.looks if self.looks <= FIRST_LOOKS else min(1.0, passed_s / LEARN_S)
        self.steps += np.float32(share) * (steps - self.steps)
        self.structure += share * (structure - self.structure)


@dataclass(slots=True)
class Health:
    """The health of one camera's picture.

    Args:
        options: What is said, and after how long.
        seen: (36, 64) bool, False where nobody may look or everything may change; None: all is seen.
    """

    options: HealthOptions = field(default_factory=HealthOptions)
    seen: NDArray[np.bool_] | None = None
    _latches: dict[Condition, _Latch] = field(default_factory=dict[Condition, _Latch], init=False)
    _usual: _Usual | None = field(default=None, init=False)
    _digest: int | None = field(default=None, init=False)
    _last_ns: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        wanted = {
            Condition.FROZEN: self.options.frozen_s,
            Condition.BLACK: self.options.black_s,
            Condition.BLINDED: self.options.blinded_s,
            Condition.MOVED: self.options.moved_s,
        }
        self._latches = {name: _Latch(after_s) for name, after_s in wanted.items() if after_s is not None}

    @property
    def present(self) -> tuple[Condition, ...]:
        """The faults that are there now."""
        return tuple(name for name, latch in self._latches.items() if latch.present)

    def due(self, now_ns: int) -> bool:
        """Tell whether it is time to look again."""
        if not self._latches:
            return False
        return self._last_ns is None or now_ns - self._last_ns >= LOOK_EVERY_NS

    def look(self, small: NDArray[np.uint8], digest: int, now_ns: int) -> tuple[Change, ...]:
        """Judge a picture.

        Args:
            small: (36, 64) uint8, mean brightness of the parts of the picture.
            digest: Of the picture's pixels before they were averaged: equal for equal pictures only.
            now_ns: Any clock that does not run backwards.

        Returns:
            What began or ended with this look.
        """
        passed_ns = 0 if self._last_ns is None else now_ns - self._last_ns
        if passed_ns > GAP_NS:
            for latch in self._latches.values():
                latch.forget_pending()
        self._last_ns = now_ns
        there = self._judge(small, digest, passed_ns / 1e9, now_ns)
        self._digest = digest
        changes: list[Change] = []
        for condition, latch in self._latches.items():
            since_ns = latch.since_ns
            raw = there.get(condition)
            if raw is not None and latch.note(raw, now_ns):
                begun_ns = latch.since_ns if since_ns is None else since_ns
                changes.append(Change(condition, latch.present, now_ns if begun_ns is None else begun_ns))
                if not latch.present:
                    latch.since_ns = None
        return tuple(changes)

    def _judge(
        self, small: NDArray[np.uint8], digest: int, passed_s: float, now_ns: int
    ) -> dict[Condition, bool]:
        """Say what this picture alone shows; a condition that cannot be judged now is left out."""
        light = small.astype(np.float32)
        steps = self._steps(light)
        seen = light if self.seen is None else light[self.seen]
        black = float(np.mean(seen <= BLACK_LEVEL)) >= BLACK_SHARE
        frozen = digest == self._digest and not black
        if black:
            return {Condition.BLACK: True, Condition.FROZEN: False, Condition.BLINDED: False}
        structure = float(np.mean(np.abs(steps))) / max(float(np.mean(seen)) - 16, 4.0)
        bare = structure < LEAST_STRUCTURE
        usual = self._usual
        dull = usual is not None and structure < BLINDED_SHARE * usual.structure
        there = {Condition.BLACK: False, Condition.FROZEN: frozen, Condition.BLINDED: bare or dull}
        moved = False
        if not (bare or dull):
            moved = there[Condition.MOVED] = self._moved(steps)
        if bare or frozen:
            return there
        if usual is None or self._settled(now_ns):
            self._usual = _Usual(steps, structure)
        elif not dull and not moved:
            usual.learn(steps, structure, passed_s)
        return there

    def _steps(self, light: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the steps to the right and down, (2, 35, 63), none where nobody may look."""
        across = light[:-1, 1:] - light[:-1, :-1]
        down = light[1:, :-1] - light[:-1, :-1]
        if self.seen is not None:
            across = across * (self.seen[:-1, 1:] & self.seen[:-1, :-1])
            down = down * (self.seen[1:, :-1] & self.seen[:-1, :-1])
        return np.stack((across, down))

    def _moved(self, steps: NDArray[np.float32]) -> bool:
        """Compare with the reference block by block; nothing is another place than one that nobody knows."""
        usual = self._usual
        if usual is None or usual.looks < FIRST_LOOKS:
            return False
        reference = _per_block(usual.steps * usual.steps)
        edged = reference >= _LEAST_EDGE**2 * _BLOCK**2
        if int(np.count_nonzero(edged)) < _LEAST_BLOCKS:
            return False
        now = _per_block(steps * steps)[edged]
        both = _per_block(steps * usual.steps)[edged]
        return float(np.median(both / np.sqrt(np.maximum(now * reference[edged], 1e-6)))) < MATCH

    def _settled(self, now_ns: int) -> bool:
        """Tell whether a view other than the usual one has stayed so long that it is the usual one."""
        begun = (latch.since_ns for name, latch in self._latches.items() if name in _OF_A_PLACE)
        return any(since_ns is not None and now_ns - since_ns >= RELEARN_S * 1e9 for since_ns in begun)


def _per_block(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum (2, 35, 63) over both directions and each block: (5, 9)."""
    return steps.reshape(2, 5, _BLOCK, 9, _BLOCK).sum(axis=(0, 2, 4))
