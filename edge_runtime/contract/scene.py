"""Scene: one inferred frame with all that is known about it, on its way to the picture sinks."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.contract.event import Event
from edge_runtime.contract.frame import Frame
from edge_runtime.contract.result import Tracks


@dataclass(frozen=True, slots=True)
class Scene:
    """One inferred frame and what it led to.

    Args:
        frame: The frame.
        tracks: Confirmed objects in it.
        occupancy: Objects in each zone, by zone name.
        crossings: Crossings of each line so far, by line name, then by the user's word for the direction.
        events: What this frame caused.
    """

    frame: Frame
    tracks: Tracks
    occupancy: Mapping[str, int]
    crossings: Mapping[str, Mapping[str, int]]
    events: tuple[Event, ...] = ()
