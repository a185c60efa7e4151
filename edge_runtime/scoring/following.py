"""Identities of the objects of recordings: a tracker for each, fed with rows in their order.

A tracker that is needed in the middle of a recording is first fed with the rows that are stored. Decodes
nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge_runtime.analytics.tracker import Tracker
from edge_runtime.scoring.columns import LAST, Cells, detections_from, tracks_cells

Stored = Callable[[str], Iterator[Cells]]
"""Gives the rows of a recording that are done, in their order: `row`, `pts_ns` and `detections`."""


@dataclass(slots=True)
class _Followed:
    stored: Iterator[Cells]
    tracker: Tracker = field(default_factory=Tracker)
    next_stored: Cells | None = None


class Follower:
    """Follows the objects of recordings.

    Args:
        labels: All of the model.
        stored: What is done already.
    """

    def __init__(self, labels: tuple[str, ...], stored: Stored) -> None:
        self._labels = labels
        self._stored = stored
        self._followed: dict[str, _Followed] = {}

    def follow(self, row: Cells) -> None:
        """Add `tracks` to the next row of its recording.

        Args:
            row: With `detections`, and without an error.
        """
        source = row["source"]
        followed = self._followed.get(source)
        if followed is None:
            stored = self._stored(source)
            followed = self._followed[source] = _Followed(stored, next_stored=next(stored, None))
        while followed.next_stored is not None and followed.next_stored["row"] < row["row"]:
            self._feed(followed.tracker, followed.next_stored)
            followed.next_stored = next(followed.stored, None)
        self._feed(followed.tracker, row, tell=True)
        if row[LAST]:
            del self._followed[source]

    def _feed(self, tracker: Tracker, row: Cells, *, tell: bool = False) -> None:
        if row.get("detections") is None:  # the frame was broken
            return
        tracks = tracker.update(detections_from(row["detections"], self._labels), row["pts_ns"])
        if tell:
            row["tracks"] = tracks_cells(tracks)
