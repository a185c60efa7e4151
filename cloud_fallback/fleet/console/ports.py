"""What the console reads and does: a seam, so that it knows no SQL, no broker and no API.

The views are the API's own (`cloud_fallback.fleet.views`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cloud_fallback.fleet.views import (
    AuditView,
    DeploymentNew,
    DeploymentView,
    DeviceView,
    EventView,
    MemberView,
    MoveName,
    Overview,
    ReleaseView,
    Role,
)
from edge_runtime.contract.fleet import Reply

_RANKS: dict[Role, int] = {"viewer": 1, "operator": 2, "admin": 3}


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks at the console.

    Args:
        name: Of the token; it stands in the audit log.
        role: What it may do.
        token_sha256: By which it is known again.
    """

    name: str
    role: Role
    token_sha256: str

    def may(self, role: Role) -> bool:
        """Say whether this person may do what a role may."""
        return _RANKS[self.role] >= _RANKS[role]


class ConsoleData(Protocol):
    """The fleet, as the console sees it. Every call is of one moment, and blocks."""

    def log_in(self, token: str, address: str) -> Person:
        """Find whose token it is.

        Raises:
            UnauthorizedError: Nobody's.
            QuotaError: Nobody's, and too many such came from that address.
        """
        ...

    def person(self, token_sha256: str) -> Person | None:
        """Find a person again; None: the token is revoked or has expired."""
        ...

    def overview(self) -> Overview:
        """Give the fleet at a glance."""
        ...

    def devices(self, selector: str, state: str, after: str, limit: int) -> Sequence[DeviceView]:
        """List devices by name; `state` is empty, `online`, `offline`, `trouble` or `revoked`.

        Raises:
            ConfigError: It is no selector.
        """
        ...

    def device(self, name: str) -> DeviceView:
        """Give a device.

        Raises:
            NotThereError: There is none of that name.
        """
        ...

    def matching(self, selector: str) -> int:
        """Count the devices that a selector matches.

        Raises:
            ConfigError: It is none.
        """
        ...

    def deployments(self, limit: int) -> Sequence[DeploymentView]:
        """List deployments, the newest first."""
        ...

    def deployment(self, id_: str) -> DeploymentView:
        """Give a deployment.

        Raises:
            NotThereError: There is none of that id.
        """
        ...

    def members(self, id_: str, standing: str | None, limit: int) -> Sequence[MemberView]:
        """List the devices of a deployment, by name."""
        ...

    def held(self, id_: str, limit: int) -> Sequence[MemberView]:
        """List the devices of a deployment that wait because another rollout has them, by name."""
        ...

    def releases(self) -> Sequence[ReleaseView]:
        """List what is published, the newest first."""
        ...

    def events(self, device: str | None, deployment: str | None, limit: int) -> Sequence[EventView]:
        """List what happened, the newest first."""
        ...

    def audit(self, before: int | None, limit: int) -> Sequence[AuditView]:
        """List who did what, the newest first."""
        ...

    def audit_broken_at(self) -> int | None:
        """Find the first line of the audit log that is not as it was written; None: it is whole."""
        ...

    def deploy(self, who: str, new: DeploymentNew) -> str:
        """Begin a deployment and give its id.

        Raises:
            EdgeRuntimeError: It cannot be begun.
        """
        ...

    def move(self, who: str, id_: str, move: MoveName, reason: str) -> None:
        """Ask for a move of a rollout; whoever leads carries it out.

        Raises:
            UpdateError: Its phase does not allow that.
            NotThereError: There is none of that id.
        """
        ...

    def command(self, who: str, device: str, name: str, arguments: Mapping[str, str]) -> Reply:
        """Have a device do something, and wait for its answer.

        Raises:
            RemoteError: There is no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Deps:
    """What the console stands on.

    Args:
        data: The fleet.
        key: Signs sessions; the same for all replicas.
        now_s: Gives seconds since 1970, UTC.
        secure: Whether the cookie is for https only; false on this machine alone.
        tenant: Whose fleet it is.
    """

    data: ConsoleData
    key: bytes
    now_s: Callable[[], float]
    secure: bool
    tenant: str
