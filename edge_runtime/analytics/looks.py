"""Looks: which tracked objects a second model looks at now, and what it has said of each. Pure.

A second model costs as much for every object as the first does for the whole picture, so it looks at few:
those it knows least about first, none before its crop is large enough, and no more than its budget a second
of source time. What it says of one object in several looks is summed up; one bad crop does not change a name.
Crops nothing and runs no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from edge_runtime.contract.result import Tracks

_MOST_SAVED_S = 1.0
"""Looks that were not taken are kept for this long, so that a crowd that comes in is looked at soon."""


@dataclass(frozen=True, slots=True)
class LookOptions:
    """When a second model looks.

    Args:
        labels: Only objects of these classes; empty: all.
        per_s: Looks a second at most, all objects together.
        every_s: An object is looked at again after this long.
        looks: Looks that agree before an object counts as known.
        min_px: Shorter side of an object's box; smaller ones are not looked at.
        min_score: What is said with less than this is not said.
    """

    labels: tuple[str, ...] = ()
    per_s: float = 5.0
    every_s: float = 1.0
    looks: int = 3
    min_px: int = 24
    min_score: float = 0.5


class Said(NamedTuple):
    """What a second model says of an object."""

    label: str
    score: float


@dataclass(slots=True)
class _Known:
    scores: dict[str, float] = field(default_factory=dict[str, float])
    count: int = 0
    looked_ns: int = -(1 << 62)
    seen_ns: int = 0


class Looks:
    """The objects of one camera, as a second model knows them.

    Args:
        options: When it looks.
        forget_after_s: An object not seen for longer is forgotten.
    """

    def __init__(self, options: LookOptions, *, forget_after_s: float = 10.0) -> None:
        self._options = options
        self._forget_ns = round(forget_after_s * 1e9)
        self._known: dict[int, _Known] = {}
        self._saved = 1.0
        self._pts_ns: int | None = None
        self._said: dict[int, Said] = {}

    @property
    def said(self) -> dict[int, Said]:
        """What is known, by track."""
        return self._said

    def due(self, tracks: Tracks, pts_ns: int) -> list[int]:
        """Choose what is looked at in this frame.

        Args:
            tracks: Objects in it.
            pts_ns: Source time; not before that of the last frame.

        Returns:
            Rows of `tracks`, the least known first.
        """
        options = self._options
        passed_s = 0.0 if self._pts_ns is None else (pts_ns - self._pts_ns) / 1e9
        self._pts_ns = pts_ns
        self._saved = min(self._saved + passed_s * options.per_s, max(1.0, _MOST_SAVED_S * options.per_s))
        waiting: list[tuple[int, int, int]] = []
        wanted = {index for index, label in enumerate(tracks.labels) if label in options.labels}
        sides = np.minimum(
            tracks.boxes[:, 2] - tracks.boxes[:, 0], tracks.boxes[:, 3] - tracks.boxes[:, 1]
        ).tolist()
        for row, (track, kind) in enumerate(zip(tracks.ids.tolist(), tracks.classes.tolist(), strict=True)):
            if options.labels and kind not in wanted:
                continue
            known = self._known.setdefault(track, _Known())
            known.seen_ns = pts_ns
            rest_s = options.every_s * (1 if known.count < options.looks else options.looks)
            if sides[row] >= options.min_px and pts_ns - known.looked_ns >= rest_s * 1e9:
                waiting.append((known.count, known.looked_ns, row))
        self._forget(pts_ns)
        chosen = [row for _, _, row in sorted(waiting)[: int(self._saved)]]
        self._saved -= len(chosen)
        return chosen

    def learn(self, track: int, said: Sequence[Said], pts_ns: int) -> None:
        """Take in one look.

        Args:
            track: The object.
            said: Each class with its score; none: the model was not sure of any.
            pts_ns: Of the picture.
        """
        known = self._known.setdefault(track, _Known(seen_ns=pts_ns))
        known.looked_ns = pts_ns
        known.count += 1
        for label, score in said:
            known.scores[label] = known.scores.get(label, 0.0) + score
        if not known.scores:
            return
        best = max(known.scores, key=lambda label: known.scores[label])
        score = known.scores[best] / known.count
        if score >= self._options.min_score:
            self._said[track] = Said(best, score)
        else:
            self._said.pop(track, None)

    def _forget(self, now_ns: int) -> None:
        for track in [t for t, known in self._known.items() if now_ns - known.seen_ns > self._forget_ns]:
            del self._known[track]
            self._said.pop(track, None)
