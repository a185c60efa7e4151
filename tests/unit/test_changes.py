"""What new settings mean for an agent that is running: the decision table."""

from typing import Any

import pytest

from edge_runtime.agent.changes import compare
from edge_runtime.settings import AgentSettings

Edit = dict[str, Any]


def settings(**edits: Any) -> AgentSettings:
    """Two cameras, with whole blocks of the file replaced."""
    document = {
        "version": 1,
        "site": "shop",
        "models": {"people": {"bundle": "efficientdet-lite0"}},
        "cameras": {name: {"source": f"{name}.mp4", "model": "people"} for name in ("door", "till")},
        "sinks": [{"type": "jsonl", "path": "events.jsonl"}],
    }
    return AgentSettings.model_validate({**document, **edits})


def cameras(*names: str, **more: Edit) -> dict[str, Edit]:
    return {name: {"source": f"{name}.mp4", "model": "people"} | more.get(name, {}) for name in names}


TWO_MODELS = {name: {"bundle": "efficientdet-lite0"} for name in ("people", "cars")}


@pytest.mark.parametrize(
    ("wanted", "added", "removed", "replaced", "later"),
    [
        pytest.param({}, "", "", "", "", id="nothing"),
        pytest.param({"cameras": cameras("till", "door")}, "", "", "", "", id="another order"),
        pytest.param({"cameras": cameras("door", "till", "yard")}, "yard", "", "", "", id="new"),
        pytest.param({"cameras": cameras("door")}, "", "till", "", "", id="gone"),
        pytest.param({"cameras": cameras("door", "till", till={"fps": 5})}, "", "", "till", "", id="other"),
        pytest.param({"cameras": cameras("yard")}, "yard", "door till", "", "", id="all others"),
        pytest.param({"site": "mall", "sinks": []}, "", "", "", "site sinks", id="not cameras"),
        pytest.param({"models": TWO_MODELS}, "", "", "", "models.cars", id="another model"),
        pytest.param(
            {
                "models": {"people": {"bundle": "efficientdet-lite0", "min_score": 0.5}},
                "cameras": cameras("door", "yard"),
            },
            "yard", "till", "", "models.people",
            id="a model changes, and cameras go on with what it was",
        ),
        pytest.param(
            {
                "models": TWO_MODELS,
                "cameras": cameras("door", "till", "yard", till={"model": "cars"}, yard={"model": "cars"}),
            },
            "", "", "", "models.cars cameras.till cameras.yard",
            id="cameras of a model that does not run yet",
        ),
    ],
)  # fmt: skip
def test_changes(wanted: Edit, added: str, removed: str, replaced: str, later: str) -> None:
    running = settings()
    changes = compare(running, settings(**wanted))
    assert " ".join(changes.added) == added
    assert " ".join(changes.removed) == removed
    assert " ".join(changes.replaced) == replaced
    assert " ".join(changes.later) == later
    names = {*running.cameras, *changes.added} - set(changes.removed)
    assert set(changes.settings.cameras) == names
    assert changes.settings.model_copy(update={"cameras": running.cameras}) == running


def test_routes_change_while_a_model_runs_but_its_name_in_the_cloud_does_not() -> None:
    def routed(**route: Any) -> AgentSettings:
        return settings(models={"people": {"bundle": "efficientdet-lite0", "route": route}})

    running = settings()
    changes = compare(running, routed(timeout_s=1.0, never_leave=["video"]))
    assert (changes.routed, changes.later) == (("people",), ())
    assert changes.settings.models["people"].route.timeout_s == 1.0
    changes = compare(running, routed(cloud_model="big"))
    assert (changes.routed, changes.later) == ((), ("models.people",))
    assert changes.settings == running
