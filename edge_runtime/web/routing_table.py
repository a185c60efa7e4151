"""Which handler answers which method and path.

Knows no handler of its own, and no HTTP beyond methods and paths.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.protocol.json_document import Document
from edge_runtime.web.exchange import Reply, Stream

_NAME = "{"
_MOST_FOUND, _LONGEST_FOUND = 512, 256
Handler = Callable[..., Awaitable[Reply | Stream]]


@dataclass(frozen=True, slots=True)
class Way:
    """A route of the door.

    Args:
        method: `GET` or `POST`.
        path: With `{names}` for what is handed to the handler.
        handler: Called with the exchange and those parts of the path.
        summary: A sentence for the OpenAPI document.
        tag: Its group there.
        body: Schema of its JSON body; None: it takes none.
        answer: Schema of its answer.
        needs_token: False for what a load balancer asks.
        openai: Whether errors have OpenAI's form.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    body: Document | None = None
    answer: Document = field(default_factory=dict[str, Any])
    needs_token: bool = True
    openai: bool = False


class Table:
    """All routes, found by the length and the end of a path.

    Args:
        ways: Of several that fit, those whose last part is a word count before those where it is a name.
    """

    def __init__(self, ways: Sequence[Way]) -> None:
        self.ways = tuple(ways)
        self._found: dict[tuple[str, str], tuple[Way, list[str]]] = {}
        self._index: dict[tuple[int, str], list[tuple[tuple[str, ...], Way]]] = {}
        for way in ways:
            parts = tuple(way.path.split("/")[1:])
            end = _NAME if parts[-1].startswith(_NAME) else parts[-1]
            self._index.setdefault((len(parts), end), []).append((parts, way))

    def find(self, method: str, path: str) -> tuple[Way, list[str]] | frozenset[str]:
        """Find who answers.

        Returns:
            The route and the named parts of the path; or the methods that the path has, none if there is no
            such path.
        """
        known = self._found.get((method, path))
        if known is not None:
            return known
        found = self._look(method, path)
        if not isinstance(found, frozenset):
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            if len(path) <= _LONGEST_FOUND:  # callers write paths
                self._found[method, path] = found
        return found

    def _look(self, method: str, path: str) -> tuple[Way, list[str]] | frozenset[str]:
        parts = path.split("/")[1:]
        wanted = "GET" if method == "HEAD" else method
        methods: set[str] = set()
        for end in (parts[-1] if parts else "", _NAME):
            for pattern, way in self._index.get((len(parts), end), ()):
                names = _match(pattern, parts)
                if names is None:
                    continue
                if way.method == wanted:
                    return way, names
                methods.add(way.method)
        return frozenset(methods)


def _match(pattern: tuple[str, ...], parts: list[str]) -> list[str] | None:
    names: list[str] = []
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith(_NAME):
            if not part:
                return None
            names.append(part)
        elif wanted != part:
            return None
    return names
