"""A link to a cloud in any weather, and a device behind it, over hours of virtual time.

The link is what the network and the cloud do; the device drives the pure parts of the router as its shell
does, with virtual time and thrown dice. Nothing here waits, so a day passes in a second.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import count

from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.routing.breaker import Breaker, BreakerOptions, BreakerState
from edge_runtime.routing.budget import HourlyBudget
from edge_runtime.routing.facts import AnswerFacts, CloudFacts, Facts, LocalFacts
from edge_runtime.routing.hedge import HedgeBudget, hedge_after_s
from edge_runtime.routing.latency import LatencyWindow, LocalPredictor
from edge_runtime.routing.policy import Action, Policy, choose, fall_back, judge
from edge_runtime.routing.reachability import Reachability, ReachabilityOptions, is_ours
from edge_runtime.routing.retry import MEANINGS, Failure, RetryOptions, Whose, retry_after_s

Steps = Generator[float, None, None]
"""What happens one after the other; each value is a time to wait in seconds."""


class Weather(Enum):
    """How the link and the cloud behind it are."""

    FAIR = auto()
    """60 ms, and one request of twenty stalls for 1.5 s."""
    SLOW = auto()
    """Answers take longer than anybody waits."""
    LOSSY = auto()
    """Three of ten connections break, half of them after the cloud has done its work."""
    FLAPPING = auto()
    """Seven seconds there, seven seconds gone."""
    CAPTIVE = auto()
    """Somebody's login page answers everything with 200."""
    DEAD = auto()
    """A half-open socket: everything is swallowed."""
    SICK = auto()
    """The cloud is there and answers 503."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a call: how long it takes, how it fails, and whether the cloud did its work."""

    took_s: float
    failure: Failure | None
    arrived: bool


@dataclass
class Link:
    """The network with the cloud at its end; notes everything that is sent into it."""

    weather: list[tuple[float, Weather]]
    dice: random.Random
    sent: list[frozenset[DataClass]] = field(default_factory=list)
    calls_in: Counter[Weather] = field(default_factory=Counter)
    probes_in: Counter[Weather] = field(default_factory=Counter)
    applied: Counter[str] = field(default_factory=Counter)

    def now(self, now_s: float) -> Weather:
        return next(each for until_s, each in self.weather if now_s < until_s)

    def up(self, now_s: float) -> bool:
        weather = self.now(now_s)
        return weather is not Weather.DEAD and not (weather is Weather.FLAPPING and now_s % 14 < 7)

    def call(self, key: str, data: frozenset[DataClass], now_s: float, timeout_s: float) -> Outcome:
        """Send a request into whatever the weather is."""
        self.sent.append(data)
        weather = self.now(now_s)
        self.calls_in[weather] += 1
        outcome = self._outcome(weather, now_s)
        if outcome.took_s > timeout_s:
            outcome = Outcome(timeout_s, Failure.TIMEOUT, outcome.arrived)
        if outcome.arrived:
            # The cloud knows the key of a request: the second one changes nothing.
            self.applied[key] |= 1
        return outcome

    def probe(self, nonce: str, now_s: float) -> tuple[float, bool]:
        """Send a probe; how long it takes and whether it was answered by the cloud."""
        weather = self.now(now_s)
        self.probes_in[weather] += 1
        if not self.up(now_s):
            return 3.0, False
        echoed = None if weather is Weather.CAPTIVE else nonce
        return 0.1, is_ours(200, echoed, nonce)

    def _outcome(self, weather: Weather, now_s: float) -> Outcome:
        throw = self.dice.random()
        quick_s = 0.05 + 0.02 * self.dice.random()
        if not self.up(now_s):
            return Outcome(math.inf, Failure.TIMEOUT, False)
        match weather:
            case Weather.SLOW:
                return Outcome(8 + 8 * throw, None, True)
            case Weather.LOSSY if throw < 0.3:
                return Outcome(quick_s, Failure.CUT, throw < 0.15)
            case Weather.CAPTIVE:
                return Outcome(quick_s, Failure.NOT_OURS, False)
            case Weather.SICK:
                return Outcome(quick_s, Failure.OVERLOADED, False)
            case Weather.FAIR if throw < 0.05:
                return Outcome(1.5, None, True)
            case _:
                return Outcome(quick_s, None, True)


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended: its decision, when, and whether there was an answer."""

    decision: Decision
    took_s: float


class Device:
    """A device with a small model, a policy, and a link; asked something every now and then."""

    def __init__(self, policy: Policy, link: Link, *, seed: int = 1, bytes_per_hour: float = math.inf):
        self.policy = policy
        self.link = link
        self.dice = random.Random(seed)
        self.now_s = 0.0
        self.breaker = Breaker(BreakerOptions(slow_s=3.0, probe_timeout_s=10.0))
        self.reach = Reachability(ReachabilityOptions(), 0.0, self.dice.random())
        self.latency = LatencyWindow()
        self.predictor = LocalPredictor()
        self.hedges = HedgeBudget()
        self.budget = HourlyBudget(bytes_per_hour)
        self.local: LocalFacts | None = LocalFacts(peak_bytes=1, budget_bytes=1)
        self.never: frozenset[DataClass] = policy.never_leave
        self.escalated_s = -math.inf
        self.asked: list[str] = []
        self.ends: dict[str, End] = {}
        self.outbox: dict[str, Facts] = {}
        self.first_calls = self.half_open_calls = 0
        self._events: list[tuple[float, int, Steps]] = []
        self._order = count()
        self._start(self._probes(), 0.0)
        self._start(self._drain(), 5.0)

    def ask(self, at_s: float, data: frozenset[DataClass], *, timeout_s: float = 5.0) -> None:
        """Ask something at a moment."""
        key = f"r{len(self.asked)}"
        self.asked.append(key)
        self._start(self._request(key, data, timeout_s), at_s)

    def run(self, until_s: float) -> None:
        """Let virtual time pass."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, steps = heapq.heappop(self._events)
            wait_s = next(steps, None)
            if wait_s is not None:
                self._start(steps, self.now_s + wait_s)

    def _start(self, steps: Steps, at_s: float) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), steps))

    def _facts(self, data: frozenset[DataClass], until_s: float) -> Facts:
        now_s = self.now_s
        local = self.local and replace(self.local, predicted_ms=self.predictor.predict_ms("v", 0, now_s))
        cloud = CloudFacts(
            self.reach.online,
            self.breaker.state(now_s),
            self.latency.quantile_ms(0.5, now_s),
            self.latency.quantile_ms(0.95, now_s, at_least=20),
            bytes_left=self.budget.left(now_s),
        )
        return Facts(
            local, cloud, data,
            request_bytes=1000, deadline_left_s=until_s - now_s,
            since_escalation_s=now_s - self.escalated_s, dice=self.dice.random(),
        )  # fmt: skip

    def _request(self, key: str, data: frozenset[DataClass], timeout_s: float) -> Steps:
        began_s, until_s = self.now_s, self.now_s + timeout_s
        decision = choose(self.policy, self._facts(data, until_s))
        here = decision.route is Route.LOCAL
        if here:
            yield 0.02
            self.predictor.add("v", 20.0, self.now_s)
            facts = self._facts(data, until_s)
            verdict = judge(self.policy, facts, AnswerFacts(decision, self.dice.random()))
            decision = verdict.decision
            if verdict.action in {Action.ESCALATE_LATER, Action.AUDIT}:
                self.outbox[key] = facts
            if verdict.action is not Action.KEEP:
                self.escalated_s = self.now_s
        if decision.route is Route.CLOUD:
            failure = yield from self._cloud(key, data, until_s, decision)
            if failure is not None:
                facts = self._facts(data, until_s)
                decision = fall_back(self.policy, facts, Route.CLOUD, failure, answered=here)
                if decision.route is Route.LOCAL and not here:
                    yield 0.02
        self.ends[key] = End(decision, self.now_s - began_s)

    def _cloud(
        self, key: str, data: frozenset[DataClass], until_s: float, decision: Decision
    ) -> Generator[float, None, str | None]:
        """Ask the cloud, again where it is worth it; what went wrong in the end, or None."""
        attempt = 0
        while True:
            failure = yield from self._attempt(key, data, until_s, decision)
            if failure is None or not isinstance(failure, Failure):
                return failure
            typical_ms = self.latency.quantile_ms(0.5, self.now_s) or 0.0
            wait_s = retry_after_s(
                failure, attempt, options=RetryOptions(), keyed=True, left_s=until_s - self.now_s,
                dice=self.dice.random(), typical_s=typical_ms / 1000,
            )  # fmt: skip
            if wait_s is None:
                return str(failure)
            attempt += 1
            yield wait_s

    def _attempt(
        self, key: str, data: frozenset[DataClass], until_s: float, decision: Decision
    ) -> Generator[float, None, Failure | str | None]:
        facts = self._facts(data, until_s)
        half_open = self.breaker.state(self.now_s) is BreakerState.HALF_OPEN
        permit = self.breaker.acquire(self.now_s)
        if permit is None:
            return "breaker open"
        if not self.budget.take(facts.request_bytes, self.now_s):
            self.breaker.cancelled(permit)
            return "budget"
        began_s, left_s = self.now_s, until_s - self.now_s
        self.half_open_calls += half_open
        self.first_calls += 1
        self.hedges.earn()
        outcome = self.link.call(key, data, began_s, left_s)
        after_s = hedge_after_s(self.policy, facts, decision)
        if after_s is not None and outcome.took_s > after_s:
            yield after_s
            if self.hedges.spend() and self.budget.take(facts.request_bytes, self.now_s):
                second = self.link.call(key, data, self.now_s, until_s - self.now_s)
                taken_s = after_s + second.took_s
                if second.failure is None and taken_s < outcome.took_s:
                    outcome = Outcome(taken_s, None, True)
            yield outcome.took_s - after_s
        else:
            yield outcome.took_s
        meaning = outcome.failure and MEANINGS[outcome.failure]
        took_s = self.now_s - began_s
        ok = meaning is None or meaning.opens is Whose.NOBODY
        self.breaker.done(permit, self.now_s, ok=ok, took_s=took_s, dice=self.dice.random())
        reached = meaning is None or not meaning.offline
        self.reach.heard(self.now_s, reached=reached, dice=self.dice.random())
        if ok:
            self.latency.add(took_s * 1000, self.now_s)
        return outcome.failure

    def _probes(self) -> Steps:
        for number in count():
            yield max(0.0, self.reach.wake_at() - self.now_s)
            if self.now_s < self.reach.wake_at():
                continue
            self.reach.probing(self.now_s, self.dice.random())
            took_s, ours = self.link.probe(str(number), self.now_s)
            yield took_s
            self.reach.heard(self.now_s, reached=ours, dice=self.dice.random())

    def _drain(self) -> Steps:
        """Send what is owed, in order, while the cloud can be reached; a key leaves when it has arrived."""
        later = Decision(Route.CLOUD, Reason.LOW_CONFIDENCE)
        while True:
            while self.outbox and self.reach.online:
                key, facts = next(iter(self.outbox.items()))
                failure = yield from self._cloud(key, facts.data, self.now_s + 5.0, later)
                if failure is not None:
                    break
                del self.outbox[key]
            yield 5.0
