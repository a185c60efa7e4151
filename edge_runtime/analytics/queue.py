"""Queue: how long a waiting line is and how long people stand in it, from their stays in its zone.

Whoever is in the zone of a waiting line waits, unless the stay is so short that it was only passed through.
Nobody can tell from a stay whether somebody was served or gave up. Pure: no clock, no camera.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

PASSING_S = 5.0
"""A shorter stay is passing through: crossing a zone of three metres takes two or three seconds."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody's stay in a waiting line.

    Args:
        begin_s: Seconds since 1970.
        end_s: As `begin_s`; of who still waits: now.
    """

    begin_s: float
    end_s: float

    @property
    def lasted_s(self) -> float:
        """How long."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class Length:
    """A waiting line over one slot.

    Args:
        mean: People in it, averaged over the time of the slot that has passed.
        most: The most at once.
    """

    mean: float
    most: int


def waited(stays: Iterable[Wait]) -> list[Wait]:
    """Leave out who only passed through."""
    return [stay for stay in stays if stay.lasted_s >= PASSING_S]


def lengths(waits: Sequence[Wait], slots: Sequence[int], end_s: float, until_s: float) -> list[Length]:
    """Follow the length of a line through a day.

    Args:
        waits: Of people who waited, in any order; what of them lies outside the day does not count.
        slots: Moments at which the slots of the day begin.
        end_s: Of the day.
        until_s: Slots that begin at this moment or later have not been yet.

    Returns:
        One length for each slot that has begun.
    """
    # Of a leaving and a coming at the same moment the leaving is first: one takes the other's place.
    begun = [wait for wait in waits if wait.begin_s < until_s]
    steps = sorted(chain(((w.begin_s, 1) for w in begun), ((min(w.end_s, until_s), -1) for w in begun)))
    made, place, now = list[Length](), 0, 0
    for number, begin_s in enumerate(slots):
        if begin_s >= until_s:
            break
        to_s = slots[number + 1] if number + 1 < len(slots) else end_s
        while place < len(steps) and steps[place][0] <= begin_s:
            now += steps[place][1]
            place += 1
        most, person_s, at_s = now, 0.0, float(begin_s)
        while place < len(steps) and steps[place][0] < to_s:
            moment_s, step = steps[place]
            person_s += now * (moment_s - at_s)
            now, at_s, place = now + step, moment_s, place + 1
            most = max(most, now)
        person_s += now * (to_s - at_s)
        passed_s = min(float(to_s), until_s) - begin_s
        made.append(Length(person_s / passed_s, most))
    return made
