"""Counts what was answered, by model and version, for v2's statistics. Measures nothing itself."""

import time
from dataclasses import dataclass

from edge_runtime.protocol.json_document import Document

_MOST = 1000


@dataclass(slots=True)
class _Counts:
    good: int = 0
    good_ns: int = 0
    bad: int = 0
    bad_ns: int = 0
    last_ms: int = 0


class Tally:
    """Counts of the models that were asked. Belongs to one event loop."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Counts] = {}

    def add(self, model: str, version: str, spent_ns: int, *, ok: bool) -> None:
        """Count a request.

        Args:
            model: That exists.
            version: Of it.
            spent_ns: From its body to its answer.
            ok: Whether it was answered.
        """
        counts = self._counts.get((model, version))
        if counts is None:
            if len(self._counts) >= _MOST:  # a server that changes versions for years
                del self._counts[next(iter(self._counts))]
            counts = self._counts[model, version] = _Counts()
        if ok:
            counts.good += 1
            counts.good_ns += spent_ns
            counts.last_ms = time.time_ns() // 1_000_000
        else:
            counts.bad += 1
            counts.bad_ns += spent_ns

    def document(self, model: str | None, version: str | None) -> list[Document]:
        """Write the counts of one model or version, or of all, as v2's statistics have them."""
        return [
            {
                "name": name,
                "version": of,
                "last_inference": counts.last_ms,
                "inference_count": counts.good,
                "execution_count": counts.good,
                "inference_stats": {
                    "success": {"count": counts.good, "ns": counts.good_ns},
                    "fail": {"count": counts.bad, "ns": counts.bad_ns},
                },
            }
            for (name, of), counts in sorted(self._counts.items())
            if model in {None, name} and version in {None, of}
        ]
