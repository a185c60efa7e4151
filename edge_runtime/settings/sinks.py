"""What `store.yaml` says of the places where events and pictures go. Opens nothing."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from edge_runtime.settings.base import OwnPath, Settings, refuse
from edge_runtime.settings.home_assistant import HomeAssistantSettings
from edge_runtime.settings.outgoing import KafkaSinkSettings, RedisSinkSettings, WebhookSinkSettings
from edge_runtime.settings.privacy import OwnBlur
from edge_runtime.settings.recordings import ClipsSinkSettings, SnapshotsSinkSettings


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
    home_assistant: HomeAssistantSettings | None = Field(
        default=None,
        description="announce cameras, zones, lines and models to Home Assistant; `{}` is enough; absent:"
        " nobody is told",
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
    blur: OwnBlur = None


class ReportSinkSettings(Settings):
    """One self-contained HTML page with counts over time, heatmaps, latency and CPU."""

    type: Literal["report"]
    path: OwnPath
    blur: OwnBlur = None


SinkSettings = Annotated[
    JsonlSinkSettings
    | MqttSinkSettings
    | WebhookSinkSettings
    | RedisSinkSettings
    | KafkaSinkSettings
    | VideoSinkSettings
    | ReportSinkSettings
    | ClipsSinkSettings
    | SnapshotsSinkSettings,
    Field(discriminator="type"),
]
