"""Pace: how many letters go at once, how long to wait after a failure, and when to give one up. Pure.

Sends nothing and knows no server: errors come in, steps go out.
"""

from dataclasses import dataclass

from edge_runtime.contract.errors import OverloadedError, RemoteError


class RejectedError(RemoteError):
    """A server read what it was sent and will never take it: the letters are wrong, not the way there.

    Args:
        problem: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: As for `EdgeRuntimeError`.
    """

    def __init__(self, problem: str, *, got: str | None = None, do: str | None = None) -> None:
        super().__init__(problem, retryable=False, got=got, do=do)


@dataclass(frozen=True, slots=True)
class PaceOptions:
    """How patient to be with a server.

    Args:
        batch: Letters in one go, at most.
        first_s: Wait after a failure; doubles with every further one, half of it left to the dice.
        longest_s: It does not double further than this.
        refused_s: Wait where trying again cannot help before somebody changes something.
        asked_longest_s: A server that asks for a longer pause is asked again after this one.
        tries: Times a letter is sent that the server rejects.
    """

    batch: int = 100
    first_s: float = 1.0
    longest_s: float = 60.0
    refused_s: float = 30.0
    asked_longest_s: float = 3600.0
    tries: int = 3


@dataclass(frozen=True, slots=True)
class Step:
    """What to do after a failure.

    Args:
        pause_s: How long to wait.
        give_up: Set the one letter aside that was sent, and go on with the next.
    """

    pause_s: float
    give_up: bool = False


class Pace:
    """Remembers how it went. A batch that is rejected is sent letter by letter: only the wrong one is lost.

    Args:
        options: How patient to be.
    """

    def __init__(self, options: PaceOptions) -> None:
        self._options = options
        self._failures = 0
        self._rejections = 0
        self._alone = 0

    @property
    def size(self) -> int:
        """Letters to send in one go now, at most."""
        return 1 if self._alone else self._options.batch

    def delivered(self, count: int) -> None:
        """Take in that a server acknowledged so many letters."""
        self._failures = 0
        self._rejections = 0
        self._alone = max(0, self._alone - count)

    def failed(self, error: RemoteError, count: int, dice: float) -> Step:
        """Say what to do after so many letters were not acknowledged.

        Args:
            error: Why.
            count: Letters that were sent.
            dice: Uniform in [0, 1); spreads stores that failed together.
        """
        if isinstance(error, RejectedError):
            return self._rejected(count, dice)
        if not error.retryable:
            return Step(self._options.refused_s)
        pause_s = self._backoff(self._failures, dice)
        self._failures += 1
        if isinstance(error, OverloadedError):
            pause_s = max(pause_s, min(error.retry_after_s, self._options.asked_longest_s))
        return Step(pause_s)

    def _rejected(self, count: int, dice: float) -> Step:
        if count > 1:
            self._alone = count
            return Step(0.0)
        self._rejections += 1
        if self._rejections < self._options.tries:
            return Step(self._backoff(self._rejections - 1, dice))
        self.delivered(1)
        return Step(0.0, give_up=True)

    def _backoff(self, failures: int, dice: float) -> float:
        longest = min(self._options.longest_s, self._options.first_s * 2.0 ** min(failures, 16))
        return longest * (0.5 + dice / 2)
