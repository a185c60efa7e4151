"""Scene: one inferred frame with all that is known about it, on its way to the picture sinks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edge_runtime.contract.event import Attribute, Event
from edge_runtime.contract.frame import Frame
from edge_runtime.contract.result import Boxes, Detections, Tracks


def _nobody() -> Boxes:
    return np.empty((0, 4), np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """One inferred frame and what it led to.

    Args:
        frame: The frame.
        tracks: Confirmed objects in it.
        occupancy: Objects in each zone, by zone name.
        crossings: Crossings of each line so far, by line name, then by the user's word for the direction.
        events: What this frame caused.
        found: All that the model found, unsure objects too; None: it did not look at this very frame.
        attributes: What second models said of the tracks, by track, then by the name of what is said.
        hidden: (n, 4) float32 xyxy, source pixels: what nobody may see of this picture, where it is stored,
            shown or sent.
    """

    frame: Frame
    tracks: Tracks
    occupancy: Mapping[str, int]
    crossings: Mapping[str, Mapping[str, int]]
    events: tuple[Event, ...] = ()
    found: Detections | None = None
    attributes: Mapping[int, Mapping[str, Attribute]] = field(
        default_factory=dict[int, Mapping[str, Attribute]]
    )
    hidden: Boxes = field(default_factory=_nobody)
