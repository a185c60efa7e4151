"""What `manager.yaml` may say, and how it is read.

Holds and checks values. Opens no database, no port and no key; who needs a file reads it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, model_validator

from edge_runtime.contract.address import is_loopback
from edge_runtime.contract.fleet import Id
from edge_runtime.settings.base import OwnPath, Settings, beside_the_file, refuse
from edge_runtime.settings.document import read_document
from edge_runtime.settings.problems import Problem, SettingsError, explain

Host = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._:-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]

_SQLITE = "sqlite:///"
_DATABASES = (_SQLITE, "postgresql://")


def _https(url: str) -> str:
    parts = urlsplit(url)
    fits = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not fits or not _has_host(parts) or parts.query or parts.fragment or parts.username:
        raise refuse(
            "not an address that devices can be sent to",
            "https://HOST[:PORT][/PATH], without user, ? and #",
            "Plain http is taken for this machine only.",
        )
    return url.rstrip("/")


def _has_host(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def _database(url: str, info: ValidationInfo) -> str:
    if not url.startswith(_DATABASES):
        raise refuse("not a database", f"one of {', '.join(_DATABASES)}", "SQLite is sqlite:///fleet.db.")
    if url.startswith(_SQLITE):
        return _SQLITE + str(beside_the_file(Path(url.removeprefix(_SQLITE)), info))
    return url


PublicUrl = Annotated[str, AfterValidator(_https)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]


class ListenSettings(Settings):
    """Where the API and the console listen."""

    host: Host = Field(default="127.0.0.1", description="address of this machine; 0.0.0.0: all")
    port: int = Field(default=8443, ge=0, le=65535, description="0: any that is free")
    certificate: OwnPath | None = Field(default=None, description="PEM, with what is between it and the root")
    key: OwnPath | None = Field(default=None, description="PEM, of the certificate")
    plain: bool = Field(
        default=False, description="no TLS here although others reach it: something in front has it"
    )
    proxies: tuple[Host, ...] = Field(
        default=(), description="addresses whose X-Forwarded-For is believed, as of what is in front"
    )

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise refuse("a certificate needs its key", "both, or neither", "Add the one that is missing.")
        if self.certificate is None and not self.plain and not is_loopback(self.host):
            raise refuse(
                f"others can reach {self.host} without TLS",
                "certificate and key",
                "Set both, or plain: true behind a proxy that has them.",
            )
        return self


class PublicBroker(Settings):
    """Where devices find the broker, if that is not where the manager does."""

    host: Host
    port: Port = 8883


class BrokerSettings(Settings):
    """The MQTT broker, as the manager connects to it with a certificate of its own."""

    host: Host = "127.0.0.1"
    port: Port = 8883
    ca: OwnPath | None = Field(default=None, description="PEM, that the broker's certificate is checked with")
    certificate: OwnPath | None = Field(default=None, description="PEM, the manager's own")
    key: OwnPath | None = Field(default=None, description="PEM, of the certificate")
    tls: bool = Field(default=True, description="false: on this machine only")
    public: PublicBroker | None = None

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if not self.tls:
            if not is_loopback(self.host):
                raise refuse(f"{self.host} without TLS", "tls: true", "Only this machine may do without.")
        elif self.ca is None or self.certificate is None or self.key is None:
            raise refuse(
                "TLS needs files", "ca, certificate and key", "`edge-runtime fleet init` makes them."
            )
        return self

    @property
    def for_devices(self) -> tuple[str, int]:
        """Host and port that devices are told."""
        return (self.public.host, self.public.port) if self.public else (self.host, self.port)


class AuthoritySettings(Settings):
    """Who signs the certificates of devices."""

    certificate: OwnPath = Field(description="PEM")
    key: OwnPath = Field(description="PEM; the most secret file of all")
    revoked: OwnPath = Field(description="CRL that is written here for the broker to read")
    device_days: int = Field(
        default=730, ge=1, le=3650, description="that a device's certificate is good for"
    )
    trusted: OwnPath | None = Field(
        default=None, description="PEM that devices check manager and broker with; absent: the certificate"
    )


class ArtifactSettings(Settings):
    """Where the bytes of versions are: a folder, or an object store by URL."""

    folder: OwnPath = Field(description="whole files; with `url` only where uploads are put together")
    url: str | None = Field(default=None, description="anything fsspec opens, as s3://bucket/fleet")
    public_url: PublicUrl | None = Field(
        default=None, description="devices are sent there for bytes: a CDN or public store with these files"
    )
    presign: bool = Field(default=False, description="devices are sent to a signed address of the store")
    presign_s: int = Field(default=3600, ge=60, le=7 * 86400, description="how long that is good")
    max_bytes: int = Field(default=8 << 30, ge=1, description="of one file")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.presign and (self.url is None or self.public_url is not None):
            raise refuse("presign", "a url and no public_url", "Only a store signs addresses.")
        return self


class TrustSettings(Settings):
    """The keys behind metadata that this process holds, and the metadata a new database begins with."""

    online_key: OwnPath = Field(description="signs snapshot, timestamp and reverts; nothing new")
    former_key: OwnPath | None = Field(
        default=None, description="the online key before, only while the new one takes its place"
    )
    metadata: OwnPath = Field(description="folder with the first root and targets, as `fleet keys` makes it")
    refresh_s: float = Field(default=3600.0, ge=1, description="how often it is seen to what expires")


class ManagerSettings(Settings):
    """`manager.yaml`."""

    version: Literal[1] = 1
    tenant: Id = Field(description="whose fleet it is; part of every topic and certificate")
    url: PublicUrl = Field(description="where devices and people reach this manager")
    listen: ListenSettings = ListenSettings()
    database: DatabaseUrl = Field(
        default="sqlite:///fleet.db", validate_default=True, description="SQLite's file, or PostgreSQL"
    )
    broker: BrokerSettings
    authority: AuthoritySettings
    artifacts: ArtifactSettings
    trust: TrustSettings
    replica: Id | None = Field(
        default=None, description="name of this process among several managers; absent: of machine and port"
    )
    drain_s: int = Field(default=10, ge=0, le=600, description="for requests under way when it is stopped")


def load_manager_settings(path: Path, environment: Mapping[str, str] | None = None) -> ManagerSettings:
    """Read `manager.yaml`. Relative paths in it are relative to its folder.

    Args:
        path: The file.
        environment: For `${NAME}`; None: this process's.

    Raises:
        SettingsError: Names file, line and path of everything that is wrong.
        ConfigError: The file cannot be read or is not YAML.
    """
    document = read_document(path, os.environ if environment is None else environment)
    problems = [Problem(keys, problem, do=do) for keys, problem, do in document.faults]
    if not isinstance(document.data, dict):
        raise SettingsError(document, [Problem((), "", "a mapping with tenant, url, broker, …")])
    settings: ManagerSettings | None = None
    try:
        context = {"folder": path.parent.absolute()}
        settings = ManagerSettings.model_validate(document.data, context=context)
    except ValidationError as error:
        problems += explain(error, document, ManagerSettings.model_json_schema())
    if settings is None or problems:
        raise SettingsError(document, problems)
    return settings
