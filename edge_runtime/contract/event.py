"""Event: something that happened in front of, or to, a camera; typed, versioned, with a stable id.

An event's id is a digest of what makes it that event, so a sink that gets it twice can tell. Events are
facts about source time: `time` and `pts_ns` come from the stream, never from the clock of the writer.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from edge_runtime.contract.task import Declared

EVENT_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Fraction = Annotated[float, Field(ge=0, le=1)]


class Attribute(Declared):
    """What a second model said of an object."""

    value: str = Field(description="the class, or the number of an identity")
    confidence: Fraction


class Subject(Declared):
    """The tracked object an event is about.

    `box` is (x1, y1, x2, y2) as fractions of the picture's width and height.
    """

    track: int
    label: str
    confidence: Fraction
    box: tuple[Fraction, Fraction, Fraction, Fraction]
    attributes: dict[str, Attribute] | None = Field(
        default=None,
        exclude_if=lambda attributes: attributes is None,
        description="by the camera's `then`; absent where no second model has said anything yet",
    )


class _Event(Declared):
    v: Literal[1] = EVENT_VERSION
    id: str = Field(description="stable: the same event has the same id however often it is sent")
    site: str
    camera: str
    time: str = Field(description="ISO 8601 UTC with milliseconds, source time")
    pts_ns: int = Field(ge=0, description="source time since the camera's first frame")


class _Seen(_Event):
    model: str
    model_version: str
    subject: Subject


class ZoneEntered(_Seen):
    """A confirmed track came into a zone, and stayed long enough not to be jitter."""

    type: Literal["zone_entered"] = "zone_entered"
    zone: str
    occupancy: int = Field(ge=0, description="objects in the zone after this event")


class ZoneLeft(_Seen):
    """A track left a zone or was lost in it."""

    type: Literal["zone_left"] = "zone_left"
    zone: str
    occupancy: int = Field(ge=0)
    dwell_s: float = Field(ge=0, description="time between entering and being last seen inside")


class ZoneDwell(_Seen):
    """A track has been in a zone for as long as the zone's `dwell_s` asks; said once a stay."""

    type: Literal["zone_dwell"] = "zone_dwell"
    zone: str
    occupancy: int = Field(ge=0)
    dwell_s: float = Field(ge=0)


class LineCrossed(_Seen):
    """A track crossed a line; `a_to_b` goes from the left of the line's direction to its right."""

    type: Literal["line_crossed"] = "line_crossed"
    line: str
    direction: Literal["a_to_b", "b_to_a"]
    name: str = Field(description="the user's word for the direction, e.g. 'in'")


class CameraStateChanged(_Event):
    """A camera came up, went down or ended; `reason` is for a person."""

    type: Literal["camera_state"] = "camera_state"
    state: Literal["online", "offline", "ended", "failed"]
    reason: str = ""


class CameraHealthChanged(_Event):
    """The picture of a camera went bad, or is well again, while the camera went on sending."""

    type: Literal["camera_health"] = "camera_health"
    condition: Literal["frozen", "black", "blinded", "moved"]
    present: bool = Field(description="true: it is there now; false: it is over")
    since: str = Field(description="ISO 8601 UTC with milliseconds: when it began")


Event = Annotated[
    ZoneEntered | ZoneLeft | ZoneDwell | LineCrossed | CameraStateChanged | CameraHealthChanged,
    Field(discriminator="type"),
]

EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads any event: `EVENTS.validate_json(line)`."""


def iso_time(time_ns: int) -> str:
    """Write a moment as events have it.

    Args:
        time_ns: Unix time.

    Returns:
        ISO 8601, UTC, to the millisecond, cut off: `2026-01-05T12:00:00.000Z`.
    """
    moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_id(*parts: str | int) -> str:
    """Make the stable id of an event from what makes it that event.

    Args:
        *parts: Site, camera, stream epoch, event type, zone or line, track, source time …, in a fixed order.

    Returns:
        32 hexadecimal digits (BLAKE2b-128).
    """
    joined = "\x1f".join(str(part) for part in parts).encode()
    return hashlib.blake2b(joined, digest_size=16).hexdigest()
