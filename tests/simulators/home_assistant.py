"""The part of Home Assistant that MQTT discovery meets: its rules for messages, its entities, their states.

The rules are those of Home Assistant 2026.11.0, written down from
https://github.com/home-assistant/core/tree/2026.11.0/homeassistant/components/mqtt (schemas.py, discovery.py,
sensor.py, binary_sensor.py, update.py, config.py, util.py) and
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery. Home Assistant ignores an unknown key of an
entity; here it is a mistake, for it would do nothing.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

Check = Callable[[Any], bool]

TEMPLATES = ImmutableSandboxedEnvironment()
TOPIC = re.compile(r"(?P<kind>\w+)/(?:(?P<node>[a-zA-Z0-9_-]+)/)?(?P<object>[a-zA-Z0-9_-]+)/config")

BINARY_CLASSES = frozenset(
    {
        "battery",
        "battery_charging",
        "carbon_monoxide",
        "cold",
        "connectivity",
        "door",
        "garage_door",
        "gas",
        "heat",
        "light",
        "lock",
        "moisture",
        "motion",
        "moving",
        "occupancy",
        "opening",
        "plug",
        "power",
        "presence",
        "problem",
        "running",
        "safety",
        "smoke",
        "sound",
        "tamper",
        "update",
        "vibration",
        "window",
    }
)
STATE_CLASSES = frozenset({"measurement", "measurement_angle", "total", "total_increasing"})


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def topic(value: Any) -> bool:
    """One that can be published to: no wildcard, no NUL, at most 65535 bytes."""
    return text(value) and not re.search(r"[+#\x00]", value) and len(value.encode()) <= 65535


def template(value: Any) -> bool:
    return text(value) and bool(TEMPLATES.from_string(value))


def one_of(*values: Any) -> Check:
    return lambda value: value in values


def count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def texts(value: Any) -> bool:
    return text(value) or (isinstance(value, list) and bool(value) and all(text(each) for each in value))


def availability(value: Any) -> bool:
    return isinstance(value, list) and all(
        not problems(each, AVAILABILITY, required=("topic",)) for each in value
    )


AVAILABILITY: Mapping[str, Check] = {
    "topic": topic,
    "value_template": template,
    "payload_available": text,
    "payload_not_available": text,
}
SHARED: Mapping[str, Check] = {
    "availability": availability,
    "availability_mode": one_of("all", "any", "latest"),
    "qos": one_of(0, 1, 2),
    "encoding": text,
    "state_topic": topic,
}
ENTITY: Mapping[str, Check] = SHARED | {
    "name": lambda value: value is None or text(value),
    "unique_id": text,
    "icon": lambda value: text(value) and ":" in value,
    "enabled_by_default": lambda value: isinstance(value, bool),
    "json_attributes_topic": topic,
    "json_attributes_template": template,
    "value_template": template,
}
# A sensor cannot be there to configure anything.
CATEGORY: Mapping[str, Check] = {"entity_category": one_of("diagnostic")}
PLATFORMS: Mapping[str, Mapping[str, Check]] = {
    "sensor": ENTITY
    | CATEGORY
    | {
        "state_class": one_of(*STATE_CLASSES),
        "unit_of_measurement": text,
        "suggested_display_precision": count,
        "expire_after": count,
    },
    "binary_sensor": ENTITY
    | CATEGORY
    | {
        "device_class": one_of(*BINARY_CLASSES),
        "payload_on": text,
        "payload_off": text,
        "expire_after": count,
    },
    "update": ENTITY
    | {
        "entity_category": one_of("config", "diagnostic"),
        "device_class": one_of("firmware"),
        "title": text,
        "release_url": text,
        "display_precision": count,
    },
}
DEVICE: Mapping[str, Check] = {
    "identifiers": texts,
    "name": text,
    "manufacturer": text,
    "model": text,
    "sw_version": text,
    "hw_version": text,
    "serial_number": text,
    "via_device": text,
    "suggested_area": text,
}
ORIGIN: Mapping[str, Check] = {"name": text, "sw_version": text}
UPDATE_STATE: Mapping[str, Check] = {
    "installed_version": lambda value: isinstance(value, str),
    "latest_version": lambda value: isinstance(value, str),
    "title": lambda value: isinstance(value, str),
    "release_summary": lambda value: isinstance(value, str) and len(value) <= 255,
    "in_progress": lambda value: isinstance(value, bool),
    "update_percentage": lambda value: (
        value is None or (isinstance(value, int | float) and 0 <= value <= 100)
    ),
}
"""One unknown key, and the whole message is dropped."""


def problems(value: Any, rules: Mapping[str, Check], required: tuple[str, ...] = ()) -> list[str]:
    """Name the keys that are missing, unknown or wrong."""
    if not isinstance(value, dict):
        return ["no mapping"]
    found = [f"{key} is missing" for key in required if key not in value]
    for key, each in value.items():
        if key not in rules:
            found.append(f"{key} is unknown")
        elif not rules[key](each):
            found.append(f"{key} is wrong: {each!r}")
    return found


def problems_of(where: str, message: dict[str, Any]) -> list[str]:
    """Check one message of device discovery, and its topic below the prefix."""
    match = TOPIC.fullmatch(where)
    found = [] if match and match["kind"] == "device" else [f"{where} is no topic of a device"]
    root = {key: value for key, value in message.items() if key not in {"device", "origin", "components"}}
    found += problems(root, SHARED)
    found += problems(message.get("device"), DEVICE, required=("identifiers",))
    found += problems(message.get("origin"), ORIGIN, required=("name",))
    components: dict[str, dict[str, Any]] = message.get("components") or {}
    found += [] if components else ["components are missing"]
    for name, component in components.items():
        platform = component.get("platform")
        if platform not in PLATFORMS:
            found.append(f"{name}: platform {platform!r}")
        elif len(component) > 1:  # with nothing but its platform it is removed
            own = {key: value for key, value in component.items() if key != "platform"}
            inherited = {key: value for key, value in root.items() if key in SHARED}
            wrong = problems(inherited | own, PLATFORMS[platform], required=("unique_id", "state_topic"))
            found += [f"{name}: {each}" for each in wrong]
    return found


@dataclass
class HomeAssistant:
    """Takes messages in, as one that listens on the broker would."""

    prefix: str = "homeassistant"
    devices: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By topic: the message."""
    entities: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By unique id: what it is."""
    removed: list[str] = field(default_factory=list[str])
    states: dict[str, str] = field(default_factory=dict[str, str])
    """By topic: the newest payload."""

    def take(self, where: str, payload: bytes) -> None:
        below = where.removeprefix(f"{self.prefix}/")
        if below == where:
            self.states[where] = payload.decode()
            return
        if not payload:
            message = self.devices.pop(where, None)
            for component in (message or {"components": {}})["components"].values():
                self._remove(component.get("unique_id", ""))
            return
        message = json.loads(payload)
        assert problems_of(below, message) == []
        before = self.devices.get(where, {"components": {}})["components"]
        for name, component in message["components"].items():
            if len(component) == 1:
                # Only what it knows can be removed.
                self._remove(before.get(name, {}).get("unique_id", ""))
            else:
                shared = {key: value for key, value in message.items() if key in SHARED}
                self.entities[component["unique_id"]] = shared | component
        self.devices[where] = message

    def state(self, unique_id: str) -> Any:
        """Give an entity's state; None: it is unavailable."""
        entity = self.entities[unique_id]
        checks = [self._is_there(each) for each in entity.get("availability", [])]
        if not all(checks):
            return None
        payload = self.states[entity["state_topic"]]
        if entity["platform"] == "update":
            state = json.loads(payload)
            assert problems(state, UPDATE_STATE) == []
            return state
        return render(entity["value_template"], payload)

    def _is_there(self, check: Mapping[str, str]) -> bool:
        payload = self.states.get(check["topic"], "")
        if payload and "value_template" in check:
            payload = render(check["value_template"], payload)
        return payload == "online"

    def _remove(self, unique_id: str) -> None:
        if self.entities.pop(unique_id, None) is not None:
            self.removed.append(unique_id)


def render(source: str, payload: str) -> str:
    """Render a template as Home Assistant does for a payload of JSON."""
    return TEMPLATES.from_string(source).render(value=payload, value_json=json.loads(payload))
