"""Membership: this agent as a device of a fleet: its updates, its link to the manager, what both touch here.

Needs the extra `fleet`, and is imported only where settings have one. Decides nothing itself.
"""

import random
from collections.abc import Mapping
from typing import Any

from edge_runtime.agent.hands import AgentHands
from edge_runtime.agent.running import Running
from edge_runtime.agent.trial import AgentTrial
from edge_runtime.contract.status import FleetStatus, VersionStatus
from edge_runtime.fleet.assemble import assemble
from edge_runtime.fleet.enrolment import load
from edge_runtime.settings import FleetSettings
from edge_runtime.update.artifacts import FleetArtifacts, client_of
from edge_runtime.update.contents import Contents
from edge_runtime.update.device import SystemClock, SystemMachine
from edge_runtime.update.download import Downloader, DownloadOptions
from edge_runtime.update.effects import Identity, Ports
from edge_runtime.update.metadata import TufMetadata
from edge_runtime.update.updater import Updater


class Membership:
    """A device of a fleet, made and not yet started.

    Args:
        settings: The block `fleet`.
        agent: What runs.

    Raises:
        ConfigError: The device is not enrolled.
        StorageError: The journal of its updates cannot be read.
    """

    def __init__(self, settings: FleetSettings, agent: Running) -> None:
        self._enrolment = load(settings.folder)
        self._hands = AgentHands(agent, settings)
        self._trial = AgentTrial(agent)
        clock, enrolment = SystemClock(), self._enrolment
        client = client_of(enrolment.device_token, enrolment.ca_file, enrolment.manager_url)
        contents = Contents(trusted=agent.bundles.trusted, check_settings=self._trial.check_settings)
        options = DownloadOptions(bytes_per_s=settings.bytes_per_s)
        downloader = Downloader(f"{enrolment.manager_url}/artifacts", options, client)
        ports = Ports(
            metadata=TufMetadata(settings.folder / "tuf", f"{enrolment.manager_url}/tuf", client),
            artifacts=FleetArtifacts(downloader, contents),
            trial=self._trial,
            clock=clock,
            machine=SystemMachine(),
        )
        identity = Identity(enrolment.tenant, enrolment.device, enrolment.profile)
        self._updater = Updater(settings.folder / "updates", identity, ports, dice=random.random)
        self._device = assemble(
            enrolment,
            self._updater,
            self._hands,
            clock=clock,
            dice=random.random,
            report_every_s=settings.report_every_s,
        )
        self._closed = False

    def start(self) -> None:
        """Connect, report, and go on with updates where they were."""
        self._device.start()

    def close(self) -> None:
        """Say goodbye; an update that is under way goes on at the next start. Idempotent."""
        if not self._closed:
            self._closed = True
            self._device.close()
            self._trial.dismiss("model", "")
            self._hands.close()

    def status(self) -> FleetStatus:
        """Say how it stands with the fleet."""
        said = self._device.status()
        targets = {(each.kind, each.name): each.version for each in self._updater.under_way()}
        return FleetStatus(
            tenant=self._enrolment.tenant,
            device=self._enrolment.device,
            connected=bool(said["online"]),
            versions=tuple(_version(each, targets) for each in said["have"]),
            trouble=tuple(str(each) for each in said["trouble"]),
        )


def _version(have: Mapping[str, Any], targets: Mapping[tuple[str, str], str]) -> VersionStatus:
    return VersionStatus(
        kind=have["kind"],
        name=have["name"],
        version=have["version"] or "",
        state=have["state"],
        target=targets.get((have["kind"], have["name"]), ""),
        progress=have["progress"],
        reason=": ".join(filter(None, (have["code"], have["detail"]))),
    )
