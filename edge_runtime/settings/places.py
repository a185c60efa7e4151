"""Whether two sinks would send to one place, and share what they owe it. Opens nothing."""

from collections.abc import Iterable, Iterator

from edge_runtime.settings.outgoing import OutgoingSinkSettings
from edge_runtime.settings.problems import Problem


def shared_places(sinks: Iterable[object]) -> Iterator[Problem]:
    """Find sinks that would send to a place where another one sends already."""
    taken: dict[tuple[str, ...], int] = {}
    for index, sink in enumerate(sinks):
        if isinstance(sink, OutgoingSinkSettings):
            first = taken.setdefault(sink.place, index)
            if first != index:
                problem = f"sinks[{first}] sends there already"
                yield Problem(
                    ("sinks", index), problem, do="Name each place once; a sink may have all events."
                )
