"""A small fleet in memory behind the console's port: it moves only when a test moves it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.console.ports import Person
from cloud_fallback.fleet.refusals import NotThereError
from cloud_fallback.fleet.selector import parse
from cloud_fallback.fleet.standing import Phase
from cloud_fallback.fleet.views import (
    AuditView,
    DeploymentNew,
    DeploymentView,
    DeviceView,
    EventView,
    MemberView,
    MoveName,
    Overview,
    ReleaseView,
    Role,
    Trouble,
    VersionCount,
    WaveView,
)
from edge_runtime.contract.deployment import Deployment
from edge_runtime.contract.errors import DeadlineError, QuotaError, UnauthorizedError
from edge_runtime.contract.fleet import Have, Health, Reply, Wanted
from edge_runtime.contract.update import Failure, State

NOW_S = 1_780_000_000.0
OLD, NEW = "a" * 64, "b" * 64
PICTURE = base64.b64encode(b"\xff\xd8\xff\xe0 not much of a picture").decode()
XSS = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
ROLES: dict[str, Role] = {"fleet_viewer": "viewer", "fleet_operator": "operator"}
PHASES: dict[MoveName, Phase] = {
    "approve": Phase.RUNNING,
    "pause": Phase.PAUSED,
    "resume": Phase.RUNNING,
    "halt": Phase.HALTED,
    "revert": Phase.REVERTING,
    "cancel": Phase.CANCELLED,
}


def ago(seconds: float) -> str:
    return moments.text(NOW_S - seconds)


def device(number: int, **changes: Any) -> DeviceView:
    """Give a store PC that runs 1.4.0 and is well."""
    have = Have(name="detector", version="1.4.0", sha256=OLD, counter=4, state=State.IDLE)
    view = DeviceView(
        name=f"store-{number:03}",
        profile="store-pc",
        labels={"region": "west" if number % 2 else "south", "store": f"{4000 + number}"},
        groups=("pilot",) if number < 4 else (),
        timezone="Europe/Berlin",
        online=number % 7 != 0,
        last_seen=ago(20 + 3 * number if number % 7 else 7200.0),
        agent="0.9.0",
        enrolled_at=ago(90 * 86400),
        desired_seq=12,
        taken_seq=12,
        have=(have,),
        health=Health(
            uptime_s=86400.0 * 3,
            cpu_cores=1.2,
            rss_bytes=612_000_000,
            disk_free_bytes=41_000_000_000,
            cameras_online=2,
            cameras=2,
            fps=29.8,
            latency_p95_ms=31.5,
        ),
    )
    return view.model_copy(update=changes)


def rolled_back(number: int) -> DeviceView:
    """Give one that tried 1.5.0 and went back."""
    detail = "12 of 4000 output values are not numbers"
    have = Have(
        name="detector", version="1.4.0", sha256=OLD, counter=4, state=State.ROLLED_BACK,
        deployment="detector-1.5.0", code=Failure.NOT_A_NUMBER, detail=detail,
    )  # fmt: skip
    wanted = Wanted(
        kind="model", name="detector", version="1.5.0", counter=5, deployment="detector-1.5.0",
        target="model/detector/5-1.5.0.zip", size_bytes=4_300_000, sha256=NEW,
    )  # fmt: skip
    return device(number, have=(have,), wanted=(wanted,), trouble="detector: rolled-back (not-a-number)")


def rollout(phase: Phase = Phase.RUNNING, **changes: Any) -> DeploymentView:
    """Give a rollout of 1.5.0 in its second wave."""
    view = DeploymentView(
        deployment=Deployment(
            id="detector-1.5.0", bundle="detector", version="1.5.0", counter=5, sha256=NEW,
            selector="profile=store-pc and region=west",
        ),
        release="1.5.0",
        phase=phase,
        wave=1,
        waves=(
            WaveView(share=0.05, devices=2, standings={"succeeded": 2}),
            WaveView(share=0.25, devices=8, standings={"succeeded": 3, "offered": 3, "failed": 2}),
            WaveView(share=1.0, devices=30, standings={"waiting": 30}),
        ),
        reached=10,
        failed=2,
        created_at=ago(7200),
        created_by="anna",
        updated_at=ago(40),
    )  # fmt: skip
    return view.model_copy(update=changes)


@dataclass
class Fleet:
    """The fleet; tests change its attributes and look at `asked`."""

    listed: dict[str, DeviceView] = field(default_factory=dict[str, DeviceView])
    rollouts: dict[str, DeploymentView] = field(default_factory=dict[str, DeploymentView])
    asked: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    failures: int = 0
    revoked: set[str] = field(default_factory=set[str])
    withdrawn: set[str] = field(default_factory=set[str])
    broken_at: int | None = None
    silent: bool = False
    answer: Reply | None = None
    happened: list[EventView] = field(default_factory=list[EventView])
    written: list[AuditView] = field(default_factory=list[AuditView])

    @classmethod
    def of_a_good_day(cls) -> "Fleet":
        """Make a fleet of 40 devices with a rollout under way, two of them in trouble."""
        fleet = cls()
        for number in range(1, 41):
            one = rolled_back(number) if number in (9, 11) else device(number)
            fleet.listed[one.name] = one
        fleet.rollouts = {"detector-1.5.0": rollout()}
        done = rollout(Phase.COMPLETED, reached=40, failed=0, wave=2, updated_at=ago(86400 * 9))
        name = Deployment.model_copy(done.deployment, update={"id": "detector-1.4.0", "version": "1.4.0"})
        fleet.rollouts["detector-1.4.0"] = done.model_copy(update={"deployment": name, "release": "1.4.0"})
        fleet.happened = [
            EventView(n=3, time=ago(60), level="error", code="rolled-back", device="store-009",
                      deployment="detector-1.5.0", text="detector 1.5.0: not-a-number: 12 of 4000 values"),
            EventView(n=2, time=ago(900), level="info", code="wave-opened", deployment="detector-1.5.0",
                      text="Wave 2: 8 devices"),
            EventView(n=1, time=ago(4000), level="warning", code="camera-offline", device="store-021",
                      text="camera entrance does not answer"),
        ]  # fmt: skip
        fleet.written = [
            AuditView(n=n, time=ago(8000 - n), who="anna", action=action, subject="detector-1.5.0",
                      detail=detail, hash=f"{n:064x}")
            for n, action, detail in ((2, "deployment.create", "for all"), (1, "release.publish", ""))
        ]  # fmt: skip
        return fleet

    def log_in(self, token: str, address: str) -> Person:
        if token in ROLES:
            return Person(token.removeprefix("fleet_"), ROLES[token], token)
        self.failures += 1
        if self.failures > 5:
            raise QuotaError("too many failed logins from this address", retry_after_s=60, got=address)
        raise UnauthorizedError("token", expected="one of this fleet", got="another one")

    def person(self, token_sha256: str) -> Person | None:
        if token_sha256 in self.revoked:
            return None
        return Person(token_sha256.removeprefix("fleet_"), ROLES[token_sha256], token_sha256)

    def overview(self) -> Overview:
        devices = self.listed.values()
        return Overview(
            devices=len(self.listed),
            online=sum(each.online for each in devices),
            by_version=(
                VersionCount(kind="model", name="detector", version="1.4.0", devices=35),
                VersionCount(kind="model", name="detector", version="1.5.0", devices=5),
            ),
            deployments=tuple(each for each in self.rollouts.values() if each.phase is not Phase.COMPLETED),
            trouble=tuple(
                Trouble.model_construct(device=each.name, text=each.trouble)
                for each in devices
                if each.trouble
            ),
        )

    def devices(self, selector: str, state: str, after: str, limit: int) -> Sequence[DeviceView]:
        chosen = parse(selector)
        fits = [
            each for each in self.listed.values() if chosen.matches({**each.labels, "profile": each.profile})
        ]
        if state in ("online", "offline"):
            fits = [each for each in fits if each.online == (state == "online")]
        if state == "trouble":
            fits = [each for each in fits if each.trouble]
        return [each for each in fits if each.name > after][:limit]

    def device(self, name: str) -> DeviceView:
        if name not in self.listed:
            raise NotThereError("device", expected="one of the fleet", got=repr(name))
        return self.listed[name]

    def matching(self, selector: str) -> int:
        return len(self.devices(selector, "", "", 1000))

    def deployments(self, limit: int) -> Sequence[DeploymentView]:
        return list(self.rollouts.values())[:limit]

    def deployment(self, id_: str) -> DeploymentView:
        if id_ not in self.rollouts:
            raise NotThereError("deployment", expected="one that is there", got=repr(id_))
        return self.rollouts[id_]

    def members(self, id_: str, standing: str | None, limit: int) -> Sequence[MemberView]:
        detail = "not-a-number: 12 of 4000 output values are not numbers"
        bad = [
            MemberView(device=name, wave=1, standing="failed", online=True, since=ago(since), detail=detail)
            for name, since in (("store-009", 60), ("store-011", 240))
        ]
        good = [
            MemberView(
                device=f"store-{n:03}", wave=0, standing="succeeded", online=True, since=ago(4000 - 300 * n)
            )
            for n in range(1, 6)
        ]
        return [each for each in bad + good if standing in (None, each.standing)][:limit]

    def held(self, id_: str, limit: int) -> Sequence[MemberView]:
        why = "it has, or may have, detector 1.5.0 of detector-1.5.0, which is newer"
        view = MemberView(
            device="store-001", wave=0, standing="waiting", online=True, since=ago(60), blocked=True, held=why
        )
        return [view][: self.rollouts[id_].held]

    def releases(self) -> Sequence[ReleaseView]:
        return [
            ReleaseView(
                kind="model", name="detector", version=version, counter=counter, sha256=sha256,
                size_bytes=4_300_000, target=f"model/detector/{counter}-{version}.zip",
                profiles=("store-pc",), published_at=ago(9000 * counter), published_by="anna",
                withdrawn_at=ago(60) if version in self.withdrawn else None,
                withdrawn_by="berta" if version in self.withdrawn else None,
                withdrawn_reason="it counts twice" if version in self.withdrawn else None,
            )
            for version, counter, sha256 in (("1.5.0", 5, NEW), ("1.4.0", 4, OLD))
        ]  # fmt: skip

    def events(self, device: str | None, deployment: str | None, limit: int) -> Sequence[EventView]:
        return [
            each
            for each in self.happened
            if device in (None, each.device) and deployment in (None, each.deployment)
        ][:limit]

    def audit(self, before: int | None, limit: int) -> Sequence[AuditView]:
        return [each for each in self.written if before is None or each.n < before][:limit]

    def audit_broken_at(self) -> int | None:
        return self.broken_at

    def deploy(self, who: str, new: DeploymentNew) -> str:
        self.asked.append(("deploy", who, new))
        id_ = new.id or "made"
        self.rollouts[id_] = rollout()
        return id_

    def move(self, who: str, id_: str, move: MoveName, reason: str) -> None:
        self.asked.append((move, who, id_, reason))
        now = self.rollouts[id_]
        self.rollouts[id_] = now.model_copy(update={"phase": PHASES[move], "reason": reason or None})

    def command(self, who: str, device: str, name: str, arguments: Mapping[str, str]) -> Reply:
        self.asked.append((name, who, device, dict(arguments)))
        if self.silent:
            raise DeadlineError(f"{device} does not answer")
        if self.answer is not None:
            return self.answer
        return Reply(id="c1", ok=True, result={"jpeg_base64": PICTURE} if name == "snapshot" else {})
