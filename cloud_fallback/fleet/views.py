"""Views: what the manager's API takes and gives as JSON, and what the console shows.

Times are RFC 3339, UTC. Holds no rule of a rollout and touches no database.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cloud_fallback.fleet.standing import Phase
from edge_runtime.contract.bundle import Sha256
from edge_runtime.contract.deployment import Deployment, Pace, Thresholds, Wave
from edge_runtime.contract.fleet import Bytes, Delta, Have, Health, Id, Kind, Time, Trial, Wanted, Window
from edge_runtime.contract.task import Declared

Role = Literal["viewer", "operator", "admin"]
"""What a token may do; each may what the one before may."""
Level = Literal["info", "warning", "error"]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]
LabelValue = Annotated[str, Field(max_length=100)]
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=50)]
Groups = Annotated[tuple[Id, ...], Field(max_length=50)]
MoveName = Literal["approve", "pause", "resume", "halt", "revert", "cancel"]


class DeviceView(Declared):
    """A device of the fleet.

    Args:
        name: Unique in the fleet.
        profile: Its device profile.
        labels: Key and value, for selectors.
        groups: That it belongs to.
        timezone: IANA name, of its store.
        online: Whether it is connected.
        last_seen: Of its last message; None: none yet.
        agent: Version of edge-runtime.
        enrolled_at: When it got its certificate.
        revoked_at: When that was taken from it; None: it is one of the fleet.
        desired_seq: Of what it should have.
        taken_seq: Of what it has taken in; -1: nothing yet.
        have: What it runs.
        wanted: What it should run.
        health: As it last said.
        trouble: The worst thing about it, for a person; None: nothing.
    """

    name: Id
    profile: Id
    labels: Labels = Field(default_factory=dict[str, str])
    groups: Groups = ()
    timezone: str = "UTC"
    online: bool = False
    last_seen: Time | None = None
    agent: str = ""
    enrolled_at: Time
    revoked_at: Time | None = None
    desired_seq: int = 0
    taken_seq: int = -1
    have: tuple[Have, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    health: Health = Health()
    trouble: str | None = None


class DevicePatch(Declared):
    """What changes about a device; what is None stays."""

    labels: Labels | None = None
    groups: Groups | None = None
    timezone: Annotated[str, Field(max_length=64)] | None = None


class ReleaseNew(Declared):
    """A version to be published; the TUF repository says everything else about it."""

    target: Annotated[str, Field(max_length=400)] = Field(description="path of the whole file")


class ReleaseView(Declared):
    """A version that is published."""

    kind: Kind
    name: Id
    version: str
    counter: int
    sha256: Sha256
    size_bytes: Bytes
    target: str
    deltas: tuple[Delta, ...] = ()
    profiles: tuple[str, ...] = ()
    published_at: Time
    published_by: str
    withdrawn_at: Time | None = Field(default=None, description="None: it may be rolled out")
    withdrawn_by: str | None = None
    withdrawn_reason: str | None = None


class WithdrawalNew(Declared):
    """A version that is not to be rolled out any more, and why."""

    kind: Kind = "model"
    name: Id
    version: str
    reason: Annotated[str, Field(max_length=1000)] = ""


class WithdrawalView(Declared):
    """A version that was withdrawn.

    Args:
        release: It.
        halted: Deployments that were told to halt.
        devices: Devices that run it; they keep it until a rollout of it is reverted, or a newer one comes.
    """

    release: ReleaseView
    halted: tuple[str, ...] = ()
    devices: int = 0


class DeploymentNew(Declared):
    """A release to be rolled out.

    Args:
        id: None: the manager chooses one. At most 48 characters.
        kind: Of the release.
        name: Of the release.
        version: Of the release.
        selector: Which devices.
        waves: As in `Deployment`, like all that follow.
        window: Store-local.
        thresholds: When it goes on, and when it halts.
        pace: How fast.
        on_halt: What becomes of those that have it.
        full_allowed: Whether the whole file may be fetched where no patch fits.
        trial: What it has to show on a device.
    """

    id: Id | None = None
    kind: Kind = "model"
    name: Id
    version: str
    selector: str = "all"
    waves: Annotated[tuple[Wave, ...], Field(max_length=100)] = (
        Wave(share=0.05),
        Wave(share=0.25),
        Wave(share=1.0),
    )
    window: Window | None = None
    thresholds: Thresholds = Thresholds()
    pace: Pace = Pace()
    on_halt: Literal["keep", "revert"] = "revert"
    full_allowed: bool = True
    trial: Trial = Trial()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.window is not None and not all(0 <= day <= 6 for day in self.window.days):
            raise ValueError(f"window.days: 0 is Monday and 6 is Sunday, got {list(self.window.days)}")
        if self.trial.shadow_s > self.pace.timeout_s:
            raise ValueError(
                f"trial.shadow_s: a trial of {self.trial.shadow_s:g} s does not end "
                f"before pace.timeout_s, {self.pace.timeout_s:g} s: every device would count as failed"
            )
        return self


class WaveView(Declared):
    """A wave of a deployment: its share, and its devices by how they stand."""

    share: float
    needs_approval: bool = False
    devices: int
    standings: dict[str, int] = Field(default_factory=dict[str, int], description="by `Standing`, none is 0")
    held: int = Field(default=0, description="of those that wait: another rollout has them")


class DeploymentView(Declared):
    """A deployment and how its rollout stands.

    Args:
        deployment: What, for whom, how fast.
        release: The version that it brings.
        phase: Of the rollout.
        wave: The last one opened, from 0; -1: none yet.
        reason: Why it stopped; None: it has not.
        waves: One by one.
        reached: Devices that were offered the version.
        failed: Of those, the failed, timed-out and regressed ones.
        held: Devices that wait because another rollout has them, or brought them something newer.
        archived: Whether it has left the engine: it no longer catches anybody up.
        created_at: When.
        created_by: Name of the token.
        updated_at: Of the last change.
    """

    deployment: Deployment
    release: str
    phase: Phase
    wave: int
    reason: str | None = None
    waves: tuple[WaveView, ...] = ()
    reached: int = 0
    failed: int = 0
    held: int = 0
    archived: bool = False
    created_at: Time
    created_by: str
    updated_at: Time


class MemberView(Declared):
    """A device in a deployment."""

    device: Id
    wave: int
    standing: str
    online: bool
    since: Time
    blocked: bool = Field(default=False, description="it waits, and another rollout has it")
    held: str = Field(default="", description="which rollout that is, and why it comes first")
    detail: str = Field(default="", description="why it failed, as it said")


class MoveNew(Declared):
    """Why a person does what is in the path."""

    reason: Annotated[str, Field(max_length=1000)] = ""


class EventView(Declared):
    """Something that happened, on a device or in a rollout."""

    n: int
    time: Time
    level: Level
    code: str
    text: str
    device: str | None = None
    deployment: str | None = None


class AuditView(Declared):
    """One line of the audit log; `hash` covers it and the hash of the line before."""

    n: int
    time: Time
    who: str
    action: str
    subject: str
    detail: str
    hash: Sha256


class TokenNew(Declared):
    """A token for a person or a program."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role
    expires_s: float | None = Field(default=None, gt=0, description="from now; None: never")


class TokenView(Declared):
    """A token, without its secret."""

    id: int
    name: str
    role: Role
    created_at: Time
    created_by: str
    expires_at: Time | None = None
    revoked_at: Time | None = None
    last_used: Time | None = None


class EnrolmentNew(Declared):
    """A one-time token for a device to come."""

    device: Id | None = Field(default=None, description="None: the device says its name")
    labels: Labels = Field(default_factory=dict[str, str])
    groups: Groups = ()
    expires_s: float = Field(default=86400.0, gt=0, le=366 * 86400.0)


class VersionCount(Declared):
    """How many devices run a version."""

    kind: Kind
    name: Id
    version: str | None
    devices: int


class Trouble(Declared):
    """A device that something is wrong with."""

    device: Id
    text: str


class Overview(Declared):
    """The fleet at a glance.

    Args:
        devices: All that are not revoked.
        online: Of them.
        by_version: How many run what.
        deployments: Those that still do something, the newest first.
        trouble: The first of the devices that something is wrong with.
    """

    devices: int
    online: int
    by_version: tuple[VersionCount, ...] = ()
    deployments: tuple[DeploymentView, ...] = ()
    trouble: tuple[Trouble, ...] = ()
