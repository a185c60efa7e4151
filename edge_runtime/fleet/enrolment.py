"""Who a device is to its fleet: the files of an enrolment, read. Asks nobody and makes nothing.

`device.key` and `enrolment.json`, both for this user alone, `device.crt`, `ca.crt` and `tuf/root.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from edge_runtime.contract.enrolment import Broker
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.fleet import Id
from edge_runtime.contract.task import Declared
from edge_runtime.fleet.topics import Topics

FILE = "enrolment.json"
KEY, CERTIFICATE, AUTHORITY, TUF_ROOT = "device.key", "device.crt", "ca.crt", "tuf/root.json"
_DO = "Enrol this device again: edge-runtime enrol"


class Enrolled(Declared):
    """What `enrolment.json` holds; it is written last, so that where it is, everything is."""

    v: Literal[1] = 1
    tenant: Id
    device: Id
    profile: Id
    manager_url: str
    broker: Broker
    device_token: Annotated[str, Field(min_length=16)]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A device's place in a fleet.

    Args:
        folder: Where its files are.
        tenant: Whose it is.
        device: Its name.
        profile: Its device profile.
        manager_url: Of the manager, without a slash at the end.
        broker_host: Where MQTT is.
        broker_port: Where MQTT is.
        broker_tls: Whether MQTT is encrypted.
        device_token: For HTTPS.
    """

    folder: Path
    tenant: str
    device: str
    profile: str
    manager_url: str
    broker_host: str
    broker_port: int
    broker_tls: bool
    device_token: str

    @property
    def key_file(self) -> Path:
        """The device's key."""
        return self.folder / KEY

    @property
    def cert_file(self) -> Path:
        """The certificate of its key."""
        return self.folder / CERTIFICATE

    @property
    def ca_file(self) -> Path:
        """What broker and manager are checked against."""
        return self.folder / AUTHORITY

    @property
    def topics(self) -> Topics:
        """Its topics."""
        return Topics(self.tenant, self.device)

    def __repr__(self) -> str:
        return f"Enrolment({self.tenant}/{self.device} at {self.manager_url})"  # without its token


def load(folder: Path) -> Enrolment:
    """Read an enrolment.

    Args:
        folder: Where `edge-runtime enrol` put it.

    Raises:
        ConfigError: There is none, or a file of it is missing or damaged.
    """
    try:
        found = Enrolled.model_validate_json((folder / FILE).read_bytes())
    except OSError as error:
        raise ConfigError(f"enrolment {folder / FILE}", got=error.strerror or str(error), do=_DO) from error
    except ValidationError as error:
        raise ConfigError(f"enrolment {folder / FILE}: cannot be read", got=_first(error), do=_DO) from error
    missing = [name for name in (KEY, CERTIFICATE, AUTHORITY, TUF_ROOT) if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"enrolment {folder}", expected=", ".join(missing), got="no such file", do=_DO)
    return Enrolment(
        folder=folder,
        tenant=found.tenant,
        device=found.device,
        profile=found.profile,
        manager_url=found.manager_url,
        broker_host=found.broker.host,
        broker_port=found.broker.port,
        broker_tls=found.broker.tls,
        device_token=found.device_token,
    )


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(str(each) for each in first['loc'])}: {first['msg']}"
