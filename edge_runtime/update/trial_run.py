"""A model's trial: golden inputs, both versions in turns, then both on live inputs. Opens and closes nothing.

What is live keeps its pace: the trial looks at the newest input when it has time, and rests three times as
long as it worked. It judges only to end early; `edge_runtime.update.health` does.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from edge_runtime.contract.errors import EdgeRuntimeError, InputError
from edge_runtime.contract.fleet import Trial as Needs
from edge_runtime.contract.tensors import Tensors
from edge_runtime.tasks.rows import read_rows
from edge_runtime.update.health import judge
from edge_runtime.update.trial_golden import Difference, compare
from edge_runtime.update.trial_side import Side, not_finite
from edge_runtime.update.trial_tally import Tally

WARM_UP = 3
PAIRS = 40
"""Turns of both versions before a first look at their p95; below, one slow run of twenty would decide."""
ROUNDS = 3
"""So many times `PAIRS` before a version counts as too slow: load comes and goes."""
PAIRS_S = 20.0
"""Turns take no longer than this together, but there are always some."""
_LEAST_PAIRS = 3
_REST = 3.0
_POLL_S = 0.2


class Mirror:
    """Hands the newest live input over, to who has time; older ones are forgotten."""

    def __init__(self) -> None:
        self._there = threading.Condition()
        self._value: Any = None

    def put(self, value: Any) -> None:
        """Show an input; takes no time."""
        with self._there:
            self._value = value
            self._there.notify()

    def take(self, timeout_s: float) -> Any:
        """Wait for the newest input that was not taken yet; None: none came."""
        with self._there:
            self._there.wait_for(lambda: self._value is not None, timeout_s)
            value, self._value = self._value, None
            return value


class Live(Protocol):
    """Where live inputs come from; `Mirror` is one."""

    def take(self, timeout_s: float) -> Any:
        """Wait for the newest input that was not taken yet; None: none came."""
        ...


class Answers(Protocol):
    """Says whether two answers say the same."""

    def __call__(self, one: Any, other: Any, /) -> bool:
        """Compare."""
        ...


class ModelTrial:
    """One trial.

    Args:
        new: The candidate.
        old: What goes on answering; None: nothing does.
        live: Where live inputs come from.
        needs: What the deployment asks for.
        same: Compares answers.
        stop: Says whether to end; asked several times a second.
        clock: Seconds on a clock that never goes back.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        new: Side,
        old: Side | None,
        live: Live,
        *,
        needs: Needs,
        same: Answers,
        stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._new, self._old = new, old
        self._live = live
        self._needs = needs
        self._same = same
        self._stop = stop
        self._clock = clock
        self._sleep = sleep
        self.tally = Tally()

    def run(self) -> None:
        """Fill the tally; it is not whole where `stop` said so.

        Raises:
            BundleError: The golden files do not belong together.
            InputError: They cannot be read.
        """
        samples = self._golden()
        if self._unhealthy():
            return
        if self._old is not None:
            until_s = self._clock() + PAIRS_S
            for _ in range(ROUNDS):
                self._turns(samples, until_s)
                if self._stop() or not self._unhealthy() or self._clock() >= until_s:
                    break
        if not self._stop() and not self._unhealthy():
            self._shadow()

    def _unhealthy(self) -> bool:
        now = self._needs.model_copy(update={"min_agreement": 0.0})
        return judge(self.tally.evidence(), now) is not None

    def _golden(self) -> list[Any]:
        """Run the golden inputs; give them."""
        new, golden = self._new, self._new.bundle.manifest.golden
        raws = new.samples()
        answers: list[Tensors] = []
        for raw in raws:
            if self._stop():
                return raws
            try:
                answers.append(new.run(new.tensors(raw)[0]))
            except EdgeRuntimeError as error:
                self.tally.golden = len(raws)
                self.tally.difference = Difference(1, f"no answer: {error}")
                return raws
            self.tally.not_finite += not_finite(answers[-1])
        if golden is not None and not self.tally.not_finite:
            self.tally.golden = len(raws)
            wanted = read_rows(new.bundle.root / golden.outputs.path)
            self.tally.difference = compare(new, raws, answers, wanted).difference
        return raws

    def _turns(self, samples: list[Any], until_s: float) -> None:
        """Let both versions answer the same inputs, one after the other; machines drift."""
        for _ in range(0 if self.tally.new_ms or self._stop() else WARM_UP):
            self._pair(samples[0], counts=False)
        for number in range(PAIRS):
            enough = number >= _LEAST_PAIRS and self._clock() >= until_s
            if self._stop() or enough:
                return
            self._pair(samples[number % len(samples)], counts=True)

    def _shadow(self) -> None:
        until_s = self._clock() + self._needs.shadow_s
        while (left_s := until_s - self._clock()) > 0 and not self._stop():
            raw = self._live.take(min(left_s, _POLL_S))
            if raw is None:
                continue
            began_s = self._clock()
            self._look(raw)
            if self.tally.not_finite:
                return
            rest_s = self._clock() + _REST * (self._clock() - began_s)
            while (pause_s := min(rest_s, until_s) - self._clock()) > 0 and not self._stop():
                self._sleep(min(pause_s, _POLL_S))

    def _look(self, raw: Any) -> None:
        """Show one live input to both."""
        if self._old is not None:
            self._pair(raw, counts=True, live=True)
            return
        self.tally.calls += 1
        try:
            self._answer(self._new, raw)
        except EdgeRuntimeError:
            self.tally.errors += 1

    def _pair(self, raw: Any, *, counts: bool, live: bool = False) -> None:
        """Let both answer; who is first changes, so that neither has warmer caches."""
        old = self._old
        if old is None:
            return
        sides = (self._new, old) if len(self.tally.new_ms) % 2 else (old, self._new)
        found: dict[bool, tuple[Any, float] | EdgeRuntimeError] = {}
        for side in sides:
            try:
                found[side is old] = self._answer(side, raw)
            except EdgeRuntimeError as error:
                found[side is old] = error
        mine, theirs = found[False], found[True]
        if live and not (isinstance(mine, InputError) and isinstance(theirs, EdgeRuntimeError)):
            self.tally.calls += 1
            self.tally.errors += isinstance(mine, EdgeRuntimeError)
        if isinstance(mine, EdgeRuntimeError) or isinstance(theirs, EdgeRuntimeError):
            return
        if counts:
            self.tally.new_ms.append(mine[1])
            self.tally.old_ms.append(theirs[1])
        if live:
            self.tally.compared += 1
            self.tally.agreed += self._same(mine[0], theirs[0])

    def _answer(self, side: Side, raw: Any) -> tuple[Any, float]:
        """Answer one input as a camera or a request would; give the milliseconds too."""
        began_s = self._clock()
        tensors, undo = side.tensors(raw)
        outputs = side.run(tensors)
        wrong = not_finite(outputs)
        if side is self._new:
            self.tally.not_finite += wrong
        answer = side.task.postprocess(outputs, undo)
        return answer, (self._clock() - began_s) * 1e3
