"""Who asks, and whether they may: bearer tokens of people and programs with a role, and of devices with none.

Only SHA-256s of tokens are kept, and they are looked up by them; a token has 256 random bits, so that nothing
slower is needed. Makes no session; the console does.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from cloud_fallback.fleet.api.attempts import Attempts
from cloud_fallback.fleet.database import devices, people
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.refusals import RevokedError
from cloud_fallback.fleet.views import Role, TokenView
from edge_runtime.contract.errors import RefusedError, UnauthorizedError

TOKEN, DEVICE, ENROLMENT = "fleet_", "device_", "enrol_"
"""So that a person, and a scanner of source code, knows what was found."""
_RANKS: dict[Role, int] = {"viewer": 1, "operator": 2, "admin": 3}
_MAX = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Args:
        name: Of the token, or of the device; it stands in the audit log.
        role: What it may do; None: it is a device.
        secret_sha256: Of its token.
    """

    name: str
    role: Role | None
    secret_sha256: str

    def may(self, role: Role) -> bool:
        """Say whether it may do what a role may."""
        return self.role is not None and _RANKS[self.role] >= _RANKS[role]


class Gate:
    """Knows tokens.

    Args:
        database: That has them.
        now_s: Gives seconds since 1970, UTC.
        refused: Called for each failed login.
        attempts: Counts them by address.
    """

    def __init__(
        self,
        database: Database,
        now_s: Callable[[], float],
        refused: Callable[[], None] = lambda: None,
        attempts: Attempts | None = None,
    ) -> None:
        self._database = database
        self._now_s = now_s
        self._refused = refused
        self._attempts = attempts or Attempts()
        self._lock = threading.Lock()

    def caller(self, secret: str, address: str) -> Caller:
        """Find whose token it is.

        Args:
            secret: As it was sent; empty: none was.
            address: Where the request comes from.

        Raises:
            RevokedError: A device's that was taken out of the fleet.
            UnauthorizedError: Nobody's.
            QuotaError: Nobody's, and too many such came from there.
        """
        if secret.startswith(DEVICE):
            digest = digest_of(secret)
            with self._database.read() as tx:
                name, revoked = devices.of_token(tx, digest), devices.revoked_of_token(tx, digest)
            if name is not None:
                return Caller(name, None, digest)
            if revoked is not None:
                self.failed(address)
                raise RevokedError(revoked)
        elif (view := self.token(secret)) is not None:
            return Caller(view.name, view.role, digest_of(secret))
        self.failed(address)
        raise UnauthorizedError(
            "bearer token",
            expected="a token of this fleet that is still good",
            got="another one" if secret else "none",
            do="Send Authorization: Bearer TOKEN; an admin makes one: edge-runtime fleet tokens create",
        )

    def token(self, secret: str) -> TokenView | None:
        """Find a person's or program's token; None: there is none such that is good now."""
        if not secret.startswith(TOKEN) or len(secret) > _MAX:
            return None
        now_s = self._now_s()
        with self._database.read() as tx:
            view = people.token(tx, digest_of(secret), now_s)
        if view is not None and people.is_stale(view, now_s):
            with self._database.begin() as tx:
                people.use(tx, view.id, now_s)
        return view

    def failed(self, address: str) -> None:
        """Count a failed login.

        Raises:
            QuotaError: Too many came from there.
        """
        self._refused()
        with self._lock:
            self._attempts.failed(address, time.monotonic())


def new_secret(kind: str) -> str:
    """Make a secret that begins with what it is for."""
    return kind + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """Give what is kept of a secret: its SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def bearer(request: Request) -> str:
    """Give the token of a request; empty: there is none."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


def address_of(request: Request) -> str:
    """Give where a request comes from."""
    return request.client.host if request.client is not None else "unknown"


def anybody(request: Request) -> Caller:
    """Let in who has any token of this fleet, a device too."""
    gate: Gate = request.app.state.manager.gate
    return gate.caller(bearer(request), address_of(request))


def needs(role: Role) -> Callable[[Caller], Caller]:
    """Make a dependency that lets in who may do what a role may."""

    def check(caller: Annotated[Caller, Depends(anybody)]) -> Caller:
        if not caller.may(role):
            raise RefusedError(
                f"token '{caller.name}'",
                expected=f"the role {role}",
                got=caller.role or "a device's",
                do="Use another token, or ask an admin for one",
            )
        return caller

    return check


def only_device(caller: Annotated[Caller, Depends(anybody)]) -> Caller:
    """Let in devices only.

    Raises:
        RefusedError: It is a person's or a program's token.
    """
    if caller.role is not None:
        raise RefusedError(
            f"token '{caller.name}'", expected="a device's", got=f"a token of an {caller.role}"
        )
    return caller


Anybody = Annotated[Caller, Depends(anybody)]
Device = Annotated[Caller, Depends(only_device)]
Viewer = Annotated[Caller, Depends(needs("viewer"))]
Operator = Annotated[Caller, Depends(needs("operator"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
