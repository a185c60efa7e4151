"""In a rush, what would be refused anyway is refused before its body is read: refusals must not cost answers.

Remembers a model's refusal for the moment in which nothing can have changed. Pure: `now` comes in. Refuses
nothing by itself; a batcher's refusal comes first.
"""

import math
from dataclasses import dataclass

from edge_runtime.contract.errors import OverloadedError

MOMENT_S = 0.01
"""A refusal says nothing of later than this, whatever time it named: callers may have gone away meanwhile."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: OverloadedError
    until_s: float
    timeout_s: float
    priority: int


class Rush:
    """The latest refusals, by what was asked."""

    def __init__(self) -> None:
        self._refusals: dict[str, _Refusal] = {}

    def refused(
        self, asked: str, error: OverloadedError, *, timeout_s: float | None, priority: int, now_s: float
    ) -> None:
        """Remember a refusal.

        Args:
            asked: The model, and the version if one was named.
            error: How it was refused.
            timeout_s: Time that the request had; None: any, and so its refusal says nothing of others.
            priority: Of the request; 0 is the highest.
            now_s: Monotonic seconds.
        """
        if timeout_s is not None:
            until_s = now_s + min(error.retry_after_s, MOMENT_S)
            self._refusals[asked] = _Refusal(error, until_s, timeout_s, priority)

    def knows(self, asked: str) -> bool:
        """Tell whether there was a refusal that `check` has to look at."""
        return asked in self._refusals

    def check(self, asked: str, *, timeout_s: float | None, priority: int, now_s: float) -> None:
        """Refuse a request that has no more time and is no more urgent than one that was just refused.

        Args:
            asked: The model, and the version if one was named.
            timeout_s: Time that the request has; None: any.
            priority: Of it.
            now_s: Monotonic seconds.

        Raises:
            OverloadedError: As the earlier one.
        """
        last = self._refusals.get(asked)
        if last is None:
            return
        if now_s >= last.until_s:
            del self._refusals[asked]
        elif priority >= last.priority and (math.inf if timeout_s is None else timeout_s) <= last.timeout_s:
            raise OverloadedError(
                last.error.problem, retry_after_s=last.error.retry_after_s, got=last.error.got
            )
