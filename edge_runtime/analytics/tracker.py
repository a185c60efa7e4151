"""The tracker: gives the objects of one camera identities that last from frame to frame.

Two-stage association as in BYTE (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every
Detection Box", ECCV 2022) on top of SORT's Kalman filter and box overlap (Bewley et al., "Simple Online and
Realtime Tracking", ICIP 2016), with time taken from the frames: a dropped frame is a longer step, not a wrong
one.

One tracker belongs to one camera and one thread. It looks at no pixels, so somebody who comes back after
`max_lost_s` is somebody new, and it knows nothing of zones and lines.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.analytics import motion
from edge_runtime.analytics.assignment import Indices, Pairs, assign
from edge_runtime.analytics.motion import States
from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.contract.result import Detections, Tracks

_ID, _CLASS, _SIGHTINGS, _SEEN_NS = range(4)  # rows of Tracker._facts; the id is 0 until confirmed
_TRIAL_NS = 300_000_000
"""How long an object that is not confirmed yet may hide."""


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """How objects are found, followed and given up.

    Args:
        high_score: Detections from here on are matched first and can begin a track.
        low_score: Detections from here on continue a track that nothing better continues.
        birth_margin: A track begins with a detection this much above `high_score`.
        match_iou: Overlap a detection needs with where a track is expected.
        low_match_iou: The same for detections below `high_score`.
        confirm_frames: Sightings before a track is believed, and reported.
        max_lost_s: How long a track that is not seen keeps its id.

    Raises:
        ConfigError: A value is out of its range.
    """

    high_score: float = 0.4
    low_score: float = 0.1
    birth_margin: float = 0.1
    match_iou: float = 0.1
    low_match_iou: float = 0.5
    confirm_frames: int = 2
    max_lost_s: float = 2.0

    def __post_init__(self) -> None:
        shares = ("high_score", "low_score", "birth_margin", "match_iou", "low_match_iou")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"tracker.{name}", expected="0 to 1", got=str(getattr(self, name)))
        if self.confirm_frames < 1:
            raise ConfigError("tracker.confirm_frames", expected="at least 1", got=str(self.confirm_frames))
        if not 0 < self.max_lost_s < float("inf"):
            raise ConfigError("tracker.max_lost_s", expected="more than 0 seconds", got=str(self.max_lost_s))


class Tracker:
    """Follows the objects of one camera.

    Args:
        options: How objects are found, followed and given up.
    """

    def __init__(self, options: TrackerOptions = TrackerOptions()) -> None:
        self.options = options
        self._states: States = np.empty((motion.ROWS, 0))
        self._facts: NDArray[np.int64] = np.empty((4, 0), np.int64)
        self._pts_ns = 0
        self._next_id = 1
        self._last: Tracks | None = None

    def update(self, detections: Detections, pts_ns: int) -> Tracks:
        """Take in what a model found in the next frame.

        Args:
            detections: In any order. The model's own threshold should not be above `low_score`: weak
                detections continue tracks.
            pts_ns: Source time of the frame; not before that of the last one.

        Returns:
            The confirmed objects seen in this frame. A box is the filter's estimate after this detection, not
            the detection itself: it trembles less, which zones and lines need, and fits the truth no worse
            (benchmarks/tracking.py). It may stick out of the picture a little.

        Raises:
            InputError: `pts_ns` runs backwards.
        """
        last_ns = self._step_to(pts_ns)
        self._forget(last_ns)
        motion.predict(self._states, (pts_ns - last_ns) / 1e9)
        boxes = detections.boxes.T.astype(np.float64)
        shapes = np.concatenate(((boxes[:2] + boxes[2:]) / 2, boxes[2:] - boxes[:2]))
        match = self._match(detections, boxes, last_ns)
        seen = match >= 0
        if seen.any():
            motion.correct(self._states, shapes[:, match], seen)
            self._facts[_SIGHTINGS] += seen
            self._facts[_SEEN_NS, seen] = pts_ns
        match = self._begin(detections, shapes, match)
        self._confirm()
        self._last = self._report(detections, match)
        return self._last

    def still(self, pts_ns: int) -> Tracks | None:
        """Take in that nothing in front of the camera moved since the last frame, so no model looked.

        What was seen last is where it was and does not grow older: a person who stands still while the motion
        gate is closed keeps the id.

        Args:
            pts_ns: As for `update`.

        Returns:
            What the last `update` returned; None before the first.

        Raises:
            InputError: `pts_ns` runs backwards.
        """
        last_ns = self._step_to(pts_ns)
        seen = self._facts[_SEEN_NS]
        seen[seen == last_ns] = pts_ns
        return self._last

    def rescale(self, x: float, y: float) -> None:
        """Take in that the next frames have another size: everything known is where it was in the picture.

        Args:
            x: New width over old.
            y: New height over old.
        """
        motion.rescale(self._states, x, y)
        if self._last is not None:
            boxes = self._last.boxes * np.array((x, y, x, y), np.float32)
            self._last = replace(self._last, boxes=boxes)

    def _step_to(self, pts_ns: int) -> int:
        last_ns = self._pts_ns
        if pts_ns < last_ns:
            raise InputError(
                "source time runs backwards",
                expected=f"at least {last_ns} ns",
                got=f"{pts_ns} ns",
                do="A stream that began anew needs a new Tracker.",
            )
        self._pts_ns = pts_ns
        return last_ns

    def _forget(self, last_ns: int) -> None:
        """Drop objects not seen for too long; unconfirmed ones sooner, but not before a second look."""
        age_ns = self._pts_ns - self._facts[_SEEN_NS]
        on_trial = self._facts[_ID] == 0
        keep = age_ns <= self.options.max_lost_s * 1e9
        keep &= ~on_trial | (age_ns <= max(_TRIAL_NS, self._pts_ns - last_ns))
        if not keep.all():
            self._states, self._facts = self._states[:, keep], self._facts[:, keep]

    def _match(self, detections: Detections, boxes: States, last_ns: int) -> Indices:
        """Find the detection of each object; -1 where there is none."""
        options, facts, scores = self.options, self._facts, detections.scores
        match = np.full(facts.shape[1], -1, np.intp)
        if not (len(match) and len(scores)):
            return match
        pairs = _overlapping(motion.corners(self._states), boxes, options.match_iou)
        pairs = pairs.only(facts[_CLASS, pairs.rows] == detections.classes[pairs.columns])
        confirmed = facts[_ID] > 0
        high = scores >= options.high_score
        of_confirmed, with_high = confirmed[pairs.rows], high[pairs.columns]
        _settle(match, pairs.only(of_confirmed & with_high), len(scores))
        low = ~high & (scores >= options.low_score)
        just_lost = confirmed & (match < 0) & (facts[_SEEN_NS] == last_ns)
        close = pairs.gains >= options.low_match_iou
        _settle(match, pairs.only(close & just_lost[pairs.rows] & low[pairs.columns]), len(scores))
        high[match[match >= 0]] = False
        _settle(match, pairs.only(~of_confirmed & high[pairs.columns]), len(scores))
        return match

    def _begin(self, detections: Detections, shapes: States, match: Indices) -> Indices:
        """Start an object on trial for each strong detection left over; returns the longer match."""
        strong = detections.scores >= self.options.high_score + self.options.birth_margin
        strong[match[match >= 0]] = False
        born = np.flatnonzero(strong)
        if not len(born):
            return match
        facts = np.zeros((4, len(born)), np.int64)
        facts[_CLASS] = detections.classes[born]
        facts[_SIGHTINGS] = 1
        facts[_SEEN_NS] = self._pts_ns
        self._facts = np.concatenate((self._facts, facts), axis=1)
        self._states = np.concatenate((self._states, motion.first_states(shapes[:, born])), axis=1)
        return np.concatenate((match, born))

    def _confirm(self) -> None:
        ids = self._facts[_ID]
        fresh = np.flatnonzero((ids == 0) & (self._facts[_SIGHTINGS] >= self.options.confirm_frames))
        ids[fresh] = self._next_id + np.arange(len(fresh))
        self._next_id += len(fresh)

    def _report(self, detections: Detections, match: Indices) -> Tracks:
        shown = np.flatnonzero((match >= 0) & (self._facts[_ID] > 0))
        found = match[shown]
        return Tracks(
            ids=self._facts[_ID, shown],
            boxes=motion.corners(self._states[:, shown]).T.astype(np.float32),
            scores=detections.scores[found],
            classes=detections.classes[found],
            labels=detections.labels,
        )


def _settle(match: Indices, pairs: Pairs, detections: int) -> None:
    """Match who has no match yet, in place."""
    if len(pairs.rows):
        np.maximum(match, assign(pairs, len(match), detections), out=match)


def _overlapping(first: States, second: States, least: float) -> Pairs:
    """Find the pairs of (4, n) and (4, m) x1, y1, x2, y2 that overlap, with their intersection over union."""
    near = first[0][:, None] < second[2]
    near &= first[1][:, None] < second[3]
    near &= first[2][:, None] > second[0]
    near &= first[3][:, None] > second[1]
    rows, columns = np.nonzero(near)
    one, other = first[:, rows], second[:, columns]
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = sides[0] * sides[1]
    iou = shared / (_areas(one) + _areas(other) - shared)
    return Pairs(rows, columns, iou).only(iou >= least)


def _areas(corners: States) -> States:
    return (corners[2] - corners[0]) * (corners[3] - corners[1])
