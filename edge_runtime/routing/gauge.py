"""CloudGauge: how the cloud has been doing, as every request and probe found it, and whether to ask it now.

Puts the pure cores (breaker, reachability, budgets, latencies, hedges) behind one lock, with a clock and
dice. Sends nothing itself.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_runtime.routing.breaker import BreakerOptions, BreakerState
from edge_runtime.routing.breakers import Breakers, Leave
from edge_runtime.routing.budget import HourlyBudget
from edge_runtime.routing.facts import CloudFacts
from edge_runtime.routing.hedge import HedgeBudget
from edge_runtime.routing.latency import LatencyWindow
from edge_runtime.routing.reachability import Reachability, ReachabilityOptions
from edge_runtime.routing.retry import MEANINGS, Failure, Whose

_ENOUGH = 20
"""Calls before a p95 means anything."""

_CALLS_KEPT = 1024
"""Of a model: with fewer, the p95 wavers, and second calls go out beside first ones that are not slow."""

_HEDGES_SAVED = 20
"""Stalls come in clusters: with fewer saved up, the budget is empty in the middle of one."""

_PATIENCE_S = 1.0
"""Who waited less and got nothing does not say that the cloud is away."""


@dataclass(frozen=True, slots=True)
class GaugeStatus:
    """The cloud, as it was found.

    Args:
        online: Whether it can be reached.
        breaker: Of the endpoint's circuit breaker.
        calls: Made, retries and hedges included.
        failures: Of them.
        hedges: Second calls beside a slow first one.
        p50_ms: Median of the last minutes, by model.
        bytes_left: Of the hour's budget; None: no limit.
        tokens_left: Likewise.
        switches: How often it came and went.
        breaker_opened: How often a breaker opened, the endpoint's or a model's.
        model_breakers: Of the models whose own breakers are not closed.
    """

    online: bool
    breaker: BreakerState
    calls: int
    failures: int
    hedges: int
    p50_ms: Mapping[str, float]
    bytes_left: float | None
    tokens_left: float | None
    switches: int
    breaker_opened: int
    model_breakers: Mapping[str, BreakerState]


class CloudGauge:
    """Takes in results and gives facts. Safe to share between threads; a call takes microseconds.

    Args:
        probe_every_s: Between probes while nothing else tells.
        bytes_per_hour: That requests may take; None: no limit.
        tokens_per_hour: Likewise.
        breaker: When a breaker opens.
        clock: Monotonic seconds.
        dice: Uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        probe_every_s: float = 15.0,
        bytes_per_hour: float | None = None,
        tokens_per_hour: float | None = None,
        breaker: BreakerOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._dice = dice
        self._lock = threading.Lock()
        self._breakers = Breakers(breaker)
        options = ReachabilityOptions(probe_every_s=probe_every_s)
        self._reach = Reachability(options, clock(), dice())
        self._latencies: dict[str, LatencyWindow] = {}
        self._bytes = None if bytes_per_hour is None else HourlyBudget(bytes_per_hour)
        self._tokens = None if tokens_per_hour is None else HourlyBudget(tokens_per_hour)
        self._hedges = HedgeBudget(most=_HEDGES_SAVED)
        self._calls = 0
        self._failures = 0

    @property
    def online(self) -> bool:
        """Whether the cloud can be reached, as far as is known."""
        return self._reach.online

    def facts(self, model: str) -> CloudFacts:
        """Say how the cloud is doing now, for a decision.

        Args:
            model: Whose, as the cloud calls it.
        """
        now_s = self._clock()
        with self._lock:
            latency = self._latencies.get(model)
            return CloudFacts(
                reachable=self._reach.online,
                breaker=self._breakers.state(model, now_s),
                p50_ms=latency and latency.quantile_ms(0.5, now_s),
                p95_ms=latency and latency.quantile_ms(0.95, now_s, at_least=_ENOUGH),
                tokens_left=None if self._tokens is None else self._tokens.left(now_s),
                bytes_left=None if self._bytes is None else self._bytes.left(now_s),
            )

    def acquire(self, model: str, size_bytes: int, tokens: int) -> Leave | None:
        """Ask for leave for one call, and pay for it.

        Args:
            model: As the cloud calls it.
            size_bytes: That it takes.
            tokens: That it takes, estimated.

        Returns:
            To be handed to `done` or `cancelled`; None: it may not go.
        """
        now_s = self._clock()
        with self._lock:
            short = any(
                budget is not None and budget.left(now_s) < amount
                for budget, amount in ((self._bytes, size_bytes), (self._tokens, tokens))
            )
            leave = None if short else self._breakers.acquire(model, now_s)
            if leave is not None:
                self._calls += 1
                self._charge(size_bytes, tokens, now_s)
            return leave

    def shuts_out(self, model: str) -> bool:
        """Say whether a model's own breaker is what keeps calls from going; others may go."""
        now_s = self._clock()
        with self._lock:
            shut = {BreakerState.OPEN, BreakerState.PROBING}
            return self._breakers.endpoint(now_s) not in shut and self._breakers.state(model, now_s) in shut

    def charge(self, size_bytes: int, tokens: int) -> None:
        """Pay for what has been spent already: an answer's tokens, a second call."""
        with self._lock:
            self._charge(size_bytes, tokens, self._clock())

    def done(self, leave: Leave, began_s: float, failure: Failure | None, *, tells: bool = True) -> None:
        """Report what became of a call.

        Args:
            leave: Of the call.
            began_s: Monotonic seconds.
            failure: What went wrong; None: nothing.
            tells: Whether it says how long the model takes.
        """
        now_s = self._clock()
        took_s = now_s - began_s
        meaning = None if failure is None else MEANINGS[failure]
        with self._lock:
            self._failures += meaning is not None and meaning.opens is not Whose.NOBODY
            self._breakers.done(leave, now_s, failure, took_s=took_s, dice=self._dice())
            if failure is not Failure.TIMEOUT or took_s >= _PATIENCE_S:
                # A caller in a hurry says nothing about the network.
                reached = meaning is None or not meaning.offline
                self._reach.heard(now_s, reached=reached, dice=self._dice())
            if tells and failure in {None, Failure.TIMEOUT}:
                # What was given up took at least as long; leaving it out would make a slow cloud look fast.
                window = self._latencies.setdefault(leave.name, LatencyWindow(most=_CALLS_KEPT))
                window.add(took_s * 1000, now_s)

    def cancelled(self, leave: Leave) -> None:
        """Report that a call was given up before it said anything about the cloud."""
        with self._lock:
            self._breakers.cancelled(leave)

    def earn_hedge(self) -> None:
        """Count a first call, which earns a share of a second one."""
        with self._lock:
            self._hedges.earn()

    def spend_hedge(self, model: str, size_bytes: int, tokens: int) -> bool:
        """Ask for leave for a second call beside a slow first one, and pay for it."""
        now_s = self._clock()
        with self._lock:
            if self._breakers.state(model, now_s) is not BreakerState.CLOSED or not self._hedges.spend():
                return False
            self._calls += 1
            self._charge(size_bytes, tokens, now_s)
            return True

    def probe_due_s(self) -> float:
        """Say in how many seconds a probe is due; 0 or less: now."""
        with self._lock:
            return self._reach.wake_at() - self._clock()

    def probing(self) -> None:
        """Note that a probe is sent now."""
        with self._lock:
            self._reach.probing(self._clock(), self._dice())

    def probed(self, *, reached: bool) -> None:
        """Take in a probe's result."""
        with self._lock:
            self._reach.heard(self._clock(), reached=reached, dice=self._dice())

    def status(self) -> GaugeStatus:
        """Say how the cloud is doing, for a person."""
        now_s = self._clock()
        with self._lock:
            medians = {name: window.quantile_ms(0.5, now_s) for name, window in self._latencies.items()}
            return GaugeStatus(
                online=self._reach.online,
                breaker=self._breakers.endpoint(now_s),
                calls=self._calls,
                failures=self._failures,
                hedges=self._hedges.sent,
                p50_ms={name: median for name, median in medians.items() if median is not None},
                bytes_left=None if self._bytes is None else self._bytes.left(now_s),
                tokens_left=None if self._tokens is None else self._tokens.left(now_s),
                switches=self._reach.changes,
                breaker_opened=self._breakers.times_opened,
                model_breakers=self._breakers.models(now_s),
            )

    def _charge(self, size_bytes: int, tokens: int, now_s: float) -> None:
        if self._bytes is not None:
            self._bytes.charge(size_bytes, now_s)
        if self._tokens is not None:
            self._tokens.charge(tokens, now_s)
