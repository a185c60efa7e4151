"""What settings mean for people in front of the cameras, in words and numbers for the audit. Pure."""

from typing import Any

from edge_runtime.contract.address import redact
from edge_runtime.settings import AgentSettings
from edge_runtime.settings.page import PageSettings


def policy_of(settings: AgentSettings) -> dict[str, Any]:
    """Say what is hidden, kept, and allowed to leave.

    Returns:
        JSON values: `blur`, `labels`, `sinks` (kind, place, blur and bounds of each that gets pictures),
        `never_look` (regions by camera), `fleet_snapshots`, `cloud`, `never_leave` (by model).
    """
    fleet, cloud = settings.fleet, settings.cloud
    return {
        "blur": settings.privacy.blur,
        "labels": list(settings.privacy.labels),
        "sinks": [
            *(_sink(sink, settings) for sink in settings.sinks if hasattr(sink, "blur")),
            *([] if settings.page is None else [_page(settings.page, settings)]),
        ],
        "never_look": {name: len(camera.never_look) for name, camera in settings.cameras.items()},
        "fleet_snapshots": "none" if fleet is None else fleet.snapshots,
        "cloud": "none" if cloud is None else redact(cloud.url),
        "never_leave": {
            name: [str(kind) for kind in model.route.never_leave] for name, model in settings.models.items()
        },
    }


def _sink(sink: object, settings: AgentSettings) -> dict[str, Any]:
    own = getattr(sink, "blur", None)
    bounds = {
        key: getattr(sink, key) for key in ("keep_days", "keep_bytes") if getattr(sink, key, None) is not None
    }
    place = getattr(sink, "folder", None) or getattr(sink, "path", "")
    kind = getattr(sink, "type", "")
    return {
        "type": kind,
        "place": str(place),
        "blur": settings.privacy.blur if own is None else own,
        **bounds,
    }


def _page(page: PageSettings, settings: AgentSettings) -> dict[str, Any]:
    return {
        "type": "page",
        "place": page.host,
        "blur": settings.privacy.blur if page.blur is None else page.blur,
        "keep_days": page.keep_days,
        "keep_bytes": page.keep_mb * 2**20,
    }
