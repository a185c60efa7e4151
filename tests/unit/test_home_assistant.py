"""What Home Assistant is told, checked against its rules; tests/simulators/home_assistant.py says whence."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.status import AgentStatus, FleetStatus, StoreStatus, VersionStatus
from edge_runtime.sinks.home_assistant import (
    CameraPlan,
    Components,
    Introduction,
    StorePlan,
    devices,
    known_as,
    known_from,
    messages,
)
from edge_runtime.sinks.states import of_the_store
from tests.simulators.home_assistant import UPDATE_STATE, HomeAssistant, problems, problems_of, render

US = Introduction("main.street", "edge/main.street", name="Main Street", version="1.2")
CAMERA = CameraPlan("entrance", ("aisle", "till.1"), {"door": ("in", "out")})

names = st.text(min_size=1, max_size=12)
cameras = st.builds(
    CameraPlan,
    names,
    st.lists(names, max_size=3, unique=True).map(tuple),
    st.dictionaries(names, st.tuples(names, names), max_size=2),
)
plans = st.builds(
    StorePlan,
    st.lists(cameras, max_size=3, unique_by=lambda camera: camera.name).map(tuple),
    st.lists(names, max_size=2, unique=True).map(tuple),
    st.booleans(),
)


def announced(home: HomeAssistant, plan: StorePlan, known: Mapping[str, Components]) -> dict[str, Components]:
    """Tell a Home Assistant of a plan; give what is known then."""
    payloads, knows = messages(devices(plan, US), known)
    for topic, payload in payloads.items():
        home.take(topic, payload)
    return {topic: each for topic, each in knows.items() if payloads[topic]}


def test_a_store_and_its_cameras_are_devices() -> None:
    made = devices(StorePlan((CAMERA, CameraPlan("back")), ("people",), counted=True), US)
    named = {each["device"]["name"]: each for each in made.values()}
    assert list(named) == ["Main Street", "Main Street entrance", "Main Street back"]
    store, entrance, back = named.values()
    assert entrance["device"]["via_device"] == store["device"]["identifiers"][0]
    assert list(store["components"]) == ["level", "inside", "entered", "left", "model_people"]
    assert [(each["platform"], each["name"]) for each in entrance["components"].values()] == [
        ("binary_sensor", "Connection"),
        ("binary_sensor", "Picture"),
        ("sensor", "Pictures a second"),
        ("sensor", "aisle occupancy"),
        ("binary_sensor", "aisle presence"),
        ("sensor", "till.1 occupancy"),
        ("binary_sensor", "till.1 presence"),
        ("sensor", "door in"),
        ("sensor", "door out"),
    ]
    classes = {each["name"]: each.get("state_class") for each in entrance["components"].values()}
    assert (classes["aisle occupancy"], classes["door in"]) == ("measurement", "total_increasing")
    assert list(back["components"]) == ["connectivity", "problem", "fps"]
    assert "model_people" not in devices(StorePlan((CAMERA,)), US)[next(iter(made))]["components"]
    assert not any("command_topic" in each for one in made.values() for each in one["components"].values())


@given(plans)
def test_every_message_keeps_the_rules_of_home_assistant(plan: StorePlan) -> None:
    made = devices(plan, US)
    assert len(made) == 1 + len(plan.cameras)
    for topic, message in made.items():
        assert problems_of(topic.removeprefix("homeassistant/"), message) == []
    ids = [each["unique_id"] for one in made.values() for each in one["components"].values()]
    assert len(ids) == len(set(ids))


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_any_word_is_found_again_by_its_template(zone: str, word: str) -> None:
    made = devices(StorePlan((CameraPlan("c", (zone,), {"door": (word, word + "2")}),)), US)
    camera = list(made.values())[1]["components"]
    state = json.dumps({"state": "online", "occupancy": {zone: 3}, "crossings": {"door": {word: 7}}})
    rendered = [render(each["value_template"], state) for name, each in camera.items() if "_" in name]
    assert rendered == ["3", "ON", "7", "0"]


@given(st.lists(plans, min_size=2, max_size=4))
def test_whatever_changes_home_assistant_has_what_there_is_and_nothing_else(history: list[StorePlan]) -> None:
    home, known = HomeAssistant(), dict[str, Components]()
    for plan in history:
        known = announced(home, plan, known_from(known_as(known)))
    wanted = {
        each["unique_id"] for one in devices(history[-1], US).values() for each in one["components"].values()
    }
    assert set(home.entities) == wanted


def test_a_zone_that_is_gone_is_removed_and_may_come_back() -> None:
    home = HomeAssistant()
    known = announced(home, StorePlan((CAMERA,)), {})
    without = StorePlan((CameraPlan("entrance", ("till.1",), CAMERA.lines),))
    known = announced(home, without, known)
    assert {name.rsplit("_", 1)[1] for name in home.removed} == {"aisle"}
    # Still said, for a Home Assistant that was away; it does no harm to say it again.
    again = announced(home, without, known)
    assert again == known
    announced(home, StorePlan((CAMERA,)), known)
    assert any(name.endswith("occupancy_aisle") for name in home.entities)


def test_what_is_gone_is_named_for_so_long_and_no_longer() -> None:
    known = dict[str, Components]()
    for n in range(400):
        plan = StorePlan((CameraPlan("entrance", (f"zone{n}",)),))
        _, known = messages(devices(plan, US), known)
    camera = list(known.values())[1]
    assert len(camera) <= 5 + 200
    assert "occupancy_zone398" in camera
    assert "occupancy_zone0" not in camera


@pytest.mark.parametrize("document", [b"", b"[]", b'{"topic": 3}', b'{"topic": {"x": []}}', b"\xff"])
def test_a_memory_that_is_something_else_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        known_from(document)


def test_states_of_a_store() -> None:
    fleet = FleetStatus(
        "shops",
        "till-1",
        versions=(
            VersionStatus("model", "people", "1.0.0", "downloading", "1.1.0", 0.423),
            VersionStatus("model", "gate", reason="x" * 400),
            VersionStatus("settings", "agent", "7"),
        ),
    )
    store = StoreStatus("2026-11-25", inside=3, entered=10, left=7, missed=1)
    status = AgentStatus((), (), 1.0, 0.5, 10**8, fleet=fleet, store=store, level=2, level_reason="hot")
    states = {topic: json.loads(state) for topic, state in of_the_store(status).items()}
    assert states["level"] == {"v": 1, "level": 2, "reason": "hot"}
    assert states["store"] == {
        "v": 1,
        "day": "2026-11-25",
        "inside": 3,
        "entered": 10,
        "left": 7,
        "missed": 1,
    }
    assert states["models/people"] == {
        "installed_version": "1.0.0",
        "latest_version": "1.1.0",
        "title": "people",
        "release_summary": "",
        "in_progress": True,
        "update_percentage": 42,
    }
    gate = states["models/gate"]
    assert (gate["installed_version"], gate["latest_version"], gate["in_progress"]) == (
        "as installed",
        "as installed",
        False,
    )
    assert problems(states["models/people"], UPDATE_STATE) == []
    assert problems(gate, UPDATE_STATE) == []
    assert set(states) == {"level", "store", "models/people", "models/gate"}


def test_the_rules_find_mistakes() -> None:
    good = list(devices(StorePlan((CAMERA,)), US).values())[1]
    where = "device/edge_x/config"
    assert problems_of(where, good) == []
    assert problems_of("device/edge.x/config", good)
    assert problems_of("sensor/edge_x/config", good)
    for change in (
        {"origin": {}},
        {"device": {"name": "x"}},
        {"components": {}},
        {"command": "x"},
        {"components": {"a": {"platform": "sensors"}}},
        {"components": {"a": {"platform": "sensor", "name": "x", "state_topic": "a"}}},
        {"components": {"a": {"platform": "sensor", "unique_id": "x", "state_topic": "a/+"}}},
        {
            "components": {
                "a": {"platform": "sensor", "unique_id": "x", "state_topic": "a", "state_class": "t"}
            }
        },
        {
            "components": {
                "a": {"platform": "binary_sensor", "unique_id": "x", "state_topic": "a", "icon": "x"}
            }
        },
    ):
        assert problems_of(where, good | change), change
