"""Breakers: one circuit breaker for the cloud's endpoint, and one for each of its models.

A model that fails is left alone while the others go on; an endpoint that cannot be reached is left alone as a
whole. Pure: `now` and dice come in. Knows no failure by name: `retry` says whose breaker one counts for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.routing.breaker import Breaker, BreakerOptions, BreakerState, Permit
from edge_runtime.routing.retry import MEANINGS, Failure, Whose

_FIRST_TO_LAST = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.PROBING, BreakerState.OPEN)
"""From what lets everything through to what lets nothing."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave for one call: of both breakers that it passes.

    Args:
        endpoint: Of the endpoint's.
        model: Of the model's.
        name: The model, as the cloud calls it.
    """

    endpoint: Permit
    model: Permit
    name: str


class Breakers:
    """Decides which calls may go. Not thread-safe, as `Breaker`.

    Args:
        options: When each opens.
    """

    def __init__(self, options: BreakerOptions | None = None) -> None:
        self._options = options
        self._endpoint = Breaker(options)
        self._models: dict[str, Breaker] = {}

    @property
    def times_opened(self) -> int:
        """How often any of them opened."""
        return self._endpoint.times_opened + sum(one.times_opened for one in self._models.values())

    def endpoint(self, now_s: float) -> BreakerState:
        """Say whether the endpoint may be asked.

        Args:
            now_s: Monotonic seconds.
        """
        return self._endpoint.state(now_s)

    def models(self, now_s: float) -> Mapping[str, BreakerState]:
        """List the models whose own breakers are not closed.

        Args:
            now_s: Monotonic seconds.
        """
        states = {name: one.state(now_s) for name, one in self._models.items()}
        return {name: state for name, state in states.items() if state is not BreakerState.CLOSED}

    def state(self, model: str, now_s: float) -> BreakerState:
        """Say whether a model may be asked: of both breakers, what lets less through.

        Args:
            model: As the cloud calls it.
            now_s: Monotonic seconds.
        """
        one = self._models.get(model)
        states = (self._endpoint.state(now_s), BreakerState.CLOSED if one is None else one.state(now_s))
        return max(states, key=_FIRST_TO_LAST.index)

    def acquire(self, model: str, now_s: float) -> Leave | None:
        """Ask for leave for one call.

        Args:
            model: As the cloud calls it.
            now_s: Monotonic seconds.

        Returns:
            To be handed back to `done` or `cancelled`; None: the call may not go, and no probe was spent.
        """
        if self.state(model, now_s) in {BreakerState.OPEN, BreakerState.PROBING}:
            return None
        own = self._models.setdefault(model, Breaker(self._options)).acquire(now_s)
        whole = self._endpoint.acquire(now_s)
        return None if own is None or whole is None else Leave(whole, own, model)

    def done(
        self, leave: Leave, now_s: float, failure: Failure | None, *, took_s: float, dice: float
    ) -> None:
        """Report what became of a call.

        Args:
            leave: Of the call.
            now_s: Monotonic seconds, when it ended.
            failure: What went wrong; None: nothing.
            took_s: How long it took; a slow answer is the model's doing.
            dice: Uniform in [0, 1).
        """
        own = self._models[leave.name]
        meaning = None if failure is None else MEANINGS[failure]
        if meaning is not None and meaning.opens is Whose.ENDPOINT:
            self._endpoint.done(leave.endpoint, now_s, ok=False, took_s=took_s, dice=dice)
            own.cancelled(leave.model)  # nobody heard of the model
            return
        ok = meaning is None or meaning.opens is Whose.NOBODY
        own.done(leave.model, now_s, ok=ok, took_s=took_s, dice=dice)
        silent = meaning is not None and meaning.offline
        if not silent or leave.endpoint.probe:
            # Who answered is there, whatever it said. Who did not has failed its probe; it is nothing more.
            self._endpoint.done(leave.endpoint, now_s, ok=not silent, took_s=0.0, dice=dice)

    def cancelled(self, leave: Leave) -> None:
        """Report that a call was given up before it said anything about the cloud."""
        self._endpoint.cancelled(leave.endpoint)
        self._models[leave.name].cancelled(leave.model)
