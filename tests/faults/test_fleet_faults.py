"""What happens to a fleet when a broker, a manager or a line goes: everybody gets there in the end."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_fallback.fleet.simulation.bare_device import BareDevice, enrol_behind
from cloud_fallback.fleet.simulation.behaviour import Pace, devices
from cloud_fallback.fleet.simulation.crowd import Absence, Crowd
from cloud_fallback.fleet.simulation.enrolment import Invitation, Wardrobe, enrol
from cloud_fallback.fleet.simulation.headquarters import Headquarters
from cloud_fallback.fleet.simulation.remodel import DETECTOR, make_version
from cloud_fallback.fleet.simulation.uplink import Uplink, Weather
from edge_runtime.contract.update import State
from tests.simulators.broker import MOSQUITTO, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(240),
]

NAMES = [f"store-{number:02d}" for number in range(12)]
PATIENCE_S = 90.0


class Fleet:
    """A manager, its broker, and what a person does with them."""

    def __init__(self, hq: Headquarters, client: httpx.Client) -> None:
        self.hq, self.client = hq, client
        self.keys: dict[str, Path] = {}

    def release(self, folder: Path, version: str) -> None:
        if "labels" not in self.keys:
            self.keys["labels"] = self.hq.delegate("labels", "detector")
        file = folder / f"labels-{version}.txt"
        file.write_text(f"person\n{version}\n")
        self.hq.publish(file, self.keys["labels"], name="detector", version=version)

    def deploy(self, version: str, **how: Any) -> str:
        body = {"kind": "labels", "name": "detector", "version": version, **how}
        return self.hq.ask(self.client, "POST", "/v1/deployments", body)["deployment"]["id"]

    def phase(self, id_: str) -> str:
        return self.hq.deployment(self.client, id_).phase

    def running(self, kind: str, version: str) -> int:
        """Count devices that the manager knows to run a version."""
        found = self.hq.ask(self.client, "GET", "/v1/overview")["by_version"]
        return sum(each["devices"] for each in found if (each["kind"], each["version"]) == (kind, version))

    def online(self) -> int:
        return self.hq.ask(self.client, "GET", "/v1/overview")["online"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Headquarters(tmp_path / "hq") as hq, hq.client() as client:
        yield Fleet(hq, client)


@contextmanager
def crowd_of(
    fleet: Fleet,
    folder: Path,
    pace: Pace = Pace(),  # noqa: B008, frozen
    absence: Absence = Absence(),  # noqa: B008, frozen
) -> Iterator[Crowd]:
    invited = [Invitation(name, "store-pc-cpu", {}) for name in NAMES]
    broker = enrol(fleet.client, invited, folder / "devices")
    simulated = devices(NAMES, fleet.hq.tenant, "store-pc-cpu", pace=pace, dice=random.Random(1).random)
    wardrobe = Wardrobe(folder / "devices")
    address = broker.host, broker.port
    with Crowd(simulated, address, context_of=wardrobe.context_of, absence=absence) as crowd:
        here = len(NAMES) if not absence.share else 1
        wait_until(lambda: fleet.online() >= here, PATIENCE_S)
        yield crowd


def versions(crowd: Crowd) -> set[str | None]:
    return {have.version for each in crowd.devices.values() for have in each.have()}


ALL_AT_ONCE = {"waves": [{"share": 1.0}], "pace": {"soak_s": 0.0, "timeout_s": 600.0}}


def test_a_broker_that_lost_its_state_costs_nothing(fleet: Fleet, tmp_path: Path) -> None:
    with crowd_of(fleet, tmp_path) as crowd:
        fleet.release(tmp_path, "1.0.0")
        fleet.deploy("1.0.0", **ALL_AT_ONCE)
        wait_until(lambda: fleet.running("labels", "1.0.0") == len(NAMES), PATIENCE_S)
        fleet.release(tmp_path, "2.0.0")
        fleet.hq.kill_broker(forget=True)
        wait_until(lambda: crowd.counts.connected == 0, PATIENCE_S)
        fleet.deploy("2.0.0", **ALL_AT_ONCE)
        fleet.hq.start_broker()
        wait_until(lambda: fleet.running("labels", "2.0.0") == len(NAMES), PATIENCE_S)
        assert versions(crowd) == {"2.0.0"}
        assert crowd.counts.refused == 0


def test_a_manager_that_is_killed_in_a_rollout_goes_on_with_it(fleet: Fleet, tmp_path: Path) -> None:
    with crowd_of(fleet, tmp_path, Pace(fetch_s=0.5, trial_s=0.5)) as crowd:
        fleet.release(tmp_path, "1.0.0")
        id_ = fleet.deploy(
            "1.0.0", waves=[{"share": 0.25}, {"share": 1.0}], pace={"soak_s": 1.0, "timeout_s": 600.0}
        )
        wait_until(lambda: fleet.hq.deployment(fleet.client, id_).wave == 0, PATIENCE_S)
        wait_until(lambda: fleet.hq.deployment(fleet.client, id_).reached > 0, PATIENCE_S)
        fleet.hq.kill_manager()
        assert versions(crowd) != {"1.0.0"}, "it was not in the middle"
        fleet.hq.start_manager()
        wait_until(lambda: fleet.hq.deployment(fleet.client, id_).wave == 1, PATIENCE_S)
        fleet.hq.kill_manager()
        fleet.hq.start_manager()
        wait_until(lambda: fleet.phase(id_) == "completed", PATIENCE_S)
        assert versions(crowd) == {"1.0.0"}
        assert fleet.hq.deployment(fleet.client, id_).failed == 0
        assert fleet.hq.ask(fleet.client, "GET", "/v1/audit/verify")["ok"] is True


def test_devices_that_come_and_go_are_caught_up(fleet: Fleet, tmp_path: Path) -> None:
    with crowd_of(fleet, tmp_path, absence=Absence(period_s=4.0, share=0.5)) as crowd:
        fleet.release(tmp_path, "1.0.0")
        fleet.deploy("1.0.0", **ALL_AT_ONCE)
        wait_until(lambda: fleet.running("labels", "1.0.0") == len(NAMES), PATIENCE_S)
        assert versions(crowd) == {"1.0.0"}
        assert crowd.counts.connected < len(NAMES), "nobody was away"


BIG_BYTES = 3_000_000


def flapping(uplink: Uplink, device: BareDevice) -> None:
    """The line goes away at every megabyte."""
    for number in range(1, 4):
        wait_until(lambda number=number: uplink.passed_bytes > number * 1_200_000 or done(device), PATIENCE_S)
        uplink.turn(Weather.GONE)
        uplink.turn(Weather.FAIR)


def half_open(uplink: Uplink, device: BareDevice) -> None:
    """In the middle of the download all connections go silent, and nobody says that they are dead."""
    wait_until(lambda: uplink.passed_bytes > 1_500_000, PATIENCE_S)
    uplink.turn(Weather.SWALLOWING)
    assert device.have()[0].state is State.DOWNLOADING
    uplink.turn(Weather.FAIR)


def throttled(uplink: Uplink, device: BareDevice) -> None:
    """It is slow, and nothing else."""


def done(device: BareDevice) -> bool:
    return any(each.state is State.COMMITTED for each in device.have())


@pytest.mark.parametrize("bad_day", [throttled, flapping, half_open])
def test_a_real_device_gets_its_version_over_a_bad_line(
    fleet: Fleet, tmp_path: Path, bad_day: Callable[[Uplink, BareDevice], None]
) -> None:
    source = make_version(
        tmp_path / "bundle", "1.0.0", lambda model: model + random.Random(1).randbytes(BIG_BYTES)
    )
    published = fleet.hq.publish(source, fleet.hq.delegate("model", DETECTOR))
    ports = {"api": fleet.hq.api_port, "broker": fleet.hq.broker_port}
    with (
        Uplink(ports, bytes_per_s=2_000_000) as uplink,
        BareDevice(enrol_behind(fleet.hq, fleet.client, uplink, "far-away")) as device,
    ):
        wait_until(lambda: fleet.online() == 1, PATIENCE_S)
        body = {"kind": "model", "name": DETECTOR, "version": "1.0.0", **ALL_AT_ONCE}
        id_ = fleet.hq.ask(fleet.client, "POST", "/v1/deployments", body)["deployment"]["id"]
        bad_day(uplink, device)
        wait_until(lambda: fleet.phase(id_) == "completed", PATIENCE_S)
        assert device.have()[0].sha256 == published.sha256
        # An interruption costs a chunk and what was on its way, and not the file again.
        assert uplink.passed_bytes < 1.9 * published.size_bytes
