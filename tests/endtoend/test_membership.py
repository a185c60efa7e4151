"""An agent as a device of a fleet: what it says, what it is told, and what disturbs no camera."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from cloud_fallback.fleet.broker import MANAGER_USER
from edge_runtime.agent import Agent
from edge_runtime.agent.hands import AgentHands
from edge_runtime.contract.enrolment import Broker
from edge_runtime.contract.errors import ConfigError, RefusedError, StorageError
from edge_runtime.contract.fleet import Reported
from edge_runtime.contract.update import Failure, State
from edge_runtime.fleet.enrolment import AUTHORITY, CERTIFICATE, FILE, KEY, TUF_ROOT, Enrolled
from edge_runtime.settings import load_settings
from tests.simulators.broker import MOSQUITTO, wait_until
from tests.simulators.certificates import Authority
from tests.simulators.fleet_broker import FleetBroker, Person
from tests.simulators.fleet_device import enrolled as enrolled_at
from tests.simulators.store_in_fleet import Store, lost
from tests.simulators.versions import (
    NAME,
    shipped,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path).start()
    store.wait_for_frames()
    yield store
    if store.agent is not None:
        store.close()


def test_a_fleet_that_nobody_can_reach_disturbs_no_camera(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    (folder / "tuf").mkdir(parents=True)
    authority = Authority(tmp_path)
    certificate, key = authority.issue("d1", organisation="acme")
    for name, source in ((CERTIFICATE, certificate), (KEY, key), (AUTHORITY, authority.file)):
        (folder / name).write_bytes(source.read_bytes())
    (folder / TUF_ROOT).write_text("{}")
    enrolled = Enrolled(
        tenant="acme",
        device="d1",
        profile="store-pc",
        manager_url="https://127.0.0.1:1",
        broker=Broker(host="127.0.0.1", port=1),
        device_token="t" * 32,
    )
    (folder / FILE).write_text(enrolled.model_dump_json())
    store = Store(tmp_path)
    agent = store.agent = Agent(load_settings(store.yaml), store.yaml)
    store.wait_for_frames()
    status = agent.status()
    assert status.fleet is not None
    assert (status.fleet.tenant, status.fleet.device, status.fleet.connected) == ("acme", "d1", False)
    assert lost(store.close()) == {"door": 0, "till": 0}


def said(manager: Person) -> tuple[State, Failure | None] | None:
    """Give what a device last reported of its first update."""
    have = Reported.model_validate_json(manager.heard[-1][1]).have
    return (have[0].state, have[0].code) if have else None


@pytest.mark.broker
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto")
def test_the_agent_reports_to_a_real_broker_and_does_what_it_is_told(tmp_path: Path) -> None:
    broker = FleetBroker(tmp_path / "broker")
    broker.start()
    manager = Person(broker, MANAGER_USER)
    manager.subscribe("v1/acme/d/d1/reported")
    store = Store(tmp_path)
    enrolled_at(tmp_path / "fleet", broker)
    agent = store.agent = Agent(load_settings(store.yaml), store.yaml)
    try:
        store.wait_for_frames()
        wait_until(lambda: bool(manager.heard), 30)
        reported = Reported.model_validate_json(manager.heard[-1][1])
        assert (reported.device, reported.desired_seq, reported.have) == ("d1", -1, ())
        assert reported.health.cameras == 2
        desired = store.manager.wants("model", NAME, shipped("2.0.0"))
        manager.says("v1/acme/d/d1/desired", desired.model_dump_json(), retain=True)

        # Its first trusted root is none: whatever a broker says, nothing is believed.
        wait_until(lambda: said(manager) == (State.REJECTED, Failure.METADATA_MALFORMED), 30)
        fleet = agent.status().fleet
        assert fleet is not None
        assert fleet.connected
        store.wait_for_frames()
        assert lost(agent.status()) == {"door": 0, "till": 0}
    finally:
        store.close()
        manager.leave()
        broker.stop()


def test_a_device_that_is_not_enrolled_is_told_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ConfigError, match="Enrol this device again: edge-runtime enrol"):
        Agent(load_settings(store.yaml), store.yaml)


def test_commands_are_done_by_the_agent(store: Store) -> None:
    settings = store.running.settings.fleet
    assert settings is not None
    hands = AgentHands(store.running, settings)
    with pytest.raises(RefusedError, match=r"fleet.snapshots: allowed"):
        hands.snapshot("door")
    open_hands = AgentHands(store.running, settings.model_copy(update={"snapshots": "allowed"}))
    picture = cv2.imdecode(np.frombuffer(open_hands.snapshot("door"), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.std() > 10
    with pytest.raises(ConfigError, match="camera 'attic': expected one of door, till"):
        open_hands.snapshot("attic")
    hands.restart_pipeline("door")
    with pytest.raises(ConfigError, match="camera 'attic'"):
        hands.restart_pipeline("attic")
    store.wait_for_frames()
    measured = hands.benchmark(0.1)
    assert measured["models"]["people"]["version"] == "1.0.0"  # type: ignore[index, call-overload]
    health = hands.health()
    assert (health.cameras, health.cameras_online, health.errors_per_s) == (2, 2, 0.0)
    assert health.disk_free_bytes > 0
    assert health.fps_asked == 10.0  # of two cameras
    log = logging.getLogger("edge_runtime")
    before = log.level
    hands.set_log_level("debug", 3600)
    assert log.level == logging.DEBUG
    hands.close()
    assert log.level == before


def test_one_agent_for_a_fleets_folder(store: Store) -> None:
    with pytest.raises(StorageError, match=r"fleet.folder .* is in use"):
        Store(store.folder).start()
