"""Changes: what new settings mean for an agent that is running. Pure: starts and stops nothing."""

from dataclasses import dataclass

from edge_runtime.settings import AgentSettings

_AT_START = (
    *("site", "state_dir", "profile", "workers", "sinks"),
    *("door", "cloud", "outbox", "memory_budget_mb"),
)
"""Blocks that are read once."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do, and what cannot be done without a restart.

    Args:
        settings: What runs afterwards: the new cameras with everything else as it is.
        added: Cameras to start.
        removed: Cameras to stop.
        replaced: Cameras to stop and to start again with their new settings.
        later: What differs and takes a restart, as places in the file.
    """

    settings: AgentSettings
    added: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    later: tuple[str, ...]


def compare(running: AgentSettings, wanted: AgentSettings) -> Changes:
    """Tell running settings from new ones.

    A camera that wants a model that is not running stays as it is, or away, until the restart.
    """
    later = [name for name in _AT_START if getattr(running, name) != getattr(wanted, name)]
    models = {**running.models, **wanted.models}
    later += [f"models.{name}" for name in models if running.models.get(name) != wanted.models.get(name)]
    cameras = dict(wanted.cameras)
    for name, camera in wanted.cameras.items():
        if camera.model not in running.models:
            later.append(f"cameras.{name}")
            if name in running.cameras:
                cameras[name] = running.cameras[name]
            else:
                del cameras[name]
    return Changes(
        settings=running.model_copy(update={"cameras": cameras}),
        added=tuple(name for name in cameras if name not in running.cameras),
        removed=tuple(name for name in running.cameras if name not in cameras),
        replaced=tuple(
            name for name, camera in cameras.items() if running.cameras.get(name, camera) != camera
        ),
        later=tuple(later),
    )
