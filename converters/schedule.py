"""Schedule: which step may start next, and which ones never will. Pure; the runner does the work.

Steps start in the order of the plan, as far as their needs let them. A step that failed takes along all that
need it, directly or not, and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converters.step import Step
from edge_runtime.contract.errors import ConversionError


@dataclass(frozen=True, slots=True)
class Lost:
    """A step that will not be run.

    Args:
        id: The step.
        because: The id of the step that failed.
    """

    id: str
    because: str


class Schedule:
    """What is left to do of a graph of steps.

    Args:
        steps: The graph.

    Raises:
        ConversionError: Two steps have one id, a step needs one that is not there, an input has two sources,
            or steps need each other in a circle.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        _check(steps)
        self._waiting: dict[str, set[str]] = {step.id: set(step.needs.values()) for step in steps}
        self._running: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether every step was finished or lost."""
        return not self._waiting and not self._running

    def take(self) -> str | None:
        """Take the first step whose needs are met; None when there is none now. `finish` must follow."""
        ready = next((name for name, needs in self._waiting.items() if not needs), None)
        if ready is not None:
            del self._waiting[ready]
            self._running.add(ready)
        return ready

    def finish(self, name: str, *, succeeded: bool) -> tuple[Lost, ...]:
        """Hand in a step that `take` gave.

        Returns:
            The steps lost with it, in the order of the plan; none where it succeeded.
        """
        self._running.remove(name)
        if succeeded:
            for needs in self._waiting.values():
                needs.discard(name)
            return ()
        gone = {name}
        while more := {other for other, needs in self._waiting.items() if needs & gone} - gone:
            gone |= more
        lost = tuple(Lost(other, name) for other in self._waiting if other in gone)
        self._waiting = {other: needs for other, needs in self._waiting.items() if other not in gone}
        return lost


def _check(steps: Sequence[Step]) -> None:
    needs: Mapping[str, set[str]] = {step.id: set(step.needs.values()) for step in steps}
    if len(needs) != len(steps):
        ids = [step.id for step in steps]
        double = next(name for name in ids if ids.count(name) > 1)
        raise ConversionError(f"step '{double}' is in the plan {ids.count(double)} times", step=double)
    for step in steps:
        missing = next((name for name in step.needs.values() if name not in needs), None)
        if missing is not None:
            raise ConversionError(
                f"step '{step.id}' needs '{missing}', which is not in the plan", step=step.id
            )
        both = next((name for name in step.needs if name in step.files), None)
        if both is not None:
            raise ConversionError(
                f"step '{step.id}': input '{both}' is both a step's and a file", step=step.id
            )
    left = {name: set(wanted) for name, wanted in needs.items()}
    while free := {name for name, wanted in left.items() if not wanted}:
        left = {name: wanted - free for name, wanted in left.items() if name not in free}
    if left:
        circle = _circle(left)
        raise ConversionError(f"steps need each other in a circle: {' -> '.join(circle)}", step=circle[0])


def _circle(needs: Mapping[str, set[str]]) -> list[str]:
    """Walk along needs, each of which has one, until a step comes again."""
    path = [min(needs)]
    while path[-1] not in path[:-1]:
        path.append(min(name for name in needs[path[-1]] if name in needs))
    return path[path.index(path[-1]) :]
