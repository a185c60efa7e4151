"""What of a store's settings Home Assistant is told; announces nothing itself."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_runtime.settings import AgentSettings, CameraSettings
from edge_runtime.settings.counts import entrances
from edge_runtime.settings.home_assistant import HomeAssistantSettings
from edge_runtime.sinks.announcer import Announcer
from edge_runtime.sinks.home_assistant import CameraPlan, Introduction, StorePlan
from edge_runtime.sinks.topics import level


def announcer_of(
    wanted: HomeAssistantSettings | None, *, site: str, prefix: str, memory: Path
) -> Announcer | None:
    """Make what announces a store to the Home Assistant of a broker; None: it is not wanted.

    Args:
        wanted: The settings of the broker's sink.
        site: The store.
        prefix: The sink's topics begin with it.
        memory: The file that remembers what was announced there.
    """
    if wanted is None:
        return None
    us = Introduction(site, f"{prefix}/{level(site)}", wanted.prefix, wanted.name or "", _version())
    return Announcer(us, memory)


def plan_of(settings: AgentSettings, cameras: Mapping[str, CameraSettings]) -> StorePlan:
    """Say what there is to announce.

    Args:
        settings: The store's.
        cameras: Those that run now.
    """
    return StorePlan(
        cameras=tuple(
            CameraPlan(
                name,
                tuple(camera.zones),
                {line: (way.a_to_b, way.b_to_a) for line, way in camera.lines.items()},
            )
            for name, camera in cameras.items()
        ),
        models=() if settings.fleet is None else tuple(settings.models),
        counted=settings.counts is not None and bool(entrances(settings.counts, cameras)),
    )


def _version() -> str:
    try:
        return version("edge-runtime")
    except PackageNotFoundError:  # run from a folder that nobody installed
        return "unknown"
