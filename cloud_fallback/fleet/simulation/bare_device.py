"""A real device without an agent: its link, its updater and its downloads are real ones, its trials are not.

It says that every trial went well, runs nothing and has no cameras. For what a link does to a device, where a
whole agent would only cost time.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
from pydantic import JsonValue

from cloud_fallback.fleet.simulation.headquarters import Headquarters
from cloud_fallback.fleet.simulation.uplink import Uplink
from edge_runtime.contract.errors import RefusedError
from edge_runtime.contract.fleet import Have, Health, Kind, Wanted
from edge_runtime.fleet.assemble import assemble
from edge_runtime.fleet.enrolling import Wish, enrol
from edge_runtime.fleet.enrolment import Enrolment
from edge_runtime.update.artifacts import FleetArtifacts, client_of
from edge_runtime.update.contents import Contents
from edge_runtime.update.device import SystemClock, SystemMachine
from edge_runtime.update.download import Downloader
from edge_runtime.update.effects import Identity, Ports
from edge_runtime.update.health import Evidence
from edge_runtime.update.metadata import TufMetadata
from edge_runtime.update.updater import Patience, Updater

_PATIENCE = Patience(attempts=1000, first_s=0.2, longest_s=1.0)
"""A bad link here lasts for seconds, not for a night."""


class _Passes:
    """Every trial goes well."""

    def run(
        self, wanted: Wanted, active: Path | None, candidate: Path, stop: Callable[[], bool]
    ) -> Evidence | None:
        return None if stop() else Evidence()

    def adopt(self, kind: Kind, name: str, folder: Path) -> None:
        """Nothing runs here."""

    def restore(self, kind: Kind, name: str) -> None:
        """Nothing runs here."""

    def dismiss(self, kind: Kind, name: str) -> None:
        """Nothing is tried here."""


class _NoHands:
    """Has nothing that a command could touch."""

    allows_snapshots = False

    def restart_pipeline(self, camera: str | None) -> None:
        raise RefusedError("no pipeline here")

    def set_log_level(self, level: str, seconds: float | None) -> None:
        raise RefusedError("no log here")

    def snapshot(self, camera: str) -> bytes:
        raise RefusedError("no camera here")

    def benchmark(self, seconds: float) -> dict[str, JsonValue]:
        raise RefusedError("nothing to measure here")

    def health(self) -> Health:
        return Health()


class BareDevice:
    """A device that is connected while the block lasts.

    Args:
        enrolment: Who it is.
        report_every_s: It reports at least so often.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        *,
        report_every_s: float = 300.0,
    ) -> None:
        self.name = enrolment.device
        client = client_of(enrolment.device_token, enrolment.ca_file, enrolment.manager_url)
        downloader = Downloader(f"{enrolment.manager_url}/artifacts", client=client)
        ports = Ports(
            metadata=TufMetadata(enrolment.folder / "tuf", f"{enrolment.manager_url}/tuf", client),
            artifacts=FleetArtifacts(downloader, Contents(trusted=None, check_settings=lambda file: None)),
            trial=_Passes(),
            clock=SystemClock(),
            machine=SystemMachine(),
        )
        identity = Identity(enrolment.tenant, enrolment.device, enrolment.profile)
        self._updater = Updater(
            enrolment.folder / "updates", identity, ports, dice=random.random, patience=_PATIENCE
        )
        self._device = assemble(
            enrolment,
            self._updater,
            _NoHands(),
            clock=ports.clock,
            dice=random.random,
            report_every_s=report_every_s,
        )

    def __enter__(self) -> "BareDevice":
        self._device.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._device.close()

    def have(self) -> tuple[Have, ...]:
        """Say what it has."""
        return self._updater.have()


def enrol_behind(hq: Headquarters, client: httpx.Client, uplink: Uplink, name: str) -> Enrolment:
    """Enrol a device, and have all its traffic go over a line from then on.

    Args:
        hq: Its headquarters.
        client: Of the API, with a token.
        uplink: With ports for `api` and `broker`.
        name: Of the device; its files are in a folder of that name beside the headquarters'.

    Raises:
        EdgeRuntimeError: The manager refuses.
    """
    token = hq.ask(client, "POST", "/v1/enrolments", {"device": name, "expires_s": 600})["token"]
    wish = Wish(token=token, name=name, profile="store-pc-cpu", agent="bare", timezone="UTC")
    enrolled, _ = enrol(hq.url, wish, hq.folder.parent / name, ca_file=hq.authority)
    return replace(
        enrolled,
        manager_url=f"https://127.0.0.1:{uplink.ports['api']}",
        broker_port=uplink.ports["broker"],
    )
