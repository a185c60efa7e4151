"""A manager as `fleet init` makes it and `fleet manager` runs it: real processes, and a real mosquitto."""

import json
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from edge_runtime.fleet.assemble import assemble
from edge_runtime.fleet.device import FleetDevice
from edge_runtime.fleet.enrolling import Wish, enrol
from edge_runtime.fleet.enrolment import Enrolment
from tests.simulators.broker import MOSQUITTO, free_port, wait_until
from tests.simulators.fleet_api import content_digest, delegated, family
from tests.simulators.fleet_device import LiveWorld, NotedHands

CONTENT = random.Random(5).randbytes(1 << 20) * 48
"""More than sockets hold between a manager that is killed and a device."""
COMMAND = [sys.executable, "-m", "edge_runtime", "fleet"]


@dataclass
class Running:
    """A manager's folder, its processes, and a way to ask it."""

    folder: Path
    url: str
    token: str
    stack: ExitStack
    manager: "subprocess.Popen[str]" = field(init=False)
    broker: "subprocess.Popen[bytes]" = field(init=False)

    @property
    def ca(self) -> Path:
        return self.folder / "authority/authority.crt"

    def start_manager(self) -> None:
        log = self.stack.enter_context((self.folder / "manager.log").open("a"))
        self.manager = subprocess.Popen(
            [*COMMAND, "manager", "--settings", str(self.folder / "manager.yaml"), "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self.stack.enter_context(self.manager)
        self.stack.callback(self.manager.kill)
        wait_until(self._ready, 60)

    def start_broker(self) -> None:
        log = self.stack.enter_context((self.folder / "mosquitto.log").open("ab"))
        config = str(self.folder / "mosquitto.conf")
        self.broker = subprocess.Popen([str(MOSQUITTO), "-c", config], stdout=log, stderr=log)
        self.stack.enter_context(self.broker)
        self.stack.callback(self.broker.kill)

    def ask(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.token}", **more.pop("headers", {})}
        context = ssl.create_default_context(cafile=self.ca)
        with httpx.Client(verify=context, timeout=30) as client:
            return client.request(method, f"{self.url}{path}", headers=headers, **more)

    def enrol(self, name: str) -> Enrolment:
        made = self.ask("POST", "/v1/enrolments", json={"device": name}).json()
        wish = Wish(made["token"], None, "store-pc-cpu", "0.1", "Europe/Berlin")
        enrolment, new = enrol(self.url, wish, self.folder / "devices" / name, ca_file=self.ca)
        assert new and enrolment.device == name
        return enrolment

    def publish(self, path: str) -> None:
        keys, now_s = self.folder / "keys", time.time()
        targets = self.ask("GET", "/v1/metadata/targets").content
        new = delegated(targets, keys, "people", now_s)
        assert self.ask("PUT", "/v1/metadata/targets", content=new).status_code == 200
        custom = {"counter": 1, "tenant": "acme", "version": "1.0.0"}
        signed = family(None, keys, "people", {path: (CONTENT, custom)}, now_s)
        digest = {"content-digest": content_digest(CONTENT)}
        assert self.ask("PUT", f"/v1/artifacts/{path}", content=CONTENT, headers=digest).status_code == 200
        assert self.ask("PUT", "/v1/metadata/model.people", content=signed).status_code == 200
        assert self.ask("POST", "/v1/releases", json={"target": path}).status_code == 201

    def _ready(self) -> bool:
        assert self.manager.poll() is None, (self.folder / "manager.log").read_text()
        try:
            answer = self.ask("GET", "/readyz").json()
        except httpx.HTTPError:
            return False
        return answer["ready"] and answer["broker"] == "ok"


@contextmanager
def running_in(folder: Path) -> Generator[Running]:
    """Start broker and manager in a new folder."""
    ports = [free_port() for _ in range(3)]
    url = f"https://127.0.0.1:{ports[0]}"
    options = ["--tenant", "acme", "--url", url, "--json"]
    options += ["--broker-port", str(ports[1]), "--manager-port", str(ports[2])]
    command = [*COMMAND, "init", str(folder), *options]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    with ExitStack() as stack:
        site = Running(folder, url, json.loads(made.stdout)["token"], stack)
        site.start_broker()
        site.start_manager()
        yield site


def device_of(
    running: Running,
    enrolment: Enrolment,
    world: LiveWorld,
    *,
    dice: Callable[[], float] = random.random,
) -> FleetDevice:
    device = assemble(
        enrolment, world.updater(enrolment.folder / "updates"), NotedHands(), clock=world, dice=dice
    )
    device.start()
    running.stack.callback(device.close)
    return device
