"""How a camera and the agent are doing, as the command line, the report and the page show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class CameraState(StrEnum):
    """Where a camera is in its life."""

    STARTING = "starting"
    ONLINE = "online"
    OFFLINE = "offline"
    """Not reachable; the source tries again by itself."""
    ENDED = "ended"
    """A recording was read to its end."""
    FAILED = "failed"
    """Cannot work until somebody changes something."""


class Condition(StrEnum):
    """What is wrong with the picture of a camera that sends pictures."""

    FROZEN = "frozen"
    """The same picture again and again."""
    BLACK = "black"
    """Nothing but black."""
    BLINDED = "blinded"
    """No structure: a lamp, a cover or dirt in front of the lens."""
    MOVED = "moved"
    """Another place than before: the camera was turned."""


class DropCause(StrEnum):
    """Why a decoded frame was not inferred."""

    SAMPLED = "sampled"
    """Not due at the camera's target rate."""
    STILL = "still"
    """The motion gate saw nothing move, or the decoder dozed."""
    REPLACED = "replaced"
    """A newer frame of a live camera came before a worker was free."""
    LATE = "late"
    """Older than the camera's deadline when a worker was free."""
    CORRUPT = "corrupt"
    """The decoder or the model could not use it."""
    STOPPED = "stopped"
    """Read, and not looked at any more, when the camera was told to stop."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A distribution over the recent frames of a camera, in milliseconds."""

    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera, now.

    Args:
        name: The camera.
        state: Where it is in its life.
        reason: Why, for a person; empty when online.
        decoded: Frames that came so far; while dozing, those passed over count, too.
        inferred: Frames a model looked at.
        dropped: Frames not inferred, by cause.
        reconnects: How often the source was opened again.
        inferred_fps: Over the last seconds.
        progress: Share of a recording read so far; None for a live source.
        latency: From decoded to events out.
        inference: Time in the engine.
        cpu_ms: Mean CPU time of this camera's decoding and inference a frame decoded.
        occupancy: Objects in each zone now.
        crossings: By line, then by direction.
        decoder: What decodes: a hardware decoder's name, or `processor`; and why not what the profile names.
        health: What is wrong with its picture.
        age_s: How old its answers of the last seconds were, in the middle; None: there were
            none, or it is no live camera.
    """

    name: str
    state: CameraState
    reason: str = ""
    decoded: int = 0
    inferred: int = 0
    dropped: Mapping[DropCause, int] = field(default_factory=dict[DropCause, int])
    reconnects: int = 0
    inferred_fps: float = 0.0
    progress: float | None = None
    latency: Timing = Timing()
    inference: Timing = Timing()
    cpu_ms: float = 0.0
    occupancy: Mapping[str, int] = field(default_factory=dict[str, int])
    crossings: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    decoder: str = ""
    health: tuple[Condition, ...] = ()
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """One sink, now: events (or pictures) taken, still owed and lost, and the last trouble."""

    name: str
    written: int = 0
    waiting: int = 0
    dropped: int = 0
    trouble: str = ""
    what: Literal["events", "pictures", "recordings"] = "events"
    """What it counts."""


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """The door and the cloud behind it, now.

    Args:
        door: Its address; empty: there is none.
        answered: By route: `local`, `cloud`, `refuse`.
        models: By name: the variant that is open, or why none is.
        cloud: `online`, `offline` or `breaker open`; empty: there is none.
        owed: Requests that wait in the outbox.
        dropped: Requests that the outbox dropped, for room or for age.
        trouble: Why the outbox does not drain, or cannot be read; empty when it does.
    """

    door: str = ""
    answered: Mapping[str, int] = field(default_factory=dict[str, int])
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    cloud: str = ""
    owed: int = 0
    dropped: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One thing that a fleet updates, now.

    Args:
        kind: `model`, `settings` or `labels`.
        name: Of the model; `agent` for settings.
        version: That is active; empty: what the device was installed with.
        state: Of its update.
        target: The version that the update leads to; empty: there is none under way.
        progress: Of the download, in [0, 1].
        reason: Why the last one did not end well; empty where it did.
    """

    kind: str
    name: str
    version: str = ""
    state: str = "idle"
    target: str = ""
    progress: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The fleet that the device is one of, now.

    Args:
        tenant: Whose it is.
        device: Its name there.
        connected: Whether the broker can be reached.
        versions: What was updated, or is.
        trouble: What is wrong; empty where nothing is.
    """

    tenant: str
    device: str
    connected: bool = False
    versions: tuple[VersionStatus, ...] = ()
    trouble: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The store, now: who came and went over its entrances.

    Args:
        day: The store's day, as `2026-11-25`; it begins when the settings say so.
        inside: People in the store.
        entered: Seen coming in today.
        left: Seen going out today.
        missed: Entries nobody saw, as far as leavings prove them.
    """

    day: str
    inside: int = 0
    entered: int = 0
    left: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The whole agent, now."""

    cameras: tuple[CameraStatus, ...]
    sinks: tuple[SinkStatus, ...]
    uptime_s: float
    cpu_cores: float
    """Cores busy since the start, all threads of this process."""
    rss_bytes: int
    requests: RequestStatus | None = None
    """None: the agent has no door."""
    fleet: FleetStatus | None = None
    """None: the device is in no fleet."""
    later: tuple[str, ...] = ()
    """Settings that have changed and wait for a restart."""
    store: StoreStatus | None = None
    """None: the agent keeps no counts, or no line is an entrance."""
    trouble: str = ""
    """What is wrong with the agent as a whole; empty: nothing."""
    level: int = 0
    """How much the machine has given up, so as not to break; 0: nothing."""
    level_reason: str = ""
    """Why; empty at 0."""
