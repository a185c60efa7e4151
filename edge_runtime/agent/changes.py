"""Changes: what new settings mean for an agent that is running. Pure: starts and stops nothing."""

from dataclasses import dataclass

from edge_runtime.settings import AgentSettings, ModelSettings, RouteSettings

_AT_START = (
    *("site", "state_dir", "profile", "workers", "sinks", "privacy", "degrade"),
    *("door", "cloud", "outbox", "memory_budget_mb", "fleet", "bundles", "counts", "page"),
)
"""Blocks that are read once."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do, and what cannot be done without a restart.

    Args:
        settings: What runs afterwards: the new cameras and routes with everything else as it is.
        added: Cameras to start.
        removed: Cameras to stop.
        replaced: Cameras to stop and to start again with their new settings.
        routed: Models whose requests are routed by other rules.
        later: What differs and takes a restart, as places in the file.
    """

    settings: AgentSettings
    added: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    routed: tuple[str, ...]
    later: tuple[str, ...]


def compare(running: AgentSettings, wanted: AgentSettings) -> Changes:
    """Tell running settings from new ones.

    A camera that wants a model that is not running stays as it is, or away, until the restart.
    """
    later = [name for name in _AT_START if getattr(running, name) != getattr(wanted, name)]
    models, routed = dict(running.models), list[str]()
    for name in {**running.models, **wanted.models}:
        old, new = running.models.get(name), wanted.models.get(name)
        if old == new:
            continue
        if old is not None and new is not None and _unrouted(old) == _unrouted(new):
            routed.append(name)
            models[name] = new
        else:
            later.append(f"models.{name}")
    cameras = dict(wanted.cameras)
    for name, camera in wanted.cameras.items():
        if camera.model not in running.models:
            later.append(f"cameras.{name}")
            if name in running.cameras:
                cameras[name] = running.cameras[name]
            else:
                del cameras[name]
    return Changes(
        settings=running.model_copy(update={"cameras": cameras, "models": models}),
        added=tuple(name for name in cameras if name not in running.cameras),
        removed=tuple(name for name in running.cameras if name not in cameras),
        replaced=tuple(
            name for name, camera in cameras.items() if running.cameras.get(name, camera) != camera
        ),
        routed=tuple(routed),
        later=tuple(later),
    )


def _unrouted(model: ModelSettings) -> ModelSettings:
    """Give a model's settings without those that can change while it runs; its name in the cloud cannot."""
    kept = RouteSettings(cloud_model=model.route.cloud_model)
    return model.model_copy(update={"route": kept})
