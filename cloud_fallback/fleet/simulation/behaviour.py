"""What one simulated device does with what it is told: speaks as a real one, fetches and runs nothing.

It takes `desired`, goes through the states of an update in the time it is given, and reports; how that ends
is its manner with that version. Pure: `now_s` comes in, and `wake_at` says when it wants to be asked again.
Downloads, trust and trials are those of `edge_runtime.update`, and are not played here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from edge_runtime.contract.fleet import (
    Command,
    Desired,
    DeviceEvent,
    Have,
    Health,
    Presence,
    Reply,
    Reported,
    Wanted,
)
from edge_runtime.contract.update import Failure, State, UpdateFailedError
from edge_runtime.fleet.parsing import encode, encode_report, parse
from edge_runtime.fleet.topics import Channel, Topics

_AGENT = "simulated"
_WELL = Health(cameras=2, cameras_online=2, fps=20.0, disk_free_bytes=8 << 30, rss_bytes=200 << 20)
_ILL = _WELL.model_copy(
    update={"cameras_online": 0, "fps": 0.0, "errors_per_s": 5.0, "trouble": ("no camera gives pictures",)}
)


class Manner(StrEnum):
    """How a device takes a version."""

    GOOD = "good"
    FAILS = "fails"
    """The trial rolls it back, with a code."""
    SILENT = "silent"
    """It begins, and never says how it ended."""
    VANISHES = "vanishes"
    """It reports success, and is then never seen again."""
    REGRESSES = "regresses"
    """It reports success, and its cameras are gone a little later."""
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take on a simulated device.

    Args:
        fetch_s: From `desired` to the trial.
        trial_s: Of the trial.
        slow_times: Both, times this, where it is slow.
        after_s: From success to what a bad version does later.
        report_every_s: Between reports though nothing happened.
        notice_s: Reports after a notice are spread over this.
    """

    fetch_s: float = 0.0
    trial_s: float = 0.0
    slow_times: float = 10.0
    after_s: float = 5.0
    report_every_s: float = 300.0
    notice_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    """Something to publish."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """It has vanished: no more connections, and no goodbye."""


Out = Said | Gone


def always_good(device: str, wanted: Wanted) -> Manner:
    """Take every version well."""
    return Manner.GOOD


@dataclass(slots=True)
class _Update:
    wanted: Wanted
    manner: Manner
    state: State
    next_s: float


@dataclass(slots=True)
class SimulatedDevice:
    """One device. `spread` in [0, 1) is its place where many would otherwise do something at once.

    Args:
        name: Of the device.
        tenant: Whose it is.
        profile: Its device profile.
        spread: In [0, 1).
        manner: How it takes a version.
        pace: How long things take.
    """

    name: str
    tenant: str
    profile: str
    spread: float
    manner: Callable[[str, Wanted], Manner] = always_good
    pace: Pace = Pace()
    desired_seq: int = -1
    gone: bool = False
    _seq: int = 0
    _have: dict[tuple[str, str], Have] = field(default_factory=dict[tuple[str, str], Have])
    _updates: dict[tuple[str, str], _Update] = field(default_factory=dict[tuple[str, str], _Update])
    _report_s: float = float("inf")
    _turns_s: float | None = None
    _ill: bool = False

    @property
    def topics(self) -> Topics:
        """Give where it speaks and hears."""
        return Topics(self.tenant, self.name)

    @property
    def will(self) -> Said:
        """Give what the broker says for it when it vanishes."""
        return Said(self.topics.of(Channel.PRESENCE), encode(Presence(online=False)), retain=True)

    def have(self) -> tuple[Have, ...]:
        """Say what it has."""
        return tuple(self._have.values())

    def connected(self, now_s: float) -> list[Out]:
        """Say hello, after every connection."""
        here = encode(Presence(online=True, time=_moment(now_s)))
        return [Said(self.topics.of(Channel.PRESENCE), here, retain=True), self._report(now_s)]

    def hear(
        self, topic: str, payload: bytes, correlation: bytes | None, reply_to: str | None, now_s: float
    ) -> list[Out]:
        """Take a message.

        Raises:
            UpdateFailedError: It is none of the protocol's.
        """
        channel = topic.rpartition("/")[2]
        if channel == Channel.DESIRED:
            return self._desire(parse(Desired, payload), now_s)
        if channel == Channel.NOTICE:
            self._report_s = min(self._report_s, now_s + self.spread * self.pace.notice_s)
            return []
        return self._obey(parse(Command, payload), correlation, reply_to, now_s)

    def poll(self, now_s: float) -> list[Out]:
        """Do what is due."""
        outs: list[Out] = []
        for key, update in tuple(self._updates.items()):
            if update.next_s <= now_s:
                outs += self._go_on(key, update, now_s)
        if self._turns_s is not None and self._turns_s <= now_s:
            outs += self._turn(now_s)
        if self._report_s <= now_s:
            outs.append(self._report(now_s))
        return outs

    def wake_at(self) -> float:
        """Say when `poll` has something to do; infinity: never."""
        times_s = [each.next_s for each in self._updates.values()]
        return min([self._report_s, *times_s, *([] if self._turns_s is None else [self._turns_s])])

    def _desire(self, desired: Desired, now_s: float) -> list[Out]:
        if desired.device != self.name or desired.tenant != self.tenant:
            raise UpdateFailedError(
                Failure.MESSAGE_FOREIGN_TOPIC, "desired", expected=self.name, got="another"
            )
        if desired.seq <= self.desired_seq:
            return []
        self.desired_seq = desired.seq
        wanted = {(each.kind, each.name): each for each in desired.wanted}
        for key, update in tuple(self._updates.items()):
            given_up = update.wanted.deployment in desired.cancelled
            if given_up or key not in wanted or wanted[key].deployment != update.wanted.deployment:
                self._end(key, update, State.CANCELLED, Failure.CANCELLED, "no longer wanted")
        for each in desired.removed:
            self._have.pop((each.kind, each.name), None)
            self._get_well()
        for key, each in wanted.items():
            if (
                key not in self._updates
                and self._is_new(key, each)
                and each.deployment not in desired.cancelled
            ):
                self._begin(key, each, now_s)
        outs = self.poll(now_s)  # what takes no time is told at once
        return outs if outs else [self._report(now_s)]

    def _is_new(self, key: tuple[str, str], wanted: Wanted) -> bool:
        have = self._have.get(key)
        return have is None or (have.sha256 != wanted.sha256 and have.deployment != wanted.deployment)

    def _begin(self, key: tuple[str, str], wanted: Wanted, now_s: float) -> None:
        manner = self.manner(self.name, wanted)
        update = _Update(wanted, manner, State.DOWNLOADING, now_s + self._takes(manner, self.pace.fetch_s))
        self._updates[key] = update
        self._show(key, update, State.DOWNLOADING)

    def _takes(self, manner: Manner, seconds: float) -> float:
        return seconds * (self.pace.slow_times if manner is Manner.SLOW else 1.0)

    def _go_on(self, key: tuple[str, str], update: _Update, now_s: float) -> list[Out]:
        if update.state is State.DOWNLOADING:
            update.state = State.TRIAL
            update.next_s = now_s + self._takes(update.manner, self.pace.trial_s)
            self._show(key, update, State.TRIAL)
            if update.next_s > now_s:
                return [self._report(now_s)]
        if update.manner is Manner.SILENT:
            update.next_s = float("inf")
            return []
        if update.manner is Manner.FAILS:
            self._end(key, update, State.ROLLED_BACK, Failure.NOT_A_NUMBER, "12 outputs are not numbers")
            failed = DeviceEvent(
                id=f"{update.wanted.deployment[:50]}-end",
                time=_moment(now_s),
                level="error",
                code=Failure.NOT_A_NUMBER,
                text="rolled back: 12 outputs are not numbers",
                deployment=update.wanted.deployment,
            )
            return [Said(self.topics.of(Channel.EVENT), encode(failed)), self._report(now_s)]
        self._end(key, update, State.COMMITTED)
        self._get_well()
        if update.manner in {Manner.VANISHES, Manner.REGRESSES}:
            self._turns_s = now_s + self.pace.after_s
            self._ill = update.manner is Manner.REGRESSES
        return [self._report(now_s)]

    def _get_well(self) -> None:
        self._turns_s, self._ill = None, False

    def _turn(self, now_s: float) -> list[Out]:
        """Show what a bad version does after a while."""
        self._turns_s = None
        if self._ill:
            return [self._report(now_s)]
        self.gone = True
        return [Gone()]

    def _end(
        self,
        key: tuple[str, str],
        update: _Update,
        state: State,
        code: Failure | None = None,
        detail: str = "",
    ) -> None:
        del self._updates[key]
        self._show(key, update, state, code, detail)

    def _show(
        self,
        key: tuple[str, str],
        update: _Update,
        state: State,
        code: Failure | None = None,
        detail: str = "",
    ) -> None:
        """Write down where an update is; the version changes where it was committed."""
        wanted, before = update.wanted, self._have.get(key)
        has = wanted if state is State.COMMITTED else before
        self._have[key] = Have(
            kind=wanted.kind,
            name=wanted.name,
            version=has.version if has else None,
            sha256=has.sha256 if has else None,
            counter=has.counter if has else 0,
            state=state,
            deployment=wanted.deployment,
            code=code,
            detail=detail,
        )

    def _obey(
        self, command: Command, correlation: bytes | None, reply_to: str | None, now_s: float
    ) -> list[Out]:
        reply = Reply(id=command.id, ok=True)
        outs: list[Out] = []
        if command.name == "report":
            outs.append(self._report(now_s))
        elif command.name == "cancel":
            asked = command.arguments.get("deployment")
            for key, update in tuple(self._updates.items()):
                if update.wanted.deployment == asked:
                    self._end(key, update, State.CANCELLED, Failure.CANCELLED, "cancelled by a command")
            outs.append(self._report(now_s))
        else:
            reply = Reply(
                id=command.id,
                ok=False,
                code=Failure.COMMAND_FORBIDDEN,
                detail="this device is simulated: it reports and cancels, and nothing else",
            )
        if reply_to is not None:
            outs.append(Said(reply_to, encode(reply), correlation=correlation))
        return outs

    def _report(self, now_s: float) -> Said:
        self._seq = max(self._seq + 1, int(now_s * 1000))  # grows over restarts, too
        self._report_s = now_s + self.pace.report_every_s * (0.5 + self.spread / 2)
        report = Reported(
            seq=self._seq,
            device=self.name,
            desired_seq=self.desired_seq,
            time=_moment(now_s),
            profile=self.profile,
            agent=_AGENT,
            have=tuple(self._have.values()),
            health=_ILL if self._ill and self._turns_s is None else _WELL,
        )
        return Said(self.topics.of(Channel.REPORTED), encode_report(report))


def devices(
    names: Iterable[str],
    tenant: str,
    profile: str,
    *,
    manner: Callable[[str, Wanted], Manner] = always_good,
    pace: Pace = Pace(),
    dice: Callable[[], float],
) -> list[SimulatedDevice]:
    """Make devices that are spread by dice in [0, 1)."""
    return [SimulatedDevice(name, tenant, profile, dice(), manner, pace) for name in names]


def _moment(now_s: float) -> str:
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
