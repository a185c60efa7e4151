"""SecondStage: other models look at the objects that the detector found, within a budget of their own.

Cuts objects out of the picture and asks the models; which and when is `analytics.looks`', who is who
`analytics.identities`'. A model that fails costs what it would have said, and never a frame or an event.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_runtime.analytics.identities import Identities
from edge_runtime.analytics.looks import LookOptions, Looks, Said
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.event import Attribute
from edge_runtime.contract.frame import Frame, Picture
from edge_runtime.contract.result import Classification, Embedding, Tracks
from edge_runtime.tasks.fitted import fitter
from edge_runtime.tasks.geometry import Rect

log = logging.getLogger(__name__)

Answer = Classification | Embedding
Ask = Callable[[Sequence[Picture]], Sequence[Answer]]

_WIDER = 0.05
"""Share of a box that its crop is larger on each side: detectors cut close."""


class Who:
    """The identities of one store; shared by its cameras' stages, so safe to share between threads.

    Args:
        identities: What is known.
    """

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._lock = threading.Lock()

    def match(self, embedding: Embedding, now_s: float) -> Said:
        """Give the identity of a sighting as something that is said.

        Raises:
            InputError: The vector is none.
        """
        with self._lock:
            return Said(str(self._identities.match(embedding.vector, now_s)), 1.0)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One second model of a camera.

    Args:
        name: What it says is called that.
        ask: Answers crops; from any thread.
        options: When it looks.
        who: Makes identities of vectors; None: it says classes.
    """

    name: str
    ask: Ask
    options: LookOptions = field(default_factory=LookOptions)
    who: Who | None = None


class SecondStage:
    """The second models of one camera; used by one thread at a time.

    Args:
        plans: None, one or several.
    """

    def __init__(self, plans: Sequence[StagePlan]) -> None:
        self._stages = [(plan, Looks(plan.options)) for plan in plans]
        self._troubles: dict[str, str] = {}

    def look(self, frame: Frame, tracks: Tracks) -> Mapping[int, Mapping[str, Attribute]]:
        """Look at whom it is time to look at.

        Args:
            frame: The picture.
            tracks: Objects in it.

        Returns:
            All that is known of the objects, by track, then by the name of what is said.
        """
        for plan, looks in self._stages:
            rows = looks.due(tracks, frame.pts_ns)
            if rows:
                self._ask(plan, looks, frame, tracks, rows)
        known: dict[int, dict[str, Attribute]] = {}
        for plan, looks in self._stages:
            for track, said in looks.said.items():
                attribute = Attribute(value=said.label, confidence=round(min(said.score, 1.0), 4))
                known.setdefault(track, {})[plan.name] = attribute
        return known

    def _ask(self, plan: StagePlan, looks: Looks, frame: Frame, tracks: Tracks, rows: Sequence[int]) -> None:
        try:
            answers = plan.ask([crop(frame.picture, tracks.boxes[row]) for row in rows])
            said = [_said(plan, answer, frame) for answer in answers]
        except EdgeRuntimeError as error:
            if self._troubles.get(plan.name) != str(error):
                self._troubles[plan.name] = str(error)
                log.error("camera '%s': %s: %s", frame.camera, plan.name, error)
            return
        for row, words in zip(rows, said, strict=True):
            looks.learn(int(tracks.ids[row]), words, frame.pts_ns)


def crop(picture: Picture, box: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> Picture:
    """Cut an object out of a picture.

    Args:
        picture: Any format.
        box: (4,) xyxy, pixels; may stick out of the picture.

    Returns:
        BGR, at least two pixels large.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    wide, tall = (x2 - x1) * _WIDER, (y2 - y1) * _WIDER
    left = int(min(max(0.0, x1 - wide), picture.width - 1))
    top = int(min(max(0.0, y1 - tall), picture.height - 1))
    width = max(1, min(round(x2 + wide), picture.width) - left)
    height = max(1, min(round(y2 + tall), picture.height) - top)
    # Colour has half the resolution: sides are even.
    size = max(2, height // 2 * 2), max(2, width // 2 * 2)
    image = np.empty((*size, 3), np.uint8)
    fitter(picture.format, Rect(top, left, height, width), size, "bgr").write(picture, image)
    return Picture.from_bgr(image)


def _said(plan: StagePlan, answer: Answer, frame: Frame) -> list[Said]:
    if isinstance(answer, Embedding):
        return [] if plan.who is None else [plan.who.match(answer, frame.time_ns / 1e9)]
    labels = answer.labels
    return [
        Said(labels[kind], float(score))
        for kind, score in zip(answer.classes.tolist(), answer.scores.tolist(), strict=True)
    ]
