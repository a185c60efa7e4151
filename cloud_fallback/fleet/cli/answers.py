"""Lists as the manager's API gives them, and each of their pages in turn. What is in them is `views`'."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel

from cloud_fallback.fleet.views import (
    AuditView,
    DeploymentView,
    DeviceView,
    EventView,
    MemberView,
    ReleaseView,
    TokenView,
)

if TYPE_CHECKING:
    from cloud_fallback.fleet.cli.client import Manager

PAGE = 500


class Devices(BaseModel):
    """A page of devices; `next` goes into `after`."""

    devices: tuple[DeviceView, ...]
    next: str | None = None


class Deployments(BaseModel):
    """Deployments, the newest first."""

    deployments: tuple[DeploymentView, ...]


class Members(BaseModel):
    """A page of a deployment's devices."""

    devices: tuple[MemberView, ...]
    next: str | None = None


class Releases(BaseModel):
    """What is published."""

    releases: tuple[ReleaseView, ...]


class Events(BaseModel):
    """A page of events, the oldest first."""

    events: tuple[EventView, ...]


class Audit(BaseModel):
    """A page of the audit log, the oldest first."""

    audit: tuple[AuditView, ...]


class Verified(BaseModel):
    """Whether the audit log is whole; `broken_at` is the first line that is not."""

    ok: bool
    broken_at: int | None = None


class Tokens(BaseModel):
    """All tokens, without their secrets."""

    tokens: tuple[TokenView, ...]


class Secret(BaseModel):
    """A token that was made; its secret is told once."""

    token: str
    expires: str | None = None


def all_devices(manager: "Manager", selector: str | None, state: str | None) -> Iterator[DeviceView]:
    """Give all devices that fit, page by page.

    Args:
        manager: To ask.
        selector: Which; None: all.
        state: `online`, `offline`, `trouble`, `revoked`; None: any.
    """
    after: str | None = None
    troubled = state == "trouble"
    while True:
        asked = None if troubled else state
        page = manager.get("/v1/devices", Devices, selector=selector, state=asked, after=after, limit=PAGE)
        yield from (each for each in page.devices if each.trouble or not troubled)
        after = page.next
        if after is None:
            return
