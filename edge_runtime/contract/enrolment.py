"""How a device becomes one of a fleet: what it sends with its one-time token, and what it gets for it.

Over HTTPS, once. Encodes nothing.
"""

from typing import Annotated, Literal

from pydantic import Field

from edge_runtime.contract.fleet import Id
from edge_runtime.contract.task import Declared

REVOKED = "device-revoked"
"""Code of the refusal that tells a device that it is no longer one of the fleet."""
OWN_PATH = "/v1/device"
"""Where a device asks whether it still is one."""
Pem = Annotated[str, Field(max_length=64 * 2**10, pattern=r"^-----BEGIN ")]


class Enrol(Declared):
    """A device asks to be one of the fleet.

    Args:
        token: One-time, from the manager.
        device: The name it wants; None: the one that the token is for.
        profile: Its device profile.
        agent: Version of edge-runtime.
        csr: Certificate signing request of its own key (PEM); the manager decides on the name in it.
        timezone: IANA name of the store's time zone.
    """

    v: Literal[1] = 1
    token: Annotated[str, Field(min_length=16, max_length=200)]
    device: Id | None = None
    profile: Id
    agent: str = Field(max_length=100)
    csr: Pem
    timezone: str = Field(default="UTC", max_length=64)


class Broker(Declared):
    """Where the fleet's MQTT broker listens."""

    host: str = Field(max_length=255)
    port: int = Field(ge=1, le=65535)
    tls: bool = True


class Enrolled(Declared):
    """What a device keeps.

    Args:
        tenant: Whose it is.
        device: Its name from now on.
        certificate: Of its key, by the fleet's authority (PEM).
        authority: Certificates that broker and manager are checked against (PEM).
        broker: Where MQTT is.
        device_token: For HTTPS, as a bearer token.
        tuf_root: The first trusted root metadata (JSON text).
    """

    v: Literal[1] = 1
    tenant: Id
    device: Id
    certificate: Pem
    authority: Pem
    broker: Broker
    device_token: Annotated[str, Field(min_length=16, max_length=200)]
    tuf_root: str = Field(max_length=512 * 2**10)
