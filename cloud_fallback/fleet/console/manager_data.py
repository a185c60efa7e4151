"""The console's fleet over a manager: the database's functions, and the API's for what changes something."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from cloud_fallback.fleet.api.auth import digest_of
from cloud_fallback.fleet.api.deploying import ask, create
from cloud_fallback.fleet.api.fleet_devices import CommandNew, run_command
from cloud_fallback.fleet.api.manager import Manager
from cloud_fallback.fleet.console.ports import Deps, Person
from cloud_fallback.fleet.database import audit, deployments, devices, events, overview, people, releases
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
)
from edge_runtime.contract.errors import ConfigError, InputError, UnauthorizedError
from edge_runtime.contract.fleet import Reply

_PATIENCE_S = 10.0
"""How long a page waits for a device."""
_FRESH_S = 2.0
_CHUNK = 500
_MOST = 20
"""Chunks of devices that are looked through for those in trouble."""


class ManagerData:
    """`ConsoleData` over a manager.

    Args:
        manager: What its API stands on.
    """

    def __init__(self, manager: Manager) -> None:
        self._here = manager
        self._seen: tuple[float, Overview] | None = None

    def log_in(self, token: str, address: str) -> Person:
        """Find whose token it is; see `ConsoleData`."""
        view = self._here.gate.token(token)
        if view is None:
            self._here.gate.failed(address)
            raise UnauthorizedError(
                "token", expected="one of this fleet that is still good", got="another one"
            )
        return Person(view.name, view.role, digest_of(token))

    def person(self, token_sha256: str) -> Person | None:
        """Find a person again; see `ConsoleData`."""
        with self._here.database.read() as tx:
            view = people.token(tx, token_sha256, self._here.now_s())
        return None if view is None else Person(view.name, view.role, token_sha256)

    def overview(self) -> Overview:
        """Give the fleet at a glance, at most `_FRESH_S` old: it counts all devices, and many look."""
        now_s, seen = self._here.now_s(), self._seen
        if seen is not None and 0 <= now_s - seen[0] < _FRESH_S:
            return seen[1]
        with self._here.database.read() as tx:
            found = overview.overview(tx)
        self._seen = (now_s, found)
        return found

    def devices(self, selector: str, state: str, after: str, limit: int) -> Sequence[DeviceView]:
        """List devices by name; see `ConsoleData`."""
        online, revoked = {"online": True, "offline": False}.get(state), state == "revoked"
        with self._here.database.read() as tx:
            if state != "trouble":
                return devices.listing(tx, selector, after, limit, online=online, revoked=revoked)
            found: list[DeviceView] = []
            for _ in range(_MOST):
                some = devices.listing(tx, selector, after, _CHUNK)
                found += [each for each in some if each.trouble]
                if len(some) < _CHUNK or len(found) >= limit:
                    break
                after = some[-1].name
            return found[:limit]

    def device(self, name: str) -> DeviceView:
        """Give a device; see `ConsoleData`."""
        with self._here.database.read() as tx:
            return devices.must_find(tx, name)

    def matching(self, selector: str) -> int:
        """Count the devices that a selector matches; see `ConsoleData`."""
        with self._here.database.read() as tx:
            return len(devices.names(tx, selector))

    def deployments(self, limit: int) -> Sequence[DeploymentView]:
        """List deployments, the newest first."""
        with self._here.database.read() as tx:
            return deployments.listing(tx, limit)

    def deployment(self, id_: str) -> DeploymentView:
        """Give a deployment; see `ConsoleData`."""
        with self._here.database.read() as tx:
            return deployments.must_find(tx, id_)

    def members(self, id_: str, standing: str | None, limit: int) -> Sequence[MemberView]:
        """List the devices of a deployment, by name."""
        with self._here.database.read() as tx:
            return deployments.devices_of(tx, id_, standing, "", limit)

    def held(self, id_: str, limit: int) -> Sequence[MemberView]:
        """List those that another rollout has; see `ConsoleData`."""
        with self._here.database.read() as tx:
            return deployments.devices_of(tx, id_, None, "", limit, held=True)

    def releases(self) -> Sequence[ReleaseView]:
        """List what is published, the newest first."""
        with self._here.database.read() as tx:
            return releases.listing(tx)

    def events(self, device: str | None, deployment: str | None, limit: int) -> Sequence[EventView]:
        """List what happened, the newest first."""
        with self._here.database.read() as tx:
            return events.newest(tx, device, deployment, limit)

    def audit(self, before: int | None, limit: int) -> Sequence[AuditView]:
        """List who did what, the newest first."""
        with self._here.database.read() as tx:
            return audit.newest(tx, before, limit)

    def audit_broken_at(self) -> int | None:
        """Find the first line of the audit log that is not as it was written; None: it is whole."""
        with self._here.database.read() as tx:
            return audit.verify(tx)

    def deploy(self, who: str, new: DeploymentNew) -> str:
        """Begin a deployment; see `ConsoleData`."""
        return create(self._here, new, who).deployment.id

    def move(self, who: str, id_: str, move: MoveName, reason: str) -> None:
        """Ask for a move of a rollout; see `ConsoleData`."""
        ask(self._here, id_, move, reason, who)

    def command(self, who: str, device: str, name: str, arguments: Mapping[str, str]) -> Reply:
        """Have a device do something; see `ConsoleData`."""
        document = {"name": name, "arguments": dict(arguments), "timeout_s": _PATIENCE_S}
        try:
            body = CommandNew.model_validate(document)
        except ValidationError as error:
            raise InputError("command", expected="one that devices know", got=repr(name)) from error
        return run_command(self._here, device, body, who)


def deps_for(manager: Manager) -> Deps:
    """Put together what the console stands on.

    Args:
        manager: What its API stands on.

    Raises:
        ConfigError: The online key, from which the key of sessions is made, cannot be read.
    """
    settings = manager.settings
    path = settings.trust.online_key
    try:
        # All replicas have that file, and nobody else has; what is made of it says nothing about it.
        key = hmac.new(path.read_bytes(), b"console sessions", hashlib.sha256).digest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", got=str(error)) from error
    secure = settings.url.startswith("https:")
    return Deps(ManagerData(manager), key, manager.now_s, secure, settings.tenant)
