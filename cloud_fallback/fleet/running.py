"""A manager from its settings to its end: database, trust, operator, and the API on its port.

The first SIGTERM or Ctrl-C drains: requests under way are answered and streams end; the second ends at once.
Several such processes may stand on one PostgreSQL.
"""

import asyncio
import logging
import random
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import disable_created_metrics

from cloud_fallback.fleet import console
from cloud_fallback.fleet.api.app import make_app
from cloud_fallback.fleet.api.artifacts import artifacts_for
from cloud_fallback.fleet.api.auth import Gate
from cloud_fallback.fleet.api.authority import Authority
from cloud_fallback.fleet.api.manager import Manager
from cloud_fallback.fleet.api.metrics import Metrics
from cloud_fallback.fleet.database.connection import Database, migrate, open_database
from cloud_fallback.fleet.database.metadata import StoredMetadata
from cloud_fallback.fleet.operator import Operator, subscriptions
from cloud_fallback.fleet.paho_bus import BusOptions, PahoBus
from cloud_fallback.fleet.settings import ManagerSettings
from cloud_fallback.fleet.trust.keys import load_signer
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.upkeep import Upkeep, keeping
from cloud_fallback.listening import DrainingServer, listen
from edge_runtime.contract.errors import ConfigError, RemoteError

log = logging.getLogger(__name__)

_SESSION_S = 86_400
"""What comes while the only manager is away waits for it. Where there may be several, a broker would go on to
give one that is gone its share of what devices say; and devices keep what nobody hears.
"""


@dataclass(frozen=True, slots=True)
class Managing:
    """What runs, and where.

    Args:
        url: Where it listens, on this machine.
        public_url: Where devices and people reach it.
        tenant: Whose fleet it is.
        broker: Host and port.
        database: `sqlite` or `postgresql`.
        replica: Its name among managers.
    """

    url: str
    public_url: str
    tenant: str
    broker: str
    database: str
    replica: str


def run(settings: ManagerSettings, told: Callable[[Managing], None]) -> None:
    """Manage until a signal comes.

    Args:
        settings: Checked.
        told: Called once, when requests are answered.

    Raises:
        ConfigError: A file that the settings name is wrong or missing.
        RemoteError: The port is taken.
        StorageError: The database cannot be opened, or a file cannot be written.
    """
    disable_created_metrics()  # a second series for each one, with the time it began
    with ExitStack() as stack:
        database = open_database(settings.database)
        stack.callback(database.close)
        log.info("database: %s, revision %s", database.dialect, migrate(database))
        listener = _listen(settings.listen.host, settings.listen.port)
        stack.callback(listener.close)
        replica = settings.replica or _replica(listener)
        repository = open_repository(settings, database)
        operator = _operator(settings, database, repository, replica)
        manager = make_manager(settings, database, repository, operator)
        manager.publish_revoked()
        stack.enter_context(keeping(Upkeep(manager, settings.trust.refresh_s)))
        operator.start()
        stack.callback(operator.close)
        app = make_app(manager, lambda app: console.attach(app, console.deps_for(manager)))
        managing = Managing(
            url=_url(settings, listener),
            public_url=settings.url,
            tenant=settings.tenant,
            broker=f"{settings.broker.host}:{settings.broker.port}",
            database=database.dialect,
            replica=replica,
        )
        asyncio.run(_serve(app, manager, listener, lambda: told(managing)))


def make_manager(
    settings: ManagerSettings, database: Database, repository: Repository, operator: Operator
) -> Manager:
    """Put together what the endpoints stand on.

    Args:
        settings: Checked.
        database: With its tables.
        repository: Begun.
        operator: Started or not.

    Raises:
        ConfigError: The authority's files are wrong, or the store of artifacts cannot be opened.
    """
    metrics = Metrics()
    return Manager(
        settings=settings,
        database=database,
        repository=repository,
        operator=operator,
        authority=Authority.load(settings.authority.certificate, settings.authority.key, settings.tenant),
        artifacts=artifacts_for(settings.artifacts),
        gate=Gate(database, time.time, metrics.failed_logins.inc),
        metrics=metrics,
        now_s=time.time,
    )


def open_repository(settings: ManagerSettings, database: Database) -> Repository:
    """Open the signed metadata of a database; an empty one begins with the first root of the settings.

    Args:
        settings: Checked.
        database: With its tables.

    Raises:
        ConfigError: The online key or the first metadata are missing, or another tenant's.
        UpdateFailedError: The first metadata is not signed as it should be.
    """
    trust, now_s = settings.trust, time.time()
    online = [load_signer(key) for key in (trust.online_key, trust.former_key) if key is not None]
    repository = Repository(StoredMetadata(database, time.time), online)
    root, targets = trust.metadata / "root.json", trust.metadata / "targets.json"
    try:
        repository.begin(root.read_bytes(), targets.read_bytes(), now_s)
    except OSError as error:
        raise ConfigError(
            f"trust.metadata: {error.filename}",
            expected="the first root.json and targets.json",
            got=error.strerror,
            do="Make them: edge-runtime fleet init",
        ) from error
    if repository.tenant != settings.tenant:
        raise ConfigError("trust.metadata: tenant", expected=settings.tenant, got=repository.tenant)
    # A database that was restored from a backup has older versions than devices have seen.
    repository.refresh(now_s, anyway=True)
    return repository


def _operator(
    settings: ManagerSettings, database: Database, repository: Repository, replica: str
) -> Operator:
    broker = settings.broker
    options = BusOptions(
        host=broker.host, port=broker.port, client_id=f"manager-{replica}", tls=broker_tls(settings),
        session_s=_SESSION_S if database.dialect == "sqlite" else 0,
    )  # fmt: skip
    bus = PahoBus(options, subscriptions(settings.tenant, replica))
    return Operator(
        database,
        bus,
        repository,
        tenant=settings.tenant,
        replica=replica,
        clock=time.time,
        dice=random.random,
    )


def broker_tls(settings: ManagerSettings) -> ssl.SSLContext | None:
    """Make the manager's side of TLS to the broker; None: the settings say that there is none.

    Raises:
        ConfigError: A file is missing or wrong.
    """
    broker = settings.broker
    if not broker.tls or broker.ca is None or broker.certificate is None:
        return None
    try:
        context = ssl.create_default_context(cafile=broker.ca)
        context.load_cert_chain(broker.certificate, broker.key)
    except OSError as error:  # what ssl raises is one
        raise ConfigError(
            "broker: ca, certificate and key", expected="three PEM files, key and certificate of each other",
            got=str(error), do="Make them: edge-runtime fleet init",
        ) from error  # fmt: skip
    return context


async def _serve(app: FastAPI, manager: Manager, listener: socket.socket, told: Callable[[], None]) -> None:
    listen = manager.settings.listen
    config: Any = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=bool(listen.proxies),
        forwarded_allow_ips=list(listen.proxies),
        timeout_graceful_shutdown=manager.settings.drain_s,
        ssl_certfile=listen.certificate,
        ssl_keyfile=listen.key,
    )
    try:
        config.load()
    except OSError as error:  # what ssl raises is one
        raise ConfigError(
            "listen: certificate and key", expected="PEM files of each other", got=str(error)
        ) from error
    server = DrainingServer(config, manager.stopping.set)
    told()
    await server.serve(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise RemoteError(
            f"{host}:{port}",
            retryable=False,
            expected="an address of this machine that is free",
            got=error.strerror or str(error),
            do="Choose another one in listen, or stop what listens there",
        ) from error


def _replica(listener: socket.socket) -> str:
    """Name this process among managers: the same after a restart, another one for each of a machine."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40] or "manager"
    return f"{host}-{listener.getsockname()[1]}"


def _url(settings: ManagerSettings, listener: socket.socket) -> str:
    host = settings.listen.host
    scheme = "http" if settings.listen.certificate is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
