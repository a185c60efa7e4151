"""Occupancy: how many people are in the store, from who came in and went out.

No camera counts perfectly, and errors add up: so every day begins with nobody, and who goes out of an empty
store must have come in unseen. That is counted as a missed entry, not as minus one person. The hours before
are left as they were: nobody knows when it was. Pure: no clock, no camera.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A store at some moment of a day.

    Args:
        inside: People in it.
        entered: Seen coming in today.
        left: Seen going out today.
        missed: Entries nobody saw, as far as leavings prove them.
    """

    inside: int = 0
    entered: int = 0
    left: int = 0
    missed: int = 0

    def after(self, inwards: bool) -> "Occupancy":
        """Give the store after somebody came in, or went out."""
        if inwards:
            return replace(self, inside=self.inside + 1, entered=self.entered + 1)
        if self.inside:
            return replace(self, inside=self.inside - 1, left=self.left + 1)
        return replace(self, left=self.left + 1, missed=self.missed + 1)


@dataclass(frozen=True, slots=True)
class Level:
    """A store over one slot.

    Args:
        inside: People in it at the end of the slot.
        most: The most at once.
        missed: Entries that leavings in this slot prove to have been missed.
    """

    inside: int
    most: int
    missed: int


def levels(passings: Iterable[tuple[float, bool]], slots: Sequence[int], until_s: float) -> list[Level]:
    """Follow the occupancy through a day that begins with nobody.

    Args:
        passings: When somebody came in (True) or went out, in order of time; none before the first slot.
        slots: Moments at which the slots of the day begin.
        until_s: Slots that begin at this moment or later have not been yet.

    Returns:
        One level for each slot that has begun.
    """
    rest = iter(passings)
    ahead = next(rest, None)
    now, made = Occupancy(), list[Level]()
    for number, begin_s in enumerate(slots):
        if begin_s >= until_s:
            break
        end_s = slots[number + 1] if number + 1 < len(slots) else float("inf")
        most, missed = now.inside, now.missed
        while ahead is not None and ahead[0] < end_s:
            now = now.after(ahead[1])
            most = max(most, now.inside)
            ahead = next(rest, None)
        made.append(Level(now.inside, most, now.missed - missed))
    return made
