"""What an agent says of its store on a broker beside the cameras: level, counts, versions of models. Pure."""

import json
from typing import Any

from edge_runtime.contract.status import AgentStatus, VersionStatus
from edge_runtime.sinks.topics import level

_LONGEST_REASON = 255
"""Of what Home Assistant shows of a release."""


def of_the_store(status: AgentStatus) -> dict[str, bytes]:
    """Make the retained states of a store.

    Args:
        status: The newest.

    Returns:
        By the end of the topic, below the store's own.
    """
    states: dict[str, Any] = {"level": {"v": 1, "level": status.level, "reason": status.level_reason}}
    if status.store is not None:
        store = status.store
        states["store"] = {
            "v": 1,
            "day": store.day,
            "inside": store.inside,
            "entered": store.entered,
            "left": store.left,
            "missed": store.missed,
        }
    for version in () if status.fleet is None else status.fleet.versions:
        if version.kind == "model":
            states[f"models/{level(version.name)}"] = _model(version)
    return {topic: json.dumps(state, separators=(",", ":")).encode() for topic, state in states.items()}


def _model(version: VersionStatus) -> dict[str, Any]:
    """Say which version of a model runs, and which one it is about to be.

    Home Assistant drops the whole message where a key is not one of its own, or a text is null
    (https://www.home-assistant.io/integrations/update.mqtt/).
    """
    installed = version.version or "as installed"
    return {
        "installed_version": installed,
        "latest_version": version.target or installed,
        "title": version.name,
        "release_summary": version.reason[:_LONGEST_REASON],
        "in_progress": bool(version.target),
        "update_percentage": round(100 * min(1.0, max(0.0, version.progress))) if version.target else None,
    }
