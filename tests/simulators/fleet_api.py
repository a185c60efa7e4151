"""A manager's API on a real database and real trust, with an operator that only notes what it is asked."""

import base64
import hashlib
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from starlette.testclient import TestClient

# pyright: reportPrivateImportUsage=false
# python-tuf documents these names where they are imported from, but does not mark them as public.
from tuf.api.metadata import Metadata, TargetFile, Targets

from cloud_fallback.fleet.api.app import make_app
from cloud_fallback.fleet.api.artifacts import artifacts_for
from cloud_fallback.fleet.api.auth import TOKEN, Gate, digest_of, new_secret
from cloud_fallback.fleet.api.authority import Authority
from cloud_fallback.fleet.api.manager import Manager
from cloud_fallback.fleet.api.metrics import Metrics
from cloud_fallback.fleet.database import people
from cloud_fallback.fleet.database.connection import Database, open_database
from cloud_fallback.fleet.database.metadata import StoredMetadata
from cloud_fallback.fleet.init import Wish, prepare
from cloud_fallback.fleet.operator import Figures
from cloud_fallback.fleet.settings import ManagerSettings, load_manager_settings
from cloud_fallback.fleet.trust.ceremony import delegate
from cloud_fallback.fleet.trust.keys import load_public, load_signer, new_key, public_file
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.trust.roles import at, seal
from cloud_fallback.fleet.views import Role
from cloud_fallback.fleet.watch import Watch, Watches
from edge_runtime.contract.errors import DeadlineError
from edge_runtime.contract.fleet import Command, Reply

TENANT = "acme"


@dataclass
class NotingOperator:
    """Notes nudges and commands; answers those to devices that `answers` has."""

    connected: bool = True
    nudges: int = 0
    expelled: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])
    commands: list[tuple[str, Command]] = field(default_factory=list[tuple[str, Command]])
    answers: dict[str, Reply] = field(default_factory=dict[str, Reply])
    watches: Watches = field(default_factory=Watches)
    opened: list[Watch] = field(default_factory=list[Watch])

    def nudge(self) -> None:
        self.nudges += 1

    def command(self, device: str, command: Command, timeout_s: float) -> Reply:
        self.commands.append((device, command))
        if device not in self.answers:
            raise DeadlineError(f"device {device}", got=f"no answer in {timeout_s:g} s")
        return self.answers[device].model_copy(update={"id": command.id})

    def expel(self, device: str, *, forget: bool) -> None:
        self.expelled.append((device, forget))

    def watch(self) -> Watch:
        self.opened.append(self.watches.new())
        return self.opened[-1]

    def figures(self) -> Figures:
        return Figures(
            leads=True,
            connected=self.connected,
            waiting=0,
            messages=3,
            published=2,
            bad={},
            rollouts=0,
            turn_s=0.01,
        )


@dataclass
class Site:
    """A manager in a folder, and one token of each role."""

    folder: Path
    settings: ManagerSettings
    manager: Manager
    operator: NotingOperator
    app: FastAPI
    tokens: dict[str, str]
    now_s: list[float]

    def client(self, role: str | None = "admin") -> TestClient:
        return TestClient(self.app, headers=self.headers(role), raise_server_exceptions=False)

    def headers(self, role: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[role]}"} if role is not None else {}

    def publish(self, name: str, counter: int, content: bytes, version: str = "1.0.0") -> str:
        """Sign a release of a family and take its metadata in; gives its path."""
        path = f"model/{name}/{counter}-{version}.zip"
        self.sign(name, {path: (content, {"counter": counter, "tenant": TENANT, "version": version})})
        return path

    def sign(self, name: str, targets: dict[str, tuple[bytes, dict[str, Any]]]) -> None:
        """Sign a family's targets with its own key, as a publisher does, and take the metadata in."""
        repository, now_s = self.manager.repository, self.now_s[0]
        if repository.current(f"model.{name}") is None:
            before = repository.current("targets")
            assert before is not None
            repository.accept("targets", delegated(before, self.folder / "keys", name, now_s), now_s)
        held = repository.current(f"model.{name}")
        signed = family(held, self.folder / "keys", name, targets, now_s)
        repository.accept(f"model.{name}", signed, now_s)


def delegated(before: bytes, keys: Path, name: str, now_s: float) -> bytes:
    """Give a family to a new key, `model.NAME.pem` beside the others."""
    key = keys / f"model.{name}.pem"
    new_key(key)
    new = delegate(before, "model", name, [load_public(public_file(key))], now_s)
    return seal(new, [load_signer(keys / "targets.pem")])


def family(
    held: bytes | None, keys: Path, name: str, targets: dict[str, tuple[bytes, dict[str, Any]]], now_s: float
) -> bytes:
    """Sign a family's metadata with more targets than it had."""
    metadata: Metadata[Targets]
    if held is None:
        metadata = Metadata(Targets(version=1))
    else:
        metadata = Metadata[Targets].from_bytes(held)
        metadata.signed.version += 1
        metadata.signatures.clear()
    metadata.signed.expires = at(now_s + 86400 * 30)
    for path, (content, custom) in targets.items():
        digest = hashlib.sha256(content).hexdigest()
        metadata.signed.targets[path] = TargetFile(len(content), {"sha256": digest}, path, {"custom": custom})
    return seal(metadata, [load_signer(keys / f"model.{name}.pem")])


@contextmanager
def site_in(folder: Path, database_url: str = "sqlite:///fleet.db") -> Generator[Site]:
    """Make a manager's folder as `fleet init` does, and its application."""
    wish = Wish(tenant=TENANT, url="http://127.0.0.1:8443", database=database_url)
    ready = prepare(folder, wish)
    settings = load_manager_settings(folder / "manager.yaml")
    database, operator, now_s = open_database(settings.database), NotingOperator(), [time.time()]
    try:
        manager = manager_on(settings, database, operator, now_s)
        tokens = {"admin": ready.token or ""}
        roles: tuple[Role, ...] = ("operator", "viewer")
        for role in roles:
            secret = new_secret(TOKEN)
            with database.begin() as tx:
                people.create(tx, role, role, digest_of(secret), by="test", now_s=now_s[0])
            tokens[role] = secret
        yield Site(folder, settings, manager, operator, make_app(manager), tokens, now_s)
    finally:
        database.close()


def manager_on(
    settings: ManagerSettings, database: Database, operator: NotingOperator, now_s: list[float]
) -> Manager:
    """Make one manager, of one or of several, on a database."""
    store = StoredMetadata(database, lambda: now_s[0])
    repository = Repository(store, [load_signer(settings.trust.online_key)])
    first = settings.trust.metadata
    repository.begin((first / "root.json").read_bytes(), (first / "targets.json").read_bytes(), now_s[0])
    metrics = Metrics()
    return Manager(
        settings=settings,
        database=database,
        repository=repository,
        operator=operator,
        authority=Authority.load(settings.authority.certificate, settings.authority.key, TENANT),
        artifacts=artifacts_for(settings.artifacts),
        gate=Gate(database, lambda: now_s[0], metrics.failed_logins.inc),
        metrics=metrics,
        now_s=lambda: now_s[0],
    )


def csr_for(
    name: str = "whoever", key: ec.EllipticCurvePrivateKey | None = None, *, wants_ca: bool = False
) -> str:
    """Make a device's certificate signing request."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if wants_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    request = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def content_digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@contextmanager
def listening(app: FastAPI) -> Generator[str]:
    """Serve an application on a free port of this machine; gives its URL."""
    config: Any = uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline and thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def enrol(site: Site, name: str, key: ec.EllipticCurvePrivateKey | None = None) -> dict[str, Any]:
    """Enrol a device by its name and give what it keeps."""
    client = site.client("operator")
    made = client.post("/v1/enrolments", json={"device": name})
    assert made.status_code == 201, made.text
    body = {"token": made.json()["token"], "profile": "store-pc-cpu", "agent": "0.1", "csr": csr_for(key=key)}
    answer = TestClient(site.app).post("/v1/enrol", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def error_of(answer: Any) -> dict[str, Any]:
    """Give the one form of all errors."""
    document = answer.json()
    assert set(document) == {"error"}, document
    assert set(document["error"]) == {"code", "message", "expected", "got", "do"}
    return document["error"]
