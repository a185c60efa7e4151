"""What an agent opens, and what it needs to know, before anything runs. Keeps nothing."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edge_runtime.agent.outlets import Outlets
from edge_runtime.agent.running import Member, Running
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.event import CameraStateChanged, event_id, iso_time
from edge_runtime.local_model import LocalModel
from edge_runtime.settings import AgentSettings, FleetSettings

if TYPE_CHECKING:
    from edge_runtime.agent.requests import Requests


def join_fleet(settings: FleetSettings, agent: Running) -> Member:
    """Make an agent the device of a fleet that its enrolment says; nothing is started yet.

    Raises:
        ConfigError: The device is not enrolled, or the extra `fleet` is not installed.
        StorageError: The journal of its updates cannot be read.
    """
    # Its libraries are an extra, and cost memory.
    try:
        from edge_runtime.agent.membership import Membership  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"the settings have a fleet, and it cannot be joined here ({error})",
            do="Install what it needs: pip install 'edge-runtime[fleet]'",
        ) from error
    return Membership(settings, agent)


def failed_camera(site: str, camera: str, epoch: str, reason: str) -> CameraStateChanged:
    """Make the event of a camera that cannot start."""
    return CameraStateChanged(
        id=event_id(site, camera, epoch, "camera_state", "failed", 0),
        site=site,
        camera=camera,
        time=iso_time(time.time_ns()),
        pts_ns=0,
        state="failed",
        reason=reason,
    )


def open_requests(
    settings: AgentSettings, models: Mapping[str, LocalModel], outlets: Outlets
) -> "Requests | None":
    """Open the door and the runtime behind it; None where the settings want no door.

    Raises:
        EdgeRuntimeError: As `Requests`.
    """
    if settings.door is None:
        return None
    # A store of cameras alone does not pay for a server.
    from edge_runtime.agent.requests import Requests  # noqa: PLC0415

    return Requests(settings, models, outlets.answer if outlets.wants_answers else None)


def this_moment() -> str:
    """Name this moment: no other start, and no other change, has the same name."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
