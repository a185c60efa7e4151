"""Signed metadata and the updater together: what is genuine is installed, an attack ends before any byte."""

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from edge_runtime.contract.fleet import Wanted
from edge_runtime.contract.update import Failure, State
from edge_runtime.update.metadata import SLACK_S
from edge_runtime.update.record import Trusted
from edge_runtime.update.updater import Updater
from tests.simulators.trust import DAY_S, NOW_S, Device, Fleet, body, devices
from tests.simulators.updates import World, desired, whole


@dataclass
class TrustingWorld(World):
    """The simulated device, but with real metadata."""

    device: Device = field(kw_only=True)

    def look_up(self, wanted: Wanted, at_s: float) -> Trusted:
        return self.device.metadata.look_up(wanted, at_s)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def world(fleet: Fleet, tmp_path: Path) -> Generator[TrustingWorld]:
    with devices(fleet, tmp_path / "device") as device:
        for counter in range(1, 5):
            device.served[f"labels/detector/{counter}-{counter}.0.txt"] = body(counter)
        yield TrustingWorld(device.files.url, device=device, time_s=NOW_S + 1)


def update(world: TrustingWorld, updater: Updater, seq: int, wanted: Wanted) -> tuple[State, Failure | None]:
    updater.desire(desired(seq, wanted.model_copy(update={"deployment": f"dep-{seq}"})))
    world.settle(updater)
    [have] = updater.have()
    return have.state, have.code


def fetched(world: TrustingWorld) -> list[str]:
    return [path for path, _ in world.device.files.asked if path.startswith("labels/")]


def test_release_update_and_revert(fleet: Fleet, world: TrustingWorld, tmp_path: Path) -> None:
    updater = world.updater(tmp_path / "root")
    one = fleet.release(1)
    assert update(world, updater, 1, fleet.wanted(one, 1)) == (State.COMMITTED, None)
    two = fleet.release(2)
    assert update(world, updater, 2, fleet.wanted(two, 2)) == (State.COMMITTED, None)
    back = fleet.repository.revert("labels", "detector", one, 3, NOW_S)
    before = len(fetched(world))
    assert update(world, updater, 3, fleet.wanted(back, 3, body(1))) == (State.COMMITTED, None)
    assert whole(tmp_path / "root") == fleet.wanted(one, 1).sha256
    assert len(fetched(world)) == before  # the version before was still here


def test_an_attack_ends_before_any_byte_of_a_release(
    fleet: Fleet, world: TrustingWorld, tmp_path: Path
) -> None:
    updater = world.updater(tmp_path / "root")
    one = fleet.release(1)
    assert update(world, updater, 1, fleet.wanted(one, 1)) == (State.COMMITTED, None)
    fleet.now_s += 1
    two = fleet.release(2)
    before = fetched(world)
    stamp = fleet.repository.read("timestamp.json") or b""
    world.device.served["timestamp.json"] = stamp.replace(b"x-signed-at", b"x-signed-in")
    wanted = fleet.wanted(two, 2)
    assert update(world, updater, 2, wanted) == (State.REJECTED, Failure.METADATA_SIGNATURE)
    world.device.served["timestamp.json"] = b"{" * 20_000
    assert update(world, updater, 3, wanted) == (State.REJECTED, Failure.METADATA_MALFORMED)
    del world.device.served["timestamp.json"]
    assert update(world, updater, 4, fleet.wanted(two, 3)) == (State.REJECTED, Failure.METADATA_MIX_AND_MATCH)
    assert update(world, updater, 5, fleet.wanted(one, 1, body(2))) == (
        State.REJECTED, Failure.METADATA_MIX_AND_MATCH,
    )  # fmt: skip
    fleet.now_s += 1
    fleet.delegate([CryptoSigner.generate_ed25519()])  # what the old key signed is not believed any more
    assert update(world, updater, 6, wanted) == (State.REJECTED, Failure.METADATA_SIGNATURE)
    assert fetched(world) == before
    assert whole(tmp_path / "root") == fleet.wanted(one, 1).sha256


def test_an_older_release_is_a_downgrade(fleet: Fleet, world: TrustingWorld, tmp_path: Path) -> None:
    updater = world.updater(tmp_path / "root")
    one, two = fleet.release(1), fleet.release(2)
    assert update(world, updater, 1, fleet.wanted(two, 2)) == (State.COMMITTED, None)
    assert update(world, updater, 2, fleet.wanted(one, 1)) == (State.REJECTED, Failure.DOWNGRADE)


def test_a_clock_that_was_set_back_waits_and_says_so(
    fleet: Fleet, world: TrustingWorld, tmp_path: Path
) -> None:
    updater = world.updater(tmp_path / "root")
    one, two = fleet.release(1), fleet.release(2)
    assert update(world, updater, 1, fleet.wanted(one, 1)) == (State.COMMITTED, None)
    world.time_s = NOW_S - SLACK_S - 1
    again = world.updater(tmp_path / "root")  # the last trusted time is in the journal
    asked = len(world.device.files.asked)
    assert update(world, again, 2, fleet.wanted(two, 2)) == (State.FAILED, Failure.CLOCK_BEHIND)
    assert len(world.device.files.asked) == asked
    world.time_s = NOW_S
    assert update(world, again, 3, fleet.wanted(two, 2)) == (State.COMMITTED, None)


def test_a_clock_without_a_battery_installs_nothing(
    fleet: Fleet, world: TrustingWorld, tmp_path: Path
) -> None:
    updater = world.updater(tmp_path / "root")
    one = fleet.release(1)
    world.time_s = 1000.0
    assert update(world, updater, 1, fleet.wanted(one, 1)) == (State.FAILED, Failure.CLOCK_BEHIND)
    assert fetched(world) == []


def test_a_frozen_repository_is_tried_again_and_then_refused(
    fleet: Fleet, world: TrustingWorld, tmp_path: Path
) -> None:
    updater = world.updater(tmp_path / "root")
    one = fleet.release(1)
    world.time_s = NOW_S + 5 * DAY_S
    assert update(world, updater, 1, fleet.wanted(one, 1)) == (State.REJECTED, Failure.METADATA_FREEZE)
    stamps = [path for path, _ in world.device.files.asked if path == "tuf/timestamp.json"]
    assert len(stamps) == 3  # as often as this device's patience says
    fleet.repository.refresh(NOW_S + 5 * DAY_S)
    assert update(world, updater, 2, fleet.wanted(one, 1)) == (State.COMMITTED, None)
