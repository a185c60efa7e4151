"""What a device and its manager say to each other, over MQTT as a signal and over HTTPS as the truth.

Topics below `v1/{tenant}/d/{device}/`: `desired` (retained, to the device), `reported`, `presence` (retained,
the last will), `event` (from it), `cmd` (to it, answered on the response topic). `v1/{tenant}/all/notice` is
a hint to everybody that something may have changed. Every message carries `v` and `seq`; a device ignores a
`desired` whose `seq` is not above the last one it took. Encodes nothing.
"""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from edge_runtime.contract.bundle import NAME_PATTERN, Sha256
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import Failure, State

MESSAGE_MAX_BYTES = 64 * 2**10
"""Longer MQTT payloads are refused unread: bytes travel over HTTPS."""

Id = Annotated[str, Field(pattern=NAME_PATTERN)]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", description="UTC")]
ClockTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="store-local HH:MM")]
Bytes = Annotated[int, Field(ge=0)]
Kind = Literal["model", "settings", "labels"]
"""A model's bundle, the agent's settings, or the labels of a model."""


class Delta(Declared):
    """A patch from a version the device may have.

    Args:
        base_sha256: Of the whole file that it starts from.
        target: Its path in the TUF repository.
        size_bytes: Of the patch.
        sha256: Of the patch.
    """

    base_sha256: Sha256
    target: str
    size_bytes: Bytes
    sha256: Sha256


class Window(Declared):
    """When a device may switch: store-local time, over midnight if `end` is before `start`."""

    start: ClockTime
    end: ClockTime
    days: Annotated[tuple[int, ...], Field(description="0 is Monday; empty: every day")] = ()


class Trial(Declared):
    """What the new version has to show beside the old one."""

    shadow_s: float = Field(default=60.0, ge=0, description="seconds beside the old one on live input")
    max_latency_ratio: float = Field(default=1.5, gt=0, description="p95 by the old one's")
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    max_memory_ratio: float = Field(default=1.5, gt=0, description="peak by the old one's")
    min_agreement: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="with the old one's answers, of ten at least; 0: any. More than the default has to be"
        " shown: where too little came to compare on, it is not",
    )
    max_starts: int = Field(default=2, ge=1, description="process starts in the trial before it has crashed")


class Wanted(Declared):
    """One thing a device should have.

    Args:
        kind: A model's bundle, the agent's settings, or the labels of a model.
        name: Of the model, `agent` for settings.
        version: As a person reads it.
        counter: Grows with every release of this name; a lower one is a downgrade.
        deployment: Why the device should have it.
        target: Path of the whole file in the TUF repository.
        size_bytes: Of the whole file.
        sha256: Of the whole file.
        deltas: Patches that lead to it.
        full_allowed: Whether the whole may be fetched where no patch fits.
        window: When to switch; None: at once.
        trial: What it has to show.
    """

    kind: Kind
    name: Id
    version: str
    counter: int = Field(ge=0)
    deployment: Id
    target: str
    size_bytes: Bytes
    sha256: Sha256
    deltas: tuple[Delta, ...] = ()
    full_allowed: bool = True
    window: Window | None = None
    trial: Trial = Trial()


class Named(Declared):
    """What a version is a version of: a kind and a name, as in `Wanted`."""

    kind: Kind
    name: Id


class Desired(Declared):
    """Everything a device should have."""

    v: Literal[1] = 1
    seq: int = Field(ge=0)
    tenant: Id
    device: Id
    wanted: tuple[Wanted, ...] = ()
    removed: tuple[Named, ...] = Field(
        default=(), description="go back to what the device was installed with: no version of it is good"
    )
    cancelled: tuple[Id, ...] = Field(default=(), description="deployments to be given up")


class Have(Declared):
    """One thing a device has, and where its update is.

    Args:
        kind: As in `Wanted`.
        name: As in `Wanted`.
        version: The active one; None: none yet.
        sha256: Of the active one's file.
        counter: Of the active one.
        state: Of the update.
        deployment: The one the state is about.
        progress: Of the download, in [0, 1].
        code: Why it ended, where it did not end well.
        detail: The same for a person, with the number that failed.
    """

    kind: Kind = "model"
    name: Id
    version: str | None = None
    sha256: Sha256 | None = None
    counter: int = 0
    state: State = State.IDLE
    deployment: Id | None = None
    progress: float = Field(default=0.0, ge=0, le=1)
    code: Failure | None = None
    detail: str = Field(default="", max_length=1000)


class Health(Declared):
    """How a device is doing, for a person and for rollouts."""

    uptime_s: float = 0.0
    cpu_cores: float = 0.0
    rss_bytes: Bytes = 0
    disk_free_bytes: Bytes = 0
    cameras_online: int = 0
    cameras: int = 0
    fps: float = 0.0
    fps_asked: float | None = Field(
        default=None, ge=0, description="what the settings ask for; None: every frame of some camera"
    )
    errors_per_s: float = 0.0
    latency_p95_ms: float | None = None
    trouble: Annotated[tuple[str, ...], Field(max_length=20)] = ()


class Reported(Declared):
    """What a device has and how it is; the answer to everything."""

    v: Literal[1] = 1
    seq: int = Field(ge=0)
    device: Id
    desired_seq: int = Field(default=-1, description="of the last `desired` taken; -1: none yet")
    time: Time
    profile: str
    agent: str = Field(description="version of edge-runtime")
    have: tuple[Have, ...] = ()
    health: Health = Health()


class Presence(Declared):
    """Retained; the broker publishes `online: false` when the device vanishes."""

    v: Literal[1] = 1
    online: bool
    time: Time | None = Field(default=None, description="of going online; the last will has none")


class DeviceEvent(Declared):
    """Something that a manager should see even if a later report no longer shows it."""

    v: Literal[1] = 1
    id: str = Field(max_length=64, description="stable: the same happening has the same id")
    time: Time
    level: Literal["info", "warning", "error"]
    code: str
    text: str = Field(max_length=1000)
    deployment: Id | None = None


class Command(Declared):
    """Something to do once, now. Too old (MQTT message expiry, or `expires`), it is not done."""

    v: Literal[1] = 1
    id: Id
    name: Literal["report", "restart-pipeline", "set-log-level", "snapshot", "benchmark", "cancel"]
    arguments: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    expires: Time | None = None


class Reply(Declared):
    """The answer to a command, on its response topic with its correlation data."""

    v: Literal[1] = 1
    id: Id
    ok: bool
    code: Failure | None = None
    result: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    detail: str = Field(default="", max_length=1000)
