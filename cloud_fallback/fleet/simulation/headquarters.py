"""A whole fleet's headquarters on this machine: broker and manager as two processes, with keys and an admin.

For the demo, the benchmark and tests. Makes its folder by `fleet init` and starts what an operator would;
every process is ended by its id. A real one keeps its offline keys elsewhere.
"""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from cloud_fallback.fleet.cli.client import Connection
from cloud_fallback.fleet.cli.publishing_link import HttpManager
from cloud_fallback.fleet.init import SETTINGS, Wish, prepare
from cloud_fallback.fleet.trust.ceremony import delegate
from cloud_fallback.fleet.trust.keys import load_signer, new_key
from cloud_fallback.fleet.trust.packing import pack
from cloud_fallback.fleet.trust.publishing import Published, publish
from cloud_fallback.fleet.trust.roles import seal
from cloud_fallback.fleet.views import DeploymentView
from edge_runtime.contract.errors import ConfigError, RemoteError
from edge_runtime.contract.fleet import Kind

MANAGER = (sys.executable, "-m", "edge_runtime", "fleet", "manager")
_START_S = 60.0
_STOP_S = 20.0
_HERE = "127.0.0.1"


def find_mosquitto(path: str | None = None) -> str:
    """Find the broker's program.

    Args:
        path: Folders to look in, as in PATH; None: PATH's, and where Debian puts it for root alone.

    Raises:
        ConfigError: It is not installed.
    """
    everywhere = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("mosquitto", path=everywhere if path is None else path)
    if found is None:
        raise ConfigError(
            "no mosquitto on this machine",
            expected="the MQTT broker, 2.0 or newer",
            do="Debian, Ubuntu: sudo apt install mosquitto. macOS: brew install mosquitto. "
            "Others: https://mosquitto.org/download",
        )
    return found


class Headquarters:
    """Broker and manager of a new fleet.

    Args:
        folder: For everything; absent, or empty.
        tenant: Whose fleet.
        ports: Of the API, of the broker for devices, and for the manager; None: such as are free.
        database: URL; None: SQLite in the folder.

    Raises:
        ConfigError: mosquitto is not installed, or the folder is another fleet's.
        StorageError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        tenant: str = "demo",
        ports: Sequence[int] | None = None,
        *,
        database: str | None = None,
    ) -> None:
        self._mosquitto = find_mosquitto()
        self.folder = folder.absolute()
        self.tenant = tenant
        self.api_port, self.broker_port, self._manager_port = ports or free_ports(3)
        self.url = f"https://{_HERE}:{self.api_port}"
        wish = Wish(tenant, self.url, broker_port=self.broker_port, manager_port=self._manager_port)
        ready = prepare(self.folder, wish if database is None else replace(wish, database=database))
        if ready.token is None:
            raise ConfigError(f"{self.folder}", expected="an empty folder", got="another fleet's")
        self.token = ready.token
        self.authority = self.folder / "authority" / "authority.crt"
        self._broker: subprocess.Popen[bytes] | None = None
        self._manager: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Headquarters":
        try:
            self.start_broker()
            self.start_manager()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End manager, then broker."""
        self._manager = _ended(self._manager)
        self._broker = _ended(self._broker)

    @property
    def manager_pid(self) -> int:
        """Process id of the manager."""
        return self._manager.pid if self._manager is not None else 0

    @property
    def broker_pid(self) -> int:
        """Process id of the broker."""
        return self._broker.pid if self._broker is not None else 0

    def start_broker(self) -> None:
        """Start mosquitto, and wait until it listens.

        Raises:
            RemoteError: It does not start.
        """
        command = (self._mosquitto, "-c", str(self.folder / "mosquitto.conf"))
        self._broker = self._started(command, "mosquitto.log")
        self._wait(self._broker, "mosquitto.log", self._broker_listens)

    def start_manager(self) -> None:
        """Start the manager, and wait until it is ready.

        Raises:
            RemoteError: It does not start.
        """
        command = (*MANAGER, "--settings", str(self.folder / SETTINGS))
        self._manager = self._started(command, "manager.log")
        with self.client() as client:
            self._wait(self._manager, "manager.log", lambda: _is_ready(client))

    def kill_broker(self, *, forget: bool = False) -> None:
        """`kill -9` the broker.

        Args:
            forget: Whether what it kept on disk is lost, too.
        """
        _killed(self._broker)
        if forget:
            shutil.rmtree(self.folder / "mosquitto")
            (self.folder / "mosquitto").mkdir()

    def kill_manager(self) -> None:
        """`kill -9` the manager."""
        _killed(self._manager)

    def client(self) -> httpx.Client:
        """Make a client of the API with the admin's token."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            verify=ssl.create_default_context(cafile=self.authority),
            timeout=30.0,
        )

    def ask(self, client: httpx.Client, method: str, path: str, body: object = None) -> Any:
        """Ask the API.

        Raises:
            RemoteError: It does not answer, or refuses.
        """
        try:
            answer = client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise RemoteError(f"{self.url}{path}", retryable=True, got=str(error)) from error
        if answer.is_error:
            raise RemoteError(
                f"{self.url}{path}", retryable=False, got=f"{answer.status_code}: {answer.text[:500]}"
            )
        return answer.json()

    def deployment(self, client: httpx.Client, id_: str) -> DeploymentView:
        """Say how a deployment stands."""
        return DeploymentView.model_validate(self.ask(client, "GET", f"/v1/deployments/{id_}"))

    def delegate(self, kind: Kind, name: str) -> Path:
        """Let a new key release a family.

        Returns:
            The key.
        """
        key, now_s = self.folder / "keys" / f"{kind}-{name}.pem", time.time()
        public = new_key(key)
        with self.client() as client:
            targets = client.get("/v1/metadata/targets").raise_for_status().content
            made = delegate(targets, kind, name, [public], now_s)
            signed = seal(made, [load_signer(self.folder / "keys" / "targets.pem")])
            answer = client.put("/v1/metadata/targets", content=signed)
        if answer.is_error:
            raise RemoteError("delegation", retryable=False, got=f"{answer.status_code}: {answer.text[:500]}")
        return key

    def publish(
        self, source: Path, key: Path, *, name: str | None = None, version: str | None = None
    ) -> Published:
        """Publish a bundle, settings or labels, as `fleet publish` does.

        Raises:
            EdgeRuntimeError: It is none of these, or the manager refuses.
        """
        connection = Connection(self.url, self.token, self.authority)
        with tempfile.TemporaryDirectory() as folder, HttpManager(connection) as link:
            packed = pack(source, Path(folder), name=name, version=version)
            work = self.folder / "published"
            return publish(packed, [load_signer(key)], link, time.time(), work=work)

    def _started(self, command: Sequence[str], log: str) -> "subprocess.Popen[bytes]":
        with (self.folder / log).open("ab") as stream:
            return subprocess.Popen(
                command, stdout=stream, stderr=stream, env={**os.environ, "NO_COLOR": "1"}
            )

    def _wait(self, process: "subprocess.Popen[bytes]", log: str, ready: Callable[[], bool]) -> None:
        until_s = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < until_s:
            if ready():
                return
            time.sleep(0.05)
        raise RemoteError(
            f"{log.partition('.')[0]} did not start", retryable=False, do=f"See {self.folder / log}"
        )

    def _broker_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((_HERE, self._manager_port)) == 0


def free_ports(count: int) -> list[int]:
    """Find ports of this machine that nobody has."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((_HERE, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _is_ready(client: httpx.Client) -> bool:
    with suppress(httpx.HTTPError):
        return client.get("/readyz").is_success
    return False


def _ended(process: "subprocess.Popen[bytes] | None") -> None:
    if process is None:
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _killed(process: "subprocess.Popen[bytes] | None") -> None:
    if process is not None:
        process.kill()
        process.wait()
