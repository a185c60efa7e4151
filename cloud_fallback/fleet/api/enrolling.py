"""Routes by which a device becomes one of the fleet, and keeps its certificate fresh.

A one-time token is used up in the transaction that writes the device down: of two that come with it, one gets
in. Revoking is `fleet_devices`.
"""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.api import auth
from cloud_fallback.fleet.api.authority import Signed, key_digest, request_key
from cloud_fallback.fleet.api.manager import Here, Manager
from cloud_fallback.fleet.database import audit, devices, enrolments
from cloud_fallback.fleet.views import EnrolmentNew
from edge_runtime.contract.enrolment import OWN_PATH, Broker, Enrol, Enrolled, Pem
from edge_runtime.contract.errors import ConfigError, InputError, UnauthorizedError
from edge_runtime.contract.fleet import Time
from edge_runtime.contract.task import Declared

router = APIRouter(tags=["enrolment"])


class EnrolmentMade(Declared):
    """A one-time token; it is shown this once."""

    token: str
    expires: Time


class Renew(Declared):
    """A device asks for a fresh certificate of its key."""

    v: Annotated[int, Field(ge=1, le=1)] = 1
    csr: Pem


class Own(Declared):
    """Which device asks."""

    tenant: str
    device: str


@router.get(OWN_PATH)
def show_own(here: Here, caller: auth.Device) -> Own:
    """Tell a device that it is one of the fleet; one that was revoked is told that instead."""
    return Own(tenant=here.settings.tenant, device=caller.name)


@router.post("/v1/enrolments", status_code=201)
def make_enrolment(body: EnrolmentNew, here: Here, caller: auth.Operator) -> EnrolmentMade:
    """Make a one-time token for a device to come."""
    secret, now_s = auth.new_secret(auth.ENROLMENT), here.now_s()
    with here.database.begin() as tx:
        expires_s = enrolments.create(tx, auth.digest_of(secret), body, caller.name, now_s)
        detail = f"expires {moments.text(expires_s)}"
        audit.write(tx, caller.name, "enrolment.create", body.device or "any device", detail, now_s)
    return EnrolmentMade(token=secret, expires=moments.text(expires_s))


@router.post("/v1/enrol")
def enrol(body: Enrol, request: Request, here: Here) -> Enrolled:
    """Take a device into the fleet: its token in, its certificate out."""
    key_sha256 = key_digest(request_key(body.csr))
    secret = auth.new_secret(auth.DEVICE)
    try:
        signed, device, replaced = _take_in(here, body, key_sha256, secret)
    except UnauthorizedError:
        here.gate.failed(auth.address_of(request))
        raise
    if replaced:  # the certificate that it had counts no longer
        here.publish_revoked()
        here.operator.expel(device, forget=False)
    here.operator.nudge()
    return _enrolled(here, device, signed, secret)


@router.post("/v1/renew")
def renew(body: Renew, request: Request, here: Here, caller: auth.Device) -> Enrolled:
    """Give a device a fresh certificate; the one that it has ends by itself."""
    now_s = here.now_s()
    signed = here.authority.sign_device(
        body.csr, caller.name, now_s=now_s, days=here.settings.authority.device_days
    )
    with here.database.begin() as tx:
        if devices.of_token(tx, caller.secret_sha256) != caller.name:  # revoked in this moment
            raise UnauthorizedError("device token", expected="one that is still good", got="a revoked one")
        devices.renew(tx, caller.name, signed.serial, now_s)
        audit.write(tx, caller.name, "device.renew", caller.name, f"certificate {signed.serial}", now_s)
    return _enrolled(here, caller.name, signed, auth.bearer(request))


def _take_in(here: Manager, body: Enrol, key_sha256: str, secret: str) -> tuple[Signed, str, bool]:
    now_s = here.now_s()
    with here.database.begin() as tx:
        invited = enrolments.take(tx, auth.digest_of(body.token), body.device, key_sha256, now_s)
        if invited.device is None:
            raise InputError(
                "device",
                expected="a name, of the token or of the device",
                got="none",
                do="Say one: edge-runtime enrol … --name NAME",
            )
        signed = here.authority.sign_device(
            body.csr, invited.device, now_s=now_s, days=here.settings.authority.device_days
        )
        new = devices.Enrolled(
            name=invited.device,
            profile=body.profile,
            agent=body.agent,
            timezone=body.timezone,
            token_sha256=auth.digest_of(secret),
            certificate_serial=signed.serial,
            labels=invited.labels,
            groups=invited.groups,
        )
        replaced = devices.enrol(tx, new, now_s, again=invited.again or invited.named)
        detail = f"profile {body.profile}, certificate {signed.serial}, token by {invited.by}"
        audit.write(tx, invited.device, "device.enrol", invited.device, detail, now_s)
    return signed, invited.device, replaced


def _enrolled(here: Manager, device: str, signed: Signed, secret: str) -> Enrolled:
    settings = here.settings
    host, port = settings.broker.for_devices
    return Enrolled(
        tenant=settings.tenant,
        device=device,
        certificate=signed.pem,
        authority=_trusted(here),
        broker=Broker(host=host, port=port, tls=settings.broker.tls),
        device_token=secret,
        tuf_root=here.repository.root().decode(),
    )


def _trusted(here: Manager) -> str:
    file = here.settings.authority.trusted
    if file is None:
        return here.authority.pem
    try:
        return file.read_text("ascii")
    except (OSError, ValueError) as error:
        raise ConfigError(f"authority.trusted {file}", expected="PEM", got=str(error)) from error
