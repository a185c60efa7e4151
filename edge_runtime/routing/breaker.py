"""A circuit breaker: a cloud that fails or is slow too often is left alone for a while.

Pure: `now` and dice come in; it sends nothing and waits for nothing. Not thread-safe: one caller at a time,
each call takes microseconds.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.contract.errors import ConfigError


class BreakerState(StrEnum):
    """Whether the cloud may be asked."""

    CLOSED = "closed"
    """Everything may go."""
    OPEN = "open"
    """Nothing may go until the cooldown is over."""
    HALF_OPEN = "half-open"
    """The cooldown is over: exactly one request may go, as a probe."""
    PROBING = "probing"
    """The probe is under way; nothing else may go until it is back."""


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When a breaker opens, and for how long.

    Args:
        window_s: Only calls that ended in the last so many seconds count.
        minimum_calls: It does not open on fewer calls in the window.
        failure_rate: It opens when this share of them failed.
        slow_rate: It opens when this share of them was slow.
        slow_s: A call that took longer is slow.
        cooldown_s: First time it stays open; doubles each time the probe fails.
        longest_cooldown_s: It does not double further than this.
        probe_timeout_s: A probe that nobody reported on counts as failed after this.
    """

    window_s: float = 30.0
    minimum_calls: int = 5
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    slow_s: float = 5.0
    cooldown_s: float = 2.0
    longest_cooldown_s: float = 60.0
    probe_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not (0 < self.failure_rate <= 1 and 0 < self.slow_rate <= 1):
            raise ConfigError(
                "breaker: rates", expected="in (0, 1]", got=f"{self.failure_rate:g} and {self.slow_rate:g}"
            )
        if self.minimum_calls < 1 or not 0 < self.cooldown_s <= self.longest_cooldown_s:
            raise ConfigError(
                "breaker: minimum_calls, cooldown_s",
                expected="at least one call, and 0 < cooldown_s <= longest_cooldown_s",
                got=f"{self.minimum_calls}, {self.cooldown_s:g} s and {self.longest_cooldown_s:g} s",
            )


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one call; is handed back with what became of the call.

    Args:
        generation: How often the breaker had changed when it was given.
        probe: Whether it is the one probe.
    """

    generation: int
    probe: bool = False


class Breaker:
    """Counts calls and decides which may go.

    Every call asks `acquire` first and reports once, with `done` or `cancelled`. A report of a call that
    began before the breaker last opened or closed says nothing about the cloud as it is now and is not
    counted: so exactly one probe decides, however many older calls end meanwhile.

    Args:
        options: When it opens.
    """

    def __init__(self, options: BreakerOptions | None = None) -> None:
        self._options = options or BreakerOptions()
        self._calls: deque[_Call] = deque()
        self._failures = 0
        self._slow = 0
        self._generation = 0
        self._failed_probes = 0
        self._open_until_s: float | None = None
        self._probe_until_s: float | None = None
        self.times_opened = 0
        """How often it went from closed to open."""

    def state(self, now_s: float) -> BreakerState:
        """Say whether a call may go, without asking for leave.

        Args:
            now_s: Monotonic seconds.
        """
        if self._open_until_s is None:
            return BreakerState.CLOSED
        if self._probe_until_s is not None and now_s < self._probe_until_s:
            return BreakerState.PROBING
        return BreakerState.OPEN if now_s < self._open_until_s else BreakerState.HALF_OPEN

    def acquire(self, now_s: float) -> Permit | None:
        """Ask for leave for one call.

        Args:
            now_s: Monotonic seconds.

        Returns:
            To be handed back to `done` or `cancelled`; None: the call may not go.
        """
        state = self.state(now_s)
        if state is BreakerState.CLOSED:
            return Permit(self._generation)
        if state is not BreakerState.HALF_OPEN:
            return None
        # A probe that nobody reported on has lost its say: its permit is of an older generation now.
        self._generation += 1
        self._probe_until_s = now_s + self._options.probe_timeout_s
        return Permit(self._generation, probe=True)

    def done(self, permit: Permit, now_s: float, *, ok: bool, took_s: float, dice: float) -> None:
        """Report what became of a call.

        Args:
            permit: Of the call.
            now_s: Monotonic seconds, when it ended.
            ok: Whether the cloud did its part; an answer that says the request was wrong is one.
            took_s: How long it took.
            dice: Uniform in [0, 1); spreads devices whose breakers open together.
        """
        if permit.generation != self._generation:
            return
        slow = took_s > self._options.slow_s
        if permit.probe:
            self._decide(now_s, dice, good=ok and not slow)
            return
        self._calls.append(_Call(now_s, not ok, slow))
        self._failures += not ok
        self._slow += slow
        self._forget(now_s)
        count, options = len(self._calls), self._options
        if count >= options.minimum_calls and (
            self._failures >= options.failure_rate * count or self._slow >= options.slow_rate * count
        ):
            self.times_opened += 1
            self._failed_probes = 0
            self._open(now_s, dice)

    def cancelled(self, permit: Permit) -> None:
        """Report that a call was given up before it said anything about the cloud; a probe may go again."""
        if permit.probe and permit.generation == self._generation:
            self._generation += 1
            self._probe_until_s = None

    def _decide(self, now_s: float, dice: float, *, good: bool) -> None:
        if not good:
            self._failed_probes += 1
            self._open(now_s, dice)
            return
        self._generation += 1
        self._failed_probes = 0
        self._open_until_s = self._probe_until_s = None

    def _open(self, now_s: float, dice: float) -> None:
        cooldown_s = min(
            self._options.longest_cooldown_s, self._options.cooldown_s * 2.0 ** min(self._failed_probes, 32)
        )
        self._generation += 1
        self._probe_until_s = None
        self._open_until_s = now_s + cooldown_s * (0.5 + dice / 2)
        self._calls.clear()
        self._failures = self._slow = 0

    def _forget(self, now_s: float) -> None:
        while self._calls and self._calls[0].at_s <= now_s - self._options.window_s:
            old = self._calls.popleft()
            self._failures -= old.failed
            self._slow -= old.slow


@dataclass(frozen=True, slots=True)
class _Call:
    at_s: float
    failed: bool
    slow: bool
