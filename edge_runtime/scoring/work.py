"""The work of a job: inputs with the rows that are left of them, and the seam to what does it.

Answers nothing itself: `local` does it in this process, other ways come as entry points.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Protocol

from edge_runtime.contract.device import Decoding
from edge_runtime.contract.errors import ConfigError
from edge_runtime.scoring.columns import Cells
from edge_runtime.scoring.inputs import Source
from edge_runtime.scoring.model import Asked, Scorer
from edge_runtime.scoring.plan import Gap

WAYS = "edge_runtime.scoring"
"""Entry points of other packages that do a job elsewhere, each a `Way`: this package knows no cluster."""
LOCAL = "local"
SHARE = "_share"
"""Of a row on its way: the share of its input that is read, in [0, 1]. Not written."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An input that is not done.

    Args:
        source: The file.
        left: Its rows that are not done.
    """

    source: Source
    left: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """All there is to do.

    Args:
        pending: Gives what is left, once.
        scorer: The model, open.
        asked: How to open it elsewhere.
        decoding: How to decode.
        fps: Frames a second of recordings; None: all.
        column: Of tables; None: the usual one.
        large: Whether it pays to measure the model first.
    """

    pending: Callable[[], Iterator[Pending]]
    scorer: Scorer
    asked: Asked
    decoding: Decoding = field(default_factory=Decoding)
    fps: float | None = None
    column: str | None = None
    large: bool = False


class Way(Protocol):
    """Does the work somewhere."""

    def __call__(self, work: Work) -> Generator[list[Cells]]:
        """Answer everything that is pending.

        Args:
            work: What to do; `pending` may be read while rows are given.

        Returns:
            Rows with `LAST` and `SHARE`; those of one recording in their order, others in any.

        Raises:
            EdgeRuntimeError: The work cannot go on.
        """
        ...


def find_way(name: str, local: Way) -> Way:
    """Find what does the work.

    Args:
        name: `local`, or the name of an entry point.
        local: For `local`.

    Raises:
        ConfigError: There is none of that name here.
    """
    if name == LOCAL:
        return local
    found = {entry.name: entry for entry in entry_points(group=WAYS)}
    if name not in found:
        raise ConfigError("--on", expected=f"one of {', '.join([LOCAL, *sorted(found)])}", got=name)
    return found[name].load()
