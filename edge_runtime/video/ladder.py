"""Ladder: how much a machine that is too hot, too full or too slow gives up, one step at a time. Pure.

A step down makes every camera's sampler slower by the same share; the lower ones also switch off what only
looks nice. It climbs back one step at a time once it has been calm for long enough, and waits twice as long
after each time that this was too early. Measures nothing and slows down nobody itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Step:
    """What is left on one step.

    Args:
        share: Of each camera's inferences a second.
        extras: Whether annotated videos are written and live views are sent at their full rate.
    """

    share: float
    extras: bool


STEPS = (
    Step(1.0, extras=True),
    Step(0.7, extras=True),
    Step(0.5, extras=True),
    Step(0.35, extras=False),
    Step(0.2, extras=False),
)
"""By level; 0 is the usual one."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """How the machine is doing; None: it cannot tell.

    Args:
        temperature_c: Of the hottest sensor of the processor.
        throttled: Whether the processor was slowed down for its heat since the last look.
        memory_free_share: Of the memory that this process may use.
        age_s: Of the answers of the slowest live camera, over the last seconds.
    """

    temperature_c: float | None = None
    throttled: bool = False
    memory_free_share: float | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class LadderOptions:
    """When to give way.

    Args:
        hot_c: Too hot from here; None: heat alone is no reason.
        cool_c: Degrees below `hot_c` at which it is cool again.
        memory_free_share: Too full below this share.
        late_s: Too slow when answers are older than this.
        down_after_s: How long a reason must last for one step down.
        up_after_s: How long it must be calm for one step up.
    """

    hot_c: float | None = None
    cool_c: float = 5.0
    memory_free_share: float = 0.05
    late_s: float = 1.0
    down_after_s: float = 10.0
    up_after_s: float = 60.0


LONGEST_UP_S = 1800.0
"""The longest wait before the next attempt to climb."""

EASE = 1.5
"""Memory and age are calm again this factor away from their limit, so that a step up has room."""


@dataclass(slots=True)
class Ladder:
    """Where on the ladder a machine stands.

    Args:
        options: When it gives way.
        level: 0: nothing is given up.
        reason: Why it is not at 0, for a person; empty at 0.
    """

    options: LadderOptions = field(default_factory=LadderOptions)
    level: int = 0
    reason: str = ""
    _since_s: float | None = None
    """Since when the reason to go down, or the calm to go up, has lasted."""
    _pressed: bool = False
    _up_after_s: float = 0.0
    _climbed_s: float | None = None

    @property
    def step(self) -> Step:
        """What is left."""
        return STEPS[self.level]

    def look(self, pressure: Pressure, now_s: float) -> bool:
        """Take one look in.

        Args:
            pressure: Now.
            now_s: A clock that does not run backwards.

        Returns:
            Whether the level changed.
        """
        reasons = list(_reasons(pressure, self.options))
        calm = not reasons and _calm(pressure, self.options)
        pressed = bool(reasons)
        if pressed != self._pressed or not (pressed or calm):
            self._since_s = None
        self._pressed = pressed
        if not (pressed or calm):
            return False
        self._since_s = now_s if self._since_s is None else self._since_s
        lasted_s = now_s - self._since_s
        if pressed:
            self.reason = "; ".join(reasons) if self.level else self.reason
            return lasted_s >= self.options.down_after_s and self._down(reasons, now_s)
        return self.level > 0 and lasted_s >= self._patience_s and self._up(now_s)

    @property
    def _patience_s(self) -> float:
        return max(self._up_after_s, self.options.up_after_s)

    def _down(self, reasons: list[str], now_s: float) -> bool:
        self._since_s = now_s
        if self.level == len(STEPS) - 1:
            return False
        if self._climbed_s is not None and now_s - self._climbed_s <= self._patience_s:
            self._up_after_s = min(LONGEST_UP_S, 2 * self._patience_s)
        self._climbed_s = None
        self.level += 1
        self.reason = "; ".join(reasons)
        return True

    def _up(self, now_s: float) -> bool:
        self._since_s = now_s
        self._climbed_s = now_s
        self.level -= 1
        if self.level == 0:
            self.reason = ""
        return True


def _reasons(pressure: Pressure, options: LadderOptions) -> Iterator[str]:
    temperature, free, age = pressure.temperature_c, pressure.memory_free_share, pressure.age_s
    if options.hot_c is not None and temperature is not None and temperature >= options.hot_c:
        yield f"{temperature:.0f} °C, and {options.hot_c:.0f} °C is too hot"
    if pressure.throttled:
        yield "the processor slows itself down for its heat"
    if free is not None and free < options.memory_free_share:
        yield f"{free:.1%} of the memory is free, and {options.memory_free_share:.1%} is too little"
    if age is not None and age > options.late_s:
        yield f"answers are {age:.1f} s old, and {options.late_s:g} s is too old"


def _calm(pressure: Pressure, options: LadderOptions) -> bool:
    """Tell whether there is room for a step up, not just no reason for one down."""
    temperature, free, age = pressure.temperature_c, pressure.memory_free_share, pressure.age_s
    return (
        (options.hot_c is None or temperature is None or temperature <= options.hot_c - options.cool_c)
        and (free is None or free >= EASE * options.memory_free_share)
        and (age is None or age <= options.late_s / EASE)
    )
