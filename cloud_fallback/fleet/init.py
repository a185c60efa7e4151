"""Makes the folder that a manager starts from: settings, authority, certificates, keys, database, broker.

What is there stays and what is missing is made, so that it can be run again: after a kill, or for a new
certificate in the place of one that was removed. Starts nothing.
"""

import getpass
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from cloud_fallback.fleet.api.auth import TOKEN, digest_of, new_secret
from cloud_fallback.fleet.api.authority import Authority, make_authority
from cloud_fallback.fleet.broker import MANAGER_USER, BrokerFiles, access_list, configuration
from cloud_fallback.fleet.database import audit, devices, people
from cloud_fallback.fleet.database.connection import migrate, open_database
from cloud_fallback.fleet.settings import (
    DatabaseUrl,
    Host,
    ManagerSettings,
    PublicUrl,
    load_manager_settings,
)
from cloud_fallback.fleet.trust.ceremony import make_first
from edge_runtime.atomic import new_file, new_folder
from edge_runtime.contract.address import is_loopback
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.fleet import Id

SETTINGS = "manager.yaml"
_SERVER_DAYS = 825
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SECRET, _PUBLIC = 0o600, 0o644
_ALL = "0.0.0.0"  # noqa: S104, stores come from everywhere, with a certificate or a token


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new manager is to be.

    Args:
        tenant: Whose fleet.
        url: Where devices and people reach the manager.
        broker_host: Where devices reach the broker; None: the host of `url`.
        broker_port: For devices.
        manager_port: Of the broker, for managers on its machine.
        names: Further names of this machine, for the certificates.
        database: SQLite's file in the folder, or PostgreSQL.
        root_keys: How many root keys.
        threshold: How many of them have to sign a root.
    """

    tenant: str
    url: str
    broker_host: str | None = None
    broker_port: int = 8883
    manager_port: int = 8884
    names: tuple[str, ...] = ()
    database: str = "sqlite:///fleet.db"
    root_keys: int = 1
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class Ready:
    """A folder from which a manager can start.

    Args:
        folder: Absolute.
        made: Files and folders that were not there before.
        token: Of the first admin, shown this once; None: there is an admin already.
        url: Of the manager.
        offline: Keys that belong on another medium.
    """

    folder: Path
    made: tuple[str, ...]
    token: str | None
    url: str
    offline: tuple[str, ...]


def prepare(folder: Path, wish: Wish) -> Ready:
    """Make what is missing of a manager's folder.

    Args:
        folder: For everything; made when absent.
        wish: What it is to be; settings that are there already stand above it.

    Raises:
        ConfigError: The wish cannot be, or the settings that are there are wrong or another tenant's.
        StorageError: The disk is full, read-only or broken, or the database does not open.
    """
    _check(wish)
    site = _Site(folder.absolute(), time.time())
    site.make(SETTINGS, lambda: _settings_text(wish).encode(), _SECRET)
    settings = load_manager_settings(site.folder / SETTINGS)
    for name, wanted, found in (
        ("tenant", wish.tenant, settings.tenant),
        ("url", wish.url, settings.url),
    ):
        if wanted != found:
            raise ConfigError(
                f"{site.folder / SETTINGS}: {name}", expected=wanted, got=found, do="Take another folder"
            )
    authority = _authority(site, settings)
    _certificates(site, authority, settings, wish.names)
    _trust(site, wish)
    token = _database(site, settings, authority)
    _broker(site, settings)
    keys = site.folder / "keys"
    offline = sorted(
        str(path.relative_to(site.folder))
        for pattern in ("root-*.pem", "targets.pem")
        for path in keys.glob(pattern)
    )
    return Ready(site.folder, tuple(site.made), token, settings.url, tuple(offline))


def _check(wish: Wish) -> None:
    """Refuse what could be no manager's before a file is made: what is there would stay."""
    host = wish.broker_host or urlsplit(wish.url).hostname
    values: list[tuple[str, Any, object]] = [
        ("tenant", Id, wish.tenant),
        ("url", PublicUrl, wish.url),
        ("broker host", Host, host),
        ("database", DatabaseUrl, wish.database),
        *(("name", Host, each) for each in wish.names),
    ]
    for name, kind, value in values:
        try:
            TypeAdapter(kind).validate_python(value, context={"folder": Path()})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            expected = first.get("ctx", {}).get("expected")
            raise ConfigError(f"{name}: {first['msg']}", expected=expected, got=repr(value)) from error
    if wish.broker_port == wish.manager_port:
        raise ConfigError(
            "the broker's ports", expected="one for devices and one for managers", got=str(wish.broker_port)
        )


@dataclass(slots=True)
class _Site:
    """The folder, and what was made in it by now."""

    folder: Path
    now_s: float
    made: list[str] = field(default_factory=list[str])

    def make(self, name: str, content: Callable[[], bytes], mode: int) -> None:
        """Write a file, unless it is there."""
        if not (self.folder / name).exists():
            self.write(self.folder / name, content(), mode)

    def write(self, path: Path, content: bytes, mode: int) -> None:
        """Write a file, whole or not at all, that only this user reads from the beginning."""
        with new_file(path) as stream:
            if os.name != "nt":  # which has no such modes
                os.fchmod(stream.fileno(), mode)
            stream.write(content)
        self.made.append(
            str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)
        )


def _settings_text(wish: Wish) -> str:
    parts = urlsplit(wish.url)
    host = parts.hostname or ""
    local = is_loopback(host)
    broker_host = wish.broker_host or host
    return f"""\
# The manager of a fleet: edge-runtime fleet manager --settings {SETTINGS}
# Relative paths are relative to this file. Every key is in docs/reference/manager-yaml.
version: 1
tenant: {wish.tenant}
url: {wish.url}

listen:
  host: {"127.0.0.1" if local else _ALL}
  port: {parts.port or 443}
  certificate: tls/manager.crt
  key: tls/manager.key

database: {wish.database}

broker:
  host: 127.0.0.1
  port: {wish.manager_port}
  ca: authority/authority.crt
  certificate: tls/broker-client.crt
  key: tls/broker-client.key
  public:
    host: {broker_host}
    port: {wish.broker_port}

authority:
  certificate: authority/authority.crt
  key: authority/authority.key
  revoked: authority/revoked.pem

artifacts:
  folder: artifacts

trust:
  online_key: keys/online.pem
  metadata: keys
"""


def _authority(site: _Site, settings: ManagerSettings) -> Authority:
    certificate, key = settings.authority.certificate, settings.authority.key
    if not certificate.exists() and not key.exists():
        pem, secret = make_authority(settings.tenant, now_s=site.now_s)
        site.write(key, secret, _SECRET)
        site.write(certificate, pem, _PUBLIC)
    elif not certificate.exists():
        raise StorageError(
            f"{certificate}: is missing", expected="beside its key", do=f"Restore it, or remove {key}, too"
        )
    return Authority.load(certificate, key, settings.tenant)


def _certificates(
    site: _Site, authority: Authority, settings: ManagerSettings, names: tuple[str, ...]
) -> None:
    host, broker = urlsplit(settings.url).hostname or "", settings.broker
    tls = site.folder / "tls"
    wanted: tuple[tuple[Path | None, Path | None, str, tuple[str, ...]], ...] = (
        (settings.listen.certificate, settings.listen.key, "manager", (host, *names, *_LOCAL)),
        (
            tls / "broker.crt",
            tls / "broker.key",
            "broker",
            (broker.for_devices[0], broker.host, *names, *_LOCAL),
        ),
        (broker.certificate, broker.key, MANAGER_USER, ()),
    )
    for certificate, key, name, hosts in wanted:
        if certificate is None or key is None or (certificate.exists() and key.exists()):
            continue
        pem, secret = authority.issue(name, now_s=site.now_s, days=_SERVER_DAYS, hosts=hosts)
        site.write(key, secret, _SECRET)
        site.write(certificate, pem, _PUBLIC)


def _trust(site: _Site, wish: Wish) -> None:
    """Make all keys and what they sign first, together or not at all."""
    keys = site.folder / "keys"
    if keys.exists():
        return
    with new_folder(keys, may_replace=lambda _: None) as part:
        first = make_first(part, wish.tenant, site.now_s, root_keys=wish.root_keys, threshold=wish.threshold)
        (part / "root.json").write_bytes(first.root)
        (part / "targets.json").write_bytes(first.targets)
        part.chmod(0o700)
    site.made.append("keys/")


def _database(site: _Site, settings: ManagerSettings, authority: Authority) -> str | None:
    """Make the tables, the list of revoked certificates that the broker needs, and the first token."""
    database = open_database(settings.database)
    try:
        migrate(database)
        if database.file is not None:
            database.file.chmod(_SECRET)
        with database.begin() as tx:
            serials = devices.revoked_serials(tx)
            authority.write_revoked(serials, settings.authority.revoked, now_s=site.now_s)
            if any(each.role == "admin" and each.revoked_at is None for each in people.listing(tx)):
                return None
            secret = new_secret(TOKEN)
            people.create(tx, "admin", "admin", digest_of(secret), by="fleet init", now_s=site.now_s)
            audit.write(tx, "fleet init", "token.create", "admin", "role admin", site.now_s)
        site.made.append("token of the first admin")
        return secret
    finally:
        database.close()


def _broker(site: _Site, settings: ManagerSettings) -> None:
    host, port = settings.broker.for_devices
    state, access = site.folder / "mosquitto", "mosquitto.acl"
    state.mkdir(exist_ok=True)
    files = BrokerFiles(
        authority=settings.authority.certificate,
        certificate=site.folder / "tls/broker.crt",
        key=site.folder / "tls/broker.key",
        revoked=settings.authority.revoked,
        access=site.folder / access,
        state=state,
    )
    text = configuration(
        files,
        port=port,
        manager_port=settings.broker.port,
        bind="127.0.0.1" if is_loopback(host) else _ALL,
        user=getpass.getuser(),
    )
    site.make(access, lambda: access_list(settings.tenant).encode(), _SECRET)
    site.make("mosquitto.conf", text.encode, _PUBLIC)
