"""Home Assistant on a real broker: devices appear, change, and go, also over restarts of either side."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.agent.announcing import announcer_of, plan_of
from edge_runtime.agent.outlets import Outlets
from edge_runtime.contract.status import (
    AgentStatus,
    CameraState,
    CameraStatus,
    Condition,
    FleetStatus,
    StoreStatus,
    VersionStatus,
)
from edge_runtime.settings import AgentSettings
from edge_runtime.settings.home_assistant import HomeAssistantSettings
from edge_runtime.sinks.announcer import Announcer
from edge_runtime.sinks.home_assistant import CameraPlan, StorePlan
from edge_runtime.sinks.mqtt import MqttOptions, MqttSink
from tests.simulators.broker import MOSQUITTO, Broker, Listener, wait_until
from tests.simulators.doings import numbered
from tests.simulators.home_assistant import HomeAssistant

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"),
]

CAMERA = CameraPlan("door", ("aisle", "till"), {"entry": ("in", "out")})
PLAN = StorePlan((CAMERA, CameraPlan("back")), ("people",), counted=True)

Open = Callable[[], MqttSink]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    # The least that a broker may allow: one message at a time.
    broker = Broker(tmp_path / "broker", lines="allow_anonymous true\nmax_inflight_messages 1").start()
    yield broker
    broker.stop()


@pytest.fixture
def opened(broker: Broker, tmp_path: Path) -> Open:
    def open_sink() -> MqttSink:
        options = MqttOptions(
            "127.0.0.1", broker.port, retry_first_s=0.05, retry_longest_s=0.2, refused_s=0.2, farewell_s=5.0
        )
        announcer = announcer_of(
            HomeAssistantSettings(name="Shop"), site="shop", prefix="edge", memory=tmp_path / "memory.json"
        )
        return MqttSink(options, site="shop", spool=tmp_path / "s.sqlite", announcer=announcer)

    return open_sink


def home_of(listener: Listener) -> HomeAssistant:
    """What a Home Assistant that heard the same has."""
    home = HomeAssistant()
    for topic, payload, _ in list(listener.heard):
        if not topic.endswith("/events"):
            home.take(topic, payload)
    return home


def late_home(broker: Broker, count: int) -> HomeAssistant:
    """What a Home Assistant has that comes now, and finds so many entities."""
    listener = Listener(broker.port)
    wait_until(lambda: len(home_of(listener).entities) == count)
    listener.close()
    return home_of(listener)


def status(*cameras: CameraStatus, progress: float = 0.25) -> AgentStatus:
    people = VersionStatus("model", "people", "1.0", "downloading", "1.1", progress)
    return AgentStatus(
        cameras,
        (),
        uptime_s=1.0,
        cpu_cores=0.5,
        rss_bytes=10**8,
        fleet=FleetStatus("shops", "till", versions=(people,)),
        store=StoreStatus("2026-11-25", inside=3, entered=5, left=2),
    )


DOOR = CameraStatus(
    "door",
    CameraState.ONLINE,
    inferred_fps=9.87,
    occupancy={"aisle": 2, "till": 0},
    crossings={"entry": {"in": 31, "out": 28}},
)


def test_a_home_assistant_that_comes_late_finds_everything(broker: Broker, opened: Open) -> None:
    sink = opened()
    sink.describe(PLAN)
    sink.report(status(DOOR, CameraStatus("back", CameraState.OFFLINE, health=(Condition.BLACK,))))
    sink.write(numbered(50))
    wait_until(lambda: sink.status().written == 50)
    wait_until(lambda: len(late_home(broker, 17).states) >= 6)
    home = late_home(broker, 17)
    states = {
        name.removeprefix("edge_shop_"): home.state(name)
        for name, entity in home.entities.items()
        if entity["platform"] != "update"
    }
    assert states == {
        "level": "0",
        "inside": "3",
        "entered": "5",
        "left": "2",
        "door_connectivity": "ON",
        "door_problem": "OFF",
        "door_fps": "9.9",
        "door_occupancy_aisle": "2",
        "door_presence_aisle": "ON",
        "door_occupancy_till": "0",
        "door_presence_till": "OFF",
        "door_count_entry_in": "31",
        "door_count_entry_out": "28",
        "back_connectivity": "OFF",
        "back_problem": "ON",
        "back_fps": "0.0",
    }
    update = home.state("edge_shop_model_people")
    assert (update["installed_version"], update["latest_version"]) == ("1.0", "1.1")
    assert (update["in_progress"], update["update_percentage"]) == (True, 25)
    sink.close()
    assert late_home(broker, 17).state("edge_shop_door_occupancy_aisle") is None


def test_what_is_removed_while_the_agent_runs_goes(broker: Broker, opened: Open) -> None:
    listener = Listener(broker.port)
    sink = opened()
    sink.describe(PLAN)
    wait_until(lambda: len(home_of(listener).entities) == 17)
    sink.describe(StorePlan((CameraPlan("door", ("till",), CAMERA.lines),), ("people",), counted=True))
    wait_until(lambda: len(home_of(listener).entities) == 12)
    assert sorted(home_of(listener).removed) == [
        "edge_shop_back_connectivity",
        "edge_shop_back_fps",
        "edge_shop_back_problem",
        "edge_shop_door_occupancy_aisle",
        "edge_shop_door_presence_aisle",
    ]
    sink.describe(PLAN)
    wait_until(lambda: len(home_of(listener).entities) == 17)
    sink.close()
    listener.close()


def test_what_is_removed_while_the_agent_is_off_goes_too(broker: Broker, opened: Open) -> None:
    listener = Listener(broker.port)
    sink = opened()
    sink.describe(PLAN)
    wait_until(lambda: len(home_of(listener).entities) == 17)
    sink.close()
    sink = opened()
    sink.describe(StorePlan((CameraPlan("back"),)))
    wait_until(lambda: sorted(home_of(listener).entities) == [
        "edge_shop_back_connectivity", "edge_shop_back_fps", "edge_shop_back_problem", "edge_shop_level"
    ])  # fmt: skip
    sink.close()
    listener.close()
    retained = Listener(broker.port, "homeassistant/#")
    wait_until(lambda: len(retained.heard) == 2)
    retained.close()


def test_a_broker_that_forgot_everything_is_told_again(broker: Broker, opened: Open) -> None:
    sink = opened()
    sink.describe(PLAN)
    late_home(broker, 17)
    broker.kill()
    broker.start()
    late_home(broker, 17)
    sink.close()


def test_nothing_is_announced_before_it_is_known_what_there_is(broker: Broker, opened: Open) -> None:
    listener = Listener(broker.port)
    sink = opened()
    sink.write(numbered(1))
    wait_until(lambda: sink.status().written == 1)
    sink.close()
    listener.close()
    assert not [topic for topic, _, _ in listener.heard if topic.startswith("homeassistant")]


def test_a_memory_that_is_damaged_or_cannot_be_written_costs_no_event(
    broker: Broker, opened: Open, tmp_path: Path
) -> None:
    (tmp_path / "memory.json").mkdir()
    sink = opened()
    sink.describe(PLAN)
    sink.write(numbered(5))
    wait_until(lambda: sink.status().written == 5)
    late_home(broker, 17)
    sink.close()


def test_settings_say_what_there_is(broker: Broker, tmp_path: Path) -> None:
    settings = AgentSettings.model_validate(
        {
            "version": 1,
            "site": "main-street",
            "state_dir": tmp_path / "state",
            "models": {"people": {"bundle": "efficientdet-lite0"}},
            "cameras": {
                "door": {
                    "source": "rtsp://127.0.0.1/x",
                    "model": "people",
                    "zones": {"aisle": {"polygon": [[0, 0], [1, 0], [1, 1]]}},
                    "lines": {"entry": {"from": [0, 0], "to": [1, 1], "a_to_b": "in", "b_to_a": "out"}},
                }
            },
            "counts": {},
            "sinks": [
                {"type": "mqtt", "host": "127.0.0.1", "port": broker.port, "home_assistant": {"prefix": "ha"}}
            ],
        }
    )
    plan = plan_of(settings, settings.cameras)
    assert plan == StorePlan((CameraPlan("door", ("aisle",), {"entry": ("in", "out")}),), (), counted=True)
    outlets = Outlets(settings)
    listener = Listener(broker.port, "ha/#")
    wait_until(lambda: len(listener.heard) == 2)
    outlets.watch({}, away=["door"])
    wait_until(lambda: len(listener.heard) == 4)
    listener.close()
    outlets.close()
    store, door, fewer, gone = (payload for _, payload, _ in listener.heard)
    assert list(json.loads(door)["components"])[-2:] == ["count_entry_in", "count_entry_out"]
    assert "inside" in json.loads(store)["components"]
    assert json.loads(fewer)["components"]["inside"] == {"platform": "sensor"}
    assert gone == b""
    assert list((tmp_path / "state").glob("home-assistant-*.json"))


def test_without_the_setting_nobody_is_told(tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    assert announcer_of(None, site="shop", prefix="edge", memory=memory) is None
    assert isinstance(
        announcer_of(HomeAssistantSettings(), site="shop", prefix="edge", memory=memory), Announcer
    )
