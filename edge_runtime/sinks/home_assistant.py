"""What Home Assistant is told, so that a store and its cameras appear there by themselves. Pure.

Makes the messages of its MQTT discovery, one a device: the store, and each camera. Sends nothing, keeps
nothing, and takes no commands: every entity is read only.
Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from edge_runtime.sinks.topics import level

Components = Mapping[str, str]
"""The entities of a device: their ids, and what kind each is."""

_KNOWN: TypeAdapter[dict[str, dict[str, str]]] = TypeAdapter(dict[str, dict[str, str]])
_NOT_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_MOST_DEPARTED = 200
"""Entities of a device that are gone and still named, so that they are removed; older ones are let be."""


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """What of a camera becomes entities.

    Args:
        name: The camera.
        zones: Its zones.
        lines: By line, the words for its two directions.
    """

    name: str
    zones: tuple[str, ...] = ()
    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True, slots=True)
class StorePlan:
    """What of a store becomes entities.

    Args:
        cameras: That run.
        models: That a fleet updates.
        counted: Whether people in the store are counted.
    """

    cameras: tuple[CameraPlan, ...] = ()
    models: tuple[str, ...] = ()
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Introduction:
    """Who we are to Home Assistant.

    Args:
        site: The store.
        root: Our topics begin with it: `edge/shop`.
        prefix: Where Home Assistant listens for discovery.
        name: Of the store, for people; empty: the site.
        version: Of this software.
    """

    site: str
    root: str
    prefix: str = "homeassistant"
    name: str = ""
    version: str = ""


def devices(plan: StorePlan, us: Introduction) -> dict[str, dict[str, Any]]:
    """Make the discovery message of every device.

    Args:
        plan: What there is.
        us: Who says so.

    Returns:
        By topic, the store first: the message, as JSON values.
    """
    store = f"edge_{_id(us.site)}"
    made = {_topic(us, store): _store(plan, us, store)}
    for camera in plan.cameras:
        own = f"{store}_{_id(camera.name)}"
        made[_topic(us, own)] = _camera(camera, us, own, store)
    return made


def messages(
    wanted: Mapping[str, dict[str, Any]], known: Mapping[str, Components]
) -> tuple[dict[str, bytes], dict[str, Components]]:
    """Make the payloads that turn what Home Assistant knows into what it should know.

    A device that is gone gets an empty message, which removes it. An entity that is gone stays in its
    device's message with nothing but its platform, which removes it whenever Home Assistant reads that.

    Args:
        wanted: From `devices`.
        known: What was ever announced, by topic.

    Returns:
        By topic, the payload to retain; and what is known once they are sent.
    """
    payloads, knows = dict[str, bytes](), dict[str, Components]()
    for topic, message in wanted.items():
        own: dict[str, dict[str, Any]] = message["components"]
        departed = [(name, kind) for name, kind in known.get(topic, {}).items() if name not in own]
        stubs = {name: {"platform": kind} for name, kind in departed[-_MOST_DEPARTED:]}
        full = message | {"components": stubs | own}
        payloads[topic] = json.dumps(full, separators=(",", ":"), ensure_ascii=False).encode()
        knows[topic] = {name: each["platform"] for name, each in (stubs | own).items()}
    for topic in known:
        if topic not in wanted:
            payloads[topic] = b""
            knows[topic] = known[topic]
    return payloads, knows


def known_from(document: bytes) -> dict[str, Components]:
    """Read what `known_as` wrote.

    Raises:
        ValueError: It is something else.
    """
    return dict(_KNOWN.validate_json(document))


def known_as(known: Mapping[str, Components]) -> bytes:
    """Write down what was announced."""
    return json.dumps(known, indent=1, ensure_ascii=False).encode()


def _store(plan: StorePlan, us: Introduction, own: str) -> dict[str, Any]:
    components = {
        "level": _sensor("Level of sparing", f"{us.root}/level", "{{ value_json.level }}", "measurement")
        | {"icon": "mdi:speedometer-slow", "entity_category": "diagnostic"}
        | _attributes(f"{us.root}/level", "{'reason': value_json.reason}"),
    }
    if plan.counted:
        topic = f"{us.root}/store"
        components |= {
            "inside": _sensor("People inside", topic, "{{ value_json.inside }}", "measurement")
            | {"icon": "mdi:account-group"},
            "entered": _sensor("Entered today", topic, "{{ value_json.entered }}", "total_increasing")
            | {"icon": "mdi:login"},
            "left": _sensor("Left today", topic, "{{ value_json.left }}", "total_increasing")
            | {"icon": "mdi:logout"},
        }
    for model in plan.models:
        components[f"model_{_id(model)}"] = {
            "platform": "update",
            "name": f"Model {model}",
            "title": model,
            "state_topic": f"{us.root}/models/{level(model)}",
            "entity_category": "diagnostic",
        }
    return _device(us, own, us.name or us.site, "Store", components) | {"availability": [_agent(us)]}


def _camera(camera: CameraPlan, us: Introduction, own: str, store: str) -> dict[str, Any]:
    state = f"{us.root}/{level(camera.name)}/state"
    components = _of_camera(us, state)
    for zone in camera.zones:
        held = f"value_json.occupancy.get({_quoted(zone)}, 0)"
        components[f"occupancy_{_id(zone)}"] = _sensor(
            f"{zone} occupancy", state, f"{{{{ {held} }}}}", "measurement"
        ) | {"icon": "mdi:account-multiple"}
        components[f"presence_{_id(zone)}"] = _binary(f"{zone} presence", state, f"{held} > 0", "occupancy")
    for line, words in camera.lines.items():
        for word in words:
            count = f"value_json.crossings.get({_quoted(line)}, {{}}).get({_quoted(word)}, 0)"
            components[f"count_{_id(line)}_{_id(word)}"] = _sensor(
                f"{line} {word}", state, f"{{{{ {count} }}}}", "total_increasing"
            ) | {"icon": "mdi:walk"}
    device = _device(us, own, f"{us.name or us.site} {camera.name}", "Camera", components)
    device["device"]["via_device"] = store
    seen = {
        "topic": state,
        "value_template": "{{ 'online' if value_json.state == 'online' else 'offline' }}",
    }
    return device | {"availability": [_agent(us), seen], "availability_mode": "all"}


def _of_camera(us: Introduction, state: str) -> dict[str, dict[str, Any]]:
    """Make the entities that say how a camera is doing; they are there while it is not."""
    # A camera without a picture is no news about its zones, and news about itself.
    always = {"availability": [_agent(us)], "entity_category": "diagnostic"}
    bad = "value_json.health or value_json.state == 'failed'"
    why = "{'state': value_json.state, 'reason': value_json.reason, 'health': value_json.health}"
    return {
        "connectivity": _binary("Connection", state, "value_json.state == 'online'", "connectivity") | always,
        "problem": _binary("Picture", state, bad, "problem") | always | _attributes(state, why),
        "fps": _sensor("Pictures a second", state, "{{ value_json.fps }}", "measurement")
        | {"unit_of_measurement": "fps", "suggested_display_precision": 1, "icon": "mdi:filmstrip"}
        | always,
    }


def _device(
    us: Introduction, own: str, name: str, model: str, components: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "device": {
            "identifiers": [own],
            "name": name,
            "manufacturer": "edge-runtime",
            "model": model,
            "sw_version": us.version,
        },
        "origin": {"name": "edge-runtime", "sw_version": us.version},
        "components": {name: each | {"unique_id": f"{own}_{name}"} for name, each in components.items()},
        "qos": 1,
    }


def _sensor(name: str, topic: str, template: str, state_class: str) -> dict[str, Any]:
    return {
        "platform": "sensor",
        "name": name,
        "state_topic": topic,
        "value_template": template,
        "state_class": state_class,
    }


def _binary(name: str, topic: str, condition: str, device_class: str) -> dict[str, Any]:
    return {
        "platform": "binary_sensor",
        "name": name,
        "state_topic": topic,
        "value_template": f"{{{{ 'ON' if {condition} else 'OFF' }}}}",
        "device_class": device_class,
    }


def _attributes(topic: str, values: str) -> dict[str, Any]:
    return {"json_attributes_topic": topic, "json_attributes_template": f"{{{{ {values} | tojson }}}}"}


def _agent(us: Introduction) -> dict[str, Any]:
    return {"topic": f"{us.root}/status"}


def _topic(us: Introduction, own: str) -> str:
    return f"{us.prefix}/device/{own}/config"


def _id(name: str) -> str:
    """Give a name as an id: letters, digits, `_` and `-`; two names never give the same."""
    plain = _NOT_AN_ID.sub("_", name)
    return plain if plain == name else f"{plain}-{hashlib.blake2b(name.encode(), digest_size=3).hexdigest()}"


def _quoted(text: str) -> str:
    """Write a text as a string of a template: its strings take JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
