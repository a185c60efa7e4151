"""What `store.yaml` may say: the settings of one store's agent, each field described for the editor.

Holds and validates values. Reads no file (`edge_runtime.settings.load` does) and opens no camera or model.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, model_validator

from edge_runtime.analytics.zones import check_polygon
from edge_runtime.bundle import shipped_bundle
from edge_runtime.contract.address import redact
from edge_runtime.contract.bundle import Name
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import TaskSpec
from edge_runtime.settings.base import Fraction, OwnPath, Seconds, Settings, beside_the_file, refuse
from edge_runtime.settings.fleet import BundleSettings, FleetSettings
from edge_runtime.settings.requests import CloudSettings, DoorSettings, OutboxSettings, RouteSettings


def _source(source: str, info: ValidationInfo) -> str:
    scheme, mark, _ = source.partition("://")
    if not mark:
        return str(beside_the_file(Path(source), info))
    if scheme.lower() not in SCHEMES:
        near = get_close_matches(scheme.lower(), SCHEMES, n=1)
        hint = f"Did you mean '{near[0]}://'?" if near else "A file is named without a scheme."
        raise refuse(f"unknown scheme '{scheme}://'", f"one of {', '.join(SCHEMES)}", hint)
    return source


def _profile(profile: str, info: ValidationInfo) -> str:
    if profile.endswith((".yaml", ".yml")):
        return str(beside_the_file(Path(profile), info))
    return profile


def _bundle(bundle: Path, info: ValidationInfo) -> Path:
    return shipped_bundle(str(bundle)) or beside_the_file(bundle, info)


SCHEMES = ("rtsp", "rtsps", "http", "https")
"""Of camera addresses; anything else is a path."""

Point = tuple[Fraction, Fraction]
Labels = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=1000)]


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    try:
        check_polygon("polygon", points)
    except ConfigError as error:
        # The place in the file, which comes first, names the zone.
        problem = error.problem.removeprefix("zone 'polygon'").removeprefix(": ")
        raise refuse(problem or f"{len(points)} corners", error.expected or "", error.do or "") from error
    return points


Polygon = Annotated[tuple[Point, ...], AfterValidator(_polygon)]


class EngineSettings(Settings):
    """Which engine runs a model, and how. Without it the ranking for this device decides."""

    name: str | None = Field(
        default=None, description="onnxruntime, litert, openvino or coreml; absent: the best one installed"
    )
    threads: int = Field(default=1, ge=1, le=256, description="threads one inference may use")
    providers: tuple[str, ...] = Field(
        default=(), description="execution providers or delegates, best first, e.g. CUDAExecutionProvider"
    )
    allow_fallback: bool = Field(
        default=False, description="use the CPU when none of the providers runs, instead of refusing to start"
    )


class ModelSettings(Settings):
    """A model that cameras and requests can use: a bundle, or a bare file with its task."""

    bundle: Annotated[Path, AfterValidator(_bundle)] | None = Field(
        default=None,
        description="a shipped bundle's name (efficientdet-lite0), or the path of a bundle folder",
    )
    file: OwnPath | None = Field(
        default=None, description="a bare model file (.onnx, .tflite, .xml); needs `task`"
    )
    task: TaskSpec | None = Field(
        default=None,
        description="what the bare file does: written here, or the path of a YAML file that says it",
    )
    min_score: Fraction | None = Field(
        default=None, description="detections below this are dropped; absent: as the model's task says"
    )
    labels: Labels = Field(default=(), description="keep only these classes; empty: all the model knows")
    engine: EngineSettings = EngineSettings()
    route: RouteSettings = Field(
        default=RouteSettings(), description="who answers a request to this model: the device, or the cloud"
    )

    @property
    def here(self) -> bool:
        """Whether the device has the model at all."""
        return self.bundle is not None or self.file is not None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.route.policy == "cloud_only" and not self.here and self.task is None:
            return self
        if (self.bundle is None) == (self.file is None):
            raise refuse(
                "neither `bundle` nor `file`" if self.bundle is None else "both `bundle` and `file`",
                "exactly one of them",
                "Name a bundle, or a model file with its task.",
            )
        if (self.task is None) != (self.file is None):
            raise refuse(
                "`task` is missing" if self.task is None else "`task` beside a bundle, which has its own",
                "`task` with `file`, and only there",
                "A bare model file needs a task; a bundle brings one.",
            )
        return self


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


class CameraSettings(Settings):
    """A camera: where its pictures come from, which model looks at them, and what counts."""

    source: Annotated[str, Field(min_length=1), AfterValidator(_source)] = Field(
        repr=False,
        description="rtsp://…, http(s)://… (MJPEG), a video file, a folder of images, or a device such as"
        " /dev/video0; keep passwords in the environment: rtsp://user:${DOOR_PASSWORD}@10.0.0.5/stream1",
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
    motion: MotionSettings = MotionSettings()
    tracker: TrackerSettings = TrackerSettings()
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


class JsonlSinkSettings(Settings):
    """Events as JSON Lines, appended to a file."""

    type: Literal["jsonl"]
    path: OwnPath = Field(description="the file; made with its folder when absent")


class MqttSinkSettings(Settings):
    """Events to an MQTT 5 broker; kept on disk while it is away."""

    type: Literal["mqtt"]
    host: Annotated[str, Field(min_length=1)]
    port: int = Field(default=1883, ge=1, le=65535)
    username: str | None = None
    password: SecretStr | None = Field(
        default=None, description='keep it in the environment: "${MQTT_PASSWORD}"'
    )
    tls: bool = Field(default=False, description="encrypt, and check the broker's certificate")
    ca_file: OwnPath | None = Field(default=None, description="certificates to trust; absent: the system's")
    cert_file: OwnPath | None = Field(default=None, description="this device's certificate")
    key_file: OwnPath | None = Field(default=None, description="the key of this device's certificate")
    prefix: Annotated[str, Field(pattern=r"^[^+#/\s]+(/[^+#/\s]+)*$")] = Field(
        default="edge", description="topics begin with it: {prefix}/{site}/{camera}/events"
    )
    queue_max_bytes: int = Field(
        default=256 * 2**20, ge=2**16, description="events kept on disk at most while the broker is away"
    )
    late: bool = Field(
        default=False,
        description="publish the cloud's late answers, too: {prefix}/{site}/answers/{request_id}; takes a"
        " `door` and a `cloud`",
    )

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        files = (self.ca_file, self.cert_file, self.key_file)
        if not self.tls and any(files):
            raise refuse("certificates without `tls`", "`tls: true`", "Set it, or drop the files.")
        if (self.cert_file is None) != (self.key_file is None):
            raise refuse(
                "`cert_file` and `key_file`", "both or neither", "A certificate works only with its key."
            )
        return self


class VideoSinkSettings(Settings):
    """A video file for each camera with boxes, tracks, zones and counts drawn in."""

    type: Literal["video"]
    folder: OwnPath = Field(description="each camera's video is {folder}/{camera}.mp4")
    cameras: tuple[str, ...] = Field(default=(), description="only these cameras; empty: all")
    fps: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None, description="pictures a second at most; absent: every inferred one"
    )
    height: int = Field(default=480, ge=64, le=4320, multiple_of=2, description="pixels")


class ReportSinkSettings(Settings):
    """One self-contained HTML page with counts over time, heatmaps, latency and CPU."""

    type: Literal["report"]
    path: OwnPath


SinkSettings = Annotated[
    JsonlSinkSettings | MqttSinkSettings | VideoSinkSettings | ReportSinkSettings, Field(discriminator="type")
]


class AgentSettings(Settings):
    """The cameras, models and sinks of one store, and its door for requests."""

    version: Literal[1] = Field(description="of this file's format")
    site: Name = Field(description="this store's name; part of every event and topic")
    state_dir: OwnPath = Field(
        default=Path("state"), validate_default=True, description="what must survive a restart"
    )
    profile: Annotated[str, Field(min_length=1), AfterValidator(_profile)] = Field(
        default="auto",
        description="a device profile's name, the path of one (.yaml), or auto: look at this machine",
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        default="auto", description="inferences at the same time; auto: one a core"
    )
    models: dict[Name, ModelSettings] = Field(
        min_length=1, description="by the name that cameras and requests use"
    )
    cameras: dict[Name, CameraSettings] = Field(
        default_factory=dict[Name, CameraSettings], description="by name; none needed where there is a `door`"
    )
    sinks: tuple[SinkSettings, ...] = Field(default=(), description="where events and pictures go")
    door: DoorSettings | None = Field(
        default=None, description="where applications on this device send requests; absent: nowhere"
    )
    cloud: CloudSettings | None = Field(
        default=None, description="who is asked where the device cannot answer well; absent: nobody"
    )
    outbox: OutboxSettings = Field(
        default=OutboxSettings(), description="what is owed to the cloud while it is away"
    )
    memory_budget_mb: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="MB that models for requests may take together; absent: as the device profile says",
    )
    fleet: FleetSettings | None = Field(
        default=None, description="the fleet that updates this device; absent: nobody does"
    )
    bundles: BundleSettings = Field(
        default=BundleSettings(), description="whose bundles this device runs; absent: whatever it is given"
    )
