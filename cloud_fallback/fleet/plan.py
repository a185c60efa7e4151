"""What becomes of a rollout's decisions: what devices should have, what is written down.

A plan is made from one state of the database and written in one transaction, so that a manager that is killed
has done all of it or nothing. Signs and sends nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from cloud_fallback.fleet import errands
from cloud_fallback.fleet.actions import (
    Action,
    ApprovalNeeded,
    Completed,
    Halt,
    Offer,
    Revert,
    Reverted,
    WaveOpened,
    Withdraw,
)
from cloud_fallback.fleet.database import audit, devices, events, releases, rollouts
from cloud_fallback.fleet.database.events import Event
from cloud_fallback.fleet.database.rollouts import Side
from cloud_fallback.fleet.database.rows import AnyRow
from cloud_fallback.fleet.database.wishes import Key, Wishes
from cloud_fallback.fleet.standing import Standing
from cloud_fallback.fleet.views import Level, ReleaseView
from edge_runtime.contract.deployment import Deployment
from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import Trial, Wanted


@dataclass(frozen=True, slots=True)
class Step:
    """A device's standing that its report has changed.

    Args:
        deployment: Of the rollout.
        device: Which.
        standing: Now.
        detail: Why, as the device said.
        code: Why, for programs.
    """

    deployment: str
    device: str
    standing: Standing
    detail: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """What a deployment brings.

    Args:
        deployment: The deployment.
        release: What it brings.
        trial: What it has to show.
        full_allowed: Whether the whole file may be fetched.
    """

    deployment: Deployment
    release: ReleaseView
    trial: Trial
    full_allowed: bool

    def key(self, device: str) -> Key:
        """Give where a device's wish for it stands."""
        return device, self.deployment.kind, self.deployment.bundle

    def wanted(self, attempt: int) -> Wanted:
        """Say what a device should have."""
        release = self.release
        return Wanted(
            kind=release.kind, name=release.name, version=release.version, counter=release.counter,
            deployment=errands.forward(self.deployment.id, attempt), target=release.target,
            size_bytes=release.size_bytes, sha256=release.sha256, deltas=release.deltas,
            full_allowed=self.full_allowed, window=self.deployment.window, trial=self.trial,
        )  # fmt: skip


def source(tx: Connection, row: AnyRow) -> Source:
    """Load what a deployment brings.

    Raises:
        StorageError: Its release is gone.
    """
    release = releases.find(tx, row.kind, row.name, row.version)
    if release is None:
        raise StorageError(f"deployment {row.id}", expected=f"release {row.version}", got="none")
    deployment = Deployment.model_validate_json(row.content)
    return Source(deployment, release, Trial.model_validate_json(row.trial), row.full_allowed)


@dataclass(slots=True)
class Plan:
    """Decisions of one turn on their way into the database.

    Args:
        wishes: Of all devices concerned.
        sides: Of all members concerned; changed ones are written.
        sources: By deployment.
        events: To be written.
        audit: Action, subject and detail of lines to be written.
        changed_sides: To be written.
    """

    wishes: Wishes
    sides: dict[tuple[str, str], Side]
    sources: Mapping[str, Source]
    events: list[Event] = field(default_factory=list[Event])
    audit: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    changed_sides: dict[tuple[str, str], Side] = field(default_factory=dict[tuple[str, str], Side])

    def write(self, tx: Connection, now_s: float) -> None:
        """Write everything down but how rollouts and their devices stand.

        Args:
            tx: As `Database.begin` gives it.
            now_s: Seconds since 1970, UTC.
        """
        rollouts.save_sides(tx, self.changed_sides)
        self.wishes.write(tx)
        events.write(tx, self.events)
        for action, subject, detail in self.audit:
            audit.write(tx, "manager", action, subject, detail, now_s)

    def step(self, step: Step, now_s: float) -> None:
        """Take in what a report has changed."""
        source = self.sources[step.deployment]
        key, side = source.key(step.device), self._side(step.deployment, step.device)
        wish = self.wishes.of(key)
        errand = errands.forward(step.deployment, side.attempts)
        now_wants = Wanted.model_validate_json(wish.content).deployment if wish.content else None
        match step.standing:
            case Standing.SUCCEEDED:
                if now_wants != errand:  # it was through before it could give up
                    self.wishes.want(key, source.wanted(side.attempts))
                self.wishes.keep(key)
            case Standing.REVERTED:
                if now_wants == errands.back(step.deployment):
                    self.wishes.keep(key)
            case Standing.FAILED | Standing.WITHDRAWN:
                self.wishes.give_up(key, errand, cancel=False)
            case _:
                pass
        if step.standing in {Standing.FAILED, Standing.REGRESSED, Standing.STUCK}:
            code = step.code or f"device-{step.standing}"
            text = step.detail or f"{step.standing}"
            self.events.append(Event(now_s, "warning", code, text, step.device, step.deployment))

    def side(self, deployment: str, device: str, side: Side) -> None:
        """Write down what else is known of a device in a rollout."""
        self.sides[deployment, device] = self.changed_sides[deployment, device] = side

    def act(
        self,
        action: Action,
        rows: Mapping[str, AnyRow],
        back: Mapping[tuple[str, str], Wanted | None],
        now_s: float,
    ) -> None:
        """Carry an action out.

        Args:
            action: What is to be done.
            rows: Of the devices.
            back: Where devices go back to, by deployment and device; one that is not in it cannot.
            now_s: Seconds since 1970, UTC.
        """
        match action:
            case Offer(deployment=id_, device=device):
                self._offer(id_, device, rows.get(device))
            case Withdraw(deployment=id_, device=device):
                key, side = self.sources[id_].key(device), self._side(id_, device)
                self.wishes.give_up(key, errands.forward(id_, side.attempts), cancel=True)
            case Revert(deployment=id_, device=device):
                if (id_, device) in back:
                    self._send_back(id_, device, back[id_, device])
            case Halt(deployment=id_, reason=reason, text=text):
                self._say(id_, "error", "halted", f"{reason}: {text}", now_s)
            case WaveOpened(deployment=id_, wave=wave):
                self._say(id_, "info", "wave-opened", f"wave {wave + 1}", now_s)
            case ApprovalNeeded(deployment=id_, wave=wave):
                self._say(id_, "warning", "approval-needed", f"wave {wave + 1}", now_s)
            case Completed(deployment=id_):
                self._say(id_, "info", "completed", "all waves were good", now_s)
            case Reverted(deployment=id_):
                self._say(id_, "warning", "reverted", "everybody who can be reached is back", now_s)

    def _offer(self, deployment: str, device: str, row: AnyRow | None) -> None:
        source, side = self.sources[deployment], self._side(deployment, device)
        key = source.key(device)
        good = self.wishes.of(key).good or ""
        attempt = side.attempts + 1
        before = row.health if row is not None and row.report_seq >= 0 else ""
        self.side(deployment, device, Side(attempt, before, good if attempt == 1 else side.base))
        wanted = source.wanted(attempt)
        # Of all patches only those that fit: every device is sent this.
        has = {each.sha256 for each in devices.haves(row.have)} if row is not None else set[str]()
        fitting = tuple(each for each in wanted.deltas if each.base_sha256 in has)
        self.wishes.want(key, wanted.model_copy(update={"deltas": fitting}) if fitting else wanted)

    def _send_back(self, deployment: str, device: str, to: Wanted | None) -> None:
        self.wishes.want(self.sources[deployment].key(device), to)
        base = "" if to is None else to.model_dump_json()
        self.side(deployment, device, replace(self._side(deployment, device), base=base))

    def _side(self, deployment: str, device: str) -> Side:
        return self.sides.get((deployment, device), Side())

    def _say(self, deployment: str, level: Level, code: str, text: str, now_s: float) -> None:
        self.events.append(Event(now_s, level, code, text, None, deployment))
        self.audit.append((f"rollout.{code}", deployment, text))
