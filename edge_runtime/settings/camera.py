"""What `store.yaml` says of a camera: its source, its motion gate and tracker, its zones and lines.

Opens nothing.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from edge_runtime.analytics.zones import check_polygon
from edge_runtime.contract.address import redact
from edge_runtime.contract.bundle import Name
from edge_runtime.contract.errors import ConfigError
from edge_runtime.settings.base import Fraction, Labels, Seconds, Settings, beside_the_file, refuse
from edge_runtime.settings.resilience import HealthSettings


def _source(source: str, info: ValidationInfo) -> str:
    scheme, mark, _ = source.partition("://")
    if not mark:
        return str(beside_the_file(Path(source), info))
    if scheme.lower() not in SCHEMES:
        near = get_close_matches(scheme.lower(), SCHEMES, n=1)
        hint = f"Did you mean '{near[0]}://'?" if near else "A file is named without a scheme."
        raise refuse(f"unknown scheme '{scheme}://'", f"one of {', '.join(SCHEMES)}", hint)
    return source


def _main(address: str, info: ValidationInfo) -> str:
    if "://" not in address:
        raise refuse("a file or device as `main`", "an rtsp:// or http(s):// address", "Drop it.")
    return _source(address, info)


SCHEMES = ("rtsp", "rtsps", "http", "https")
"""Of camera addresses; anything else is a path."""

Point = tuple[Fraction, Fraction]


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    try:
        check_polygon("polygon", points)
    except ConfigError as error:
        # The place in the file, which comes first, names the zone.
        problem = error.problem.removeprefix("zone 'polygon'").removeprefix(": ")
        raise refuse(problem or f"{len(points)} corners", error.expected or "", error.do or "") from error
    return points


Polygon = Annotated[tuple[Point, ...], AfterValidator(_polygon)]


class MotionSettings(Settings):
    """The motion gate: a picture in which nothing moves is not inferred."""

    gate: bool = Field(default=False, description="true: skip pictures in which nothing moves")
    threshold: Fraction = Field(
        default=0.001, description="share of the picture that has to change to count as motion"
    )
    hold_s: Seconds = Field(default=2.0, description="seconds the gate stays open after the last motion")
    look_every_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="a still picture is inferred this often all the same"
    )
    doze_after_s: Annotated[float, Field(gt=0)] | None = Field(
        default=5.0,
        description="after this long without motion only key frames are decoded; what moves is then seen"
        " one key frame later at most, and nothing is lost; null: decode everything",
    )
    masks: tuple[Polygon, ...] = Field(
        default=(), description="polygons in which motion does not count (a clock, a screen, a tree)"
    )


class TrackerSettings(Settings):
    """How detections become tracks."""

    max_lost_s: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="seconds a track outlives its last detection"
    )
    confirm_frames: int = Field(default=3, ge=1, description="detections before a track counts")


class ZoneSettings(Settings):
    """An area that objects enter, stay in and leave."""

    polygon: Polygon = Field(
        description="at least three [x, y] corners as fractions of width and height, [0, 0] at the top left"
    )
    labels: Labels = Field(default=(), description="only these classes count; empty: all")
    dwell_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="say so once a stay when an object has been inside for this long"
    )
    settle_s: Seconds = Field(
        default=0.3, description="seconds inside (outside) before an object has entered (left)"
    )
    queue: bool = Field(
        default=False,
        description="true: a waiting line, for `counts`; who is in it waits, unless only passing",
    )


class LineSettings(Settings):
    """A line that objects cross, counted by direction."""

    start: Point = Field(alias="from", description="[x, y] as fractions of width and height")
    end: Point = Field(alias="to", description="[x, y] as fractions of width and height")
    a_to_b: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="a_to_b",
        description="your word for crossing from the left of the line's direction to its right",
    )
    b_to_a: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="b_to_a",
        description="your word for crossing from the right of the line's direction to its left",
    )
    labels: Labels = Field(default=(), description="only these classes count; empty: all")

    @model_validator(mode="after")
    def _two_of_each(self) -> Self:
        if self.start == self.end:
            raise refuse("`from` and `to` are the same point", "two points", "Move one of them.")
        if self.a_to_b == self.b_to_a:
            raise refuse(
                f"both directions are called '{self.a_to_b}'",
                "two words",
                "Give each direction its own word.",
            )
        return self


class LookSettings(Settings):
    """A second model, which looks at the objects that the camera's model found."""

    model: str = Field(
        description="the name of one of `models`: a classifier, or one that makes vectors of pictures"
    )
    labels: Labels = Field(default=(), description="only objects of these classes; empty: all")
    per_s: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=5.0, description="its budget: looks a second at most, all objects of the camera together"
    )
    every_s: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="an object is looked at again after this long; known ones three times less"
    )
    min_px: Annotated[int, Field(ge=1)] = Field(
        default=24, description="objects whose shorter side has fewer pixels are not looked at"
    )
    min_score: Fraction = Field(default=0.5, description="what is said with less is not said")
    similarity: Annotated[float, Field(ge=-1, le=1)] = Field(
        default=0.7, description="of a model of vectors: least cosine of two sightings of one object"
    )


class CameraSettings(Settings):
    """A camera: where its pictures come from, which model looks at them, and what counts."""

    source: Annotated[str, Field(min_length=1), AfterValidator(_source)] = Field(
        repr=False,
        description="rtsp://…, http(s)://… (MJPEG), a video file, a folder of images, or a device such as"
        " /dev/video0; keep passwords in the environment: rtsp://user:${DOOR_PASSWORD}@10.0.0.5/stream1",
    )
    main: Annotated[str, Field(min_length=1), AfterValidator(_main)] | None = Field(
        default=None,
        repr=False,
        description="rtsp://… or http(s)://…: the camera's larger stream, which clips are made of; it is read"
        " without decoding it, and only where a `clips` sink asks; absent: clips are made of `source`",
    )
    model: str = Field(description="the name of one of `models`")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="how RTSP carries its pictures")
    fps: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None, description="inferences a second at most; absent: every frame"
    )
    realtime: bool = Field(
        default=False,
        description="play a recording at its own pace, the newest frame winning, as a live camera would",
    )
    loop: bool = Field(default=False, description="play a recording again and again")
    frames: Literal["all", "key"] | None = Field(
        default=None,
        description="key: decode key frames only, about one a second or two, which costs almost nothing;"
        " absent: as the device profile says",
    )
    deadline_s: Annotated[float, Field(gt=0)] | None = Field(
        default=2.0,
        description="a frame older than this when a worker is free is dropped as late; null: never",
    )
    never_look: tuple[Polygon, ...] = Field(
        default=(),
        description="polygons that are painted over before anything looks at the picture, stores it or"
        " shows it (a neighbour's window, a till's keypad)",
    )
    motion: MotionSettings = MotionSettings()
    tracker: TrackerSettings = TrackerSettings()
    isolate: bool = Field(
        default=False,
        description="true: a process of its own reads and decodes, so that a decoder that crashes costs this"
        " camera alone; for about 60 MB",
    )
    health: HealthSettings | None = Field(
        default=HealthSettings(), description="what is said of a live camera's picture; null: nothing"
    )
    then: dict[Name, LookSettings] = Field(
        default_factory=dict[Name, LookSettings],
        description="models that look at what `model` found; by the name that events give what they say",
    )
    zones: dict[Name, ZoneSettings] = Field(default_factory=dict, description="areas, by name")
    lines: dict[Name, LineSettings] = Field(default_factory=dict, description="lines to cross, by name")

    @model_validator(mode="after")
    def _tracks_outlive_a_frame(self) -> Self:
        pause_s = 1 / self.fps if self.fps else 0
        if self.tracker.max_lost_s <= pause_s:
            raise refuse(
                f"tracks end after {self.tracker.max_lost_s:g} s, but pictures are {pause_s:g} s apart",
                "`tracker.max_lost_s` longer than that",
                "Raise it, or `fps`.",
            )
        return self

    @property
    def shown_source(self) -> str:
        """The source without its credentials, for messages and tables."""
        return redact(self.source)
