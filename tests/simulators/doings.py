"""Numbered events of cameras, and patience that a test can wait for."""

from edge_runtime.contract.event import CameraStateChanged, Event
from edge_runtime.sinks.forwarding import ForwardOptions
from edge_runtime.sinks.pace import PaceOptions


def numbered(count: int, start: int = 0, camera: str = "door") -> list[Event]:
    """Events whose source time is their number."""
    return [
        CameraStateChanged(
            id=f"{camera}-{n}",
            site="shop",
            camera=camera,
            time="2026-01-01T00:00:00.000Z",
            pts_ns=n,
            state="online",
        )
        for n in range(start, start + count)
    ]


def quick(batch: int = 100) -> ForwardOptions:
    """The sink's options, with short pauses."""
    return ForwardOptions(pace=PaceOptions(batch=batch, first_s=0.02, longest_s=0.1, refused_s=0.1))
