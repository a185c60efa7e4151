"""Everything that an endpoint may use, in one place. Decides nothing; `running` puts it together."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from anyio import CapacityLimiter
from fastapi import Depends, Request

from cloud_fallback.fleet.api.artifacts import Artifacts
from cloud_fallback.fleet.api.auth import Gate
from cloud_fallback.fleet.api.authority import Authority, listed_in
from cloud_fallback.fleet.api.metrics import Metrics
from cloud_fallback.fleet.database import devices
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.operator import Figures
from cloud_fallback.fleet.settings import ManagerSettings
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.watch import Watch
from edge_runtime.contract.fleet import Command, Reply


class Operating(Protocol):
    """The operator, as far as the API asks it for something."""

    def nudge(self) -> None:
        """Hear that the database has changed."""
        ...

    def command(self, device: str, command: Command, timeout_s: float) -> Reply:
        """Have a device do something, and wait for its answer.

        Raises:
            DeadlineError: None came.
            RemoteError: The broker is not there.
        """
        ...

    def expel(self, device: str, *, forget: bool) -> None:
        """End a device's session at the broker."""
        ...

    def watch(self) -> Watch:
        """Give changes from now on; close it."""
        ...

    def figures(self) -> Figures:
        """Say how it is doing."""
        ...


@dataclass(frozen=True, slots=True)
class Manager:
    """What the endpoints stand on.

    Args:
        settings: Checked.
        database: The truth.
        repository: The signed word on targets.
        operator: Talks to devices.
        authority: Signs their certificates.
        artifacts: Bytes.
        gate: Knows tokens.
        metrics: Counts.
        now_s: Gives seconds since 1970, UTC.
        commands: Threads that wait for devices, so that silent ones do not take those of other requests.
        disk: Threads that read and write artifacts.
        watching: Streams of changes.
        revoking: Held while the list of revoked certificates is written.
        stopping: Set when the process is to end, so that streams do.
    """

    settings: ManagerSettings
    database: Database
    repository: Repository
    operator: Operating
    authority: Authority
    artifacts: Artifacts
    gate: Gate
    metrics: Metrics
    now_s: Callable[[], float]
    commands: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(64))
    disk: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(16))
    watching: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(200))
    revoking: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    def publish_revoked(self, *, only_new: bool = False) -> bool:
        """Write the list of revoked certificates where the broker reads it.

        Args:
            only_new: Leave a list that names the same ones as it is.

        Returns:
            Whether it was written.

        Raises:
            StorageError: It cannot be written.
        """
        file = self.settings.authority.revoked
        with self.revoking:  # of two that revoke at once, the later list has both
            with self.database.read() as tx:
                serials = devices.revoked_serials(tx)
            if only_new and listed_in(file) == {int(serial, 16) for serial, _ in serials}:
                return False
            self.authority.write_revoked(serials, file, now_s=self.now_s())
            return True


async def manager_of(request: Request) -> Manager:
    """Find what a request's application stands on."""
    found: Manager = request.app.state.manager
    return found


Here = Annotated[Manager, Depends(manager_of)]
