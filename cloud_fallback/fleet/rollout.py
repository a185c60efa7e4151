"""Rollout: who gets a version when, and when it stops by itself.

Pure: `now` and dice are arguments, nothing is sent here. A shell reports what devices say, polls, does what
it is told, and keeps the state; `wake_at` says when to poll though nothing happened. Knows one rollout:
`cloud_fallback.fleet.arbiter` keeps several from fighting over a device. Not thread-safe.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf

from cloud_fallback.fleet import verdict
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
from cloud_fallback.fleet.lineup import Spending
from cloud_fallback.fleet.roster import Roster, direction
from cloud_fallback.fleet.standing import (
    BAD,
    GOING_BACK,
    LIVE,
    PHASES,
    Device,
    Head,
    Member,
    Move,
    Outcome,
    Phase,
    RolloutState,
    Standing,
)
from cloud_fallback.fleet.tally import Tally
from edge_runtime.contract.deployment import Deployment
from edge_runtime.contract.errors import UpdateError

AT_ONCE_S = -inf
"""What `wake_at` answers when there is something to do already."""


class Rollout:
    """One deployment on its way to its devices.

    Args:
        deployment: What, for whom, how fast, and when to stop.
        state: Of a rollout to be continued; None: a new one.
    """

    def __init__(self, deployment: Deployment, state: RolloutState | None = None) -> None:
        state = state or RolloutState()
        self.deployment = deployment
        self._head = state.head
        self._spending = Spending(deployment.pace.bytes_per_hour, state.head.spent)
        self._roster = Roster(deployment, state.members, direction(self._aim), state.head.wave)
        self._due = True
        self._polled_s = -inf

    def __contains__(self, device: str) -> bool:
        return device in self._roster.members

    def __getitem__(self, device: str) -> Member:
        return self._roster.members[device]

    @property
    def id(self) -> str:
        """Of the deployment."""
        return self.deployment.id

    @property
    def head(self) -> Head:
        """How it stands as a whole."""
        return replace(self._head, spent=self._spending.spent)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of all its devices."""
        return tuple(self._roster.members)

    @property
    def tally(self) -> Tally:
        """Counts by wave; to be read only."""
        return self._roster.tally

    @property
    def live(self) -> bool:
        """Whether it still wants devices to have its version; a paused one does, unless it was going back."""
        return self._aim in LIVE

    @property
    def _aim(self) -> Phase:
        return self._head.paused_in or self._head.phase

    def state(self) -> RolloutState:
        """Give everything another replica needs to go on."""
        return RolloutState(self.head, tuple(self._roster.members.values()))

    def take_changed(self) -> tuple[Member, ...]:
        """Give the devices that changed since the last call: the rows that a database has to write."""
        changed = tuple(self._roster.members[name] for name in sorted(self._roster.changed))
        self._roster.changed.clear()
        return changed

    def join(self, devices: Iterable[Device], now_s: float, dice: Callable[[], float]) -> None:
        """Take in devices; those it has already are left as they are.

        Args:
            devices: That the selector matches.
            now_s: Seconds since 1970, UTC.
            dice: Gives numbers from [0, 1); called once a new device.

        Raises:
            ConfigError: A time zone does not exist, or a device alone is over the byte budget.
        """
        self._roster.join(devices, now_s, dice)
        self._due = True

    def report(self, device: str, outcome: Outcome, now_s: float) -> None:
        """Say what became known of a device; what says nothing new changes nothing.

        Args:
            device: Its name.
            outcome: What it said, or what was seen of it.
            now_s: Seconds since 1970, UTC.

        Raises:
            UpdateError: It is not one of this rollout's.
        """
        self._due |= self._roster.note(device, outcome, now_s)

    def poll(self, now_s: float) -> list[Action]:
        """Find out what is to be done.

        Args:
            now_s: Seconds since 1970, UTC.
        """
        actions: list[Action] = []
        roster = self._roster
        roster.time_out(now_s)
        self._judge(actions, now_s)
        while self._advance(actions, now_s):
            pass
        self._withdraw(actions, now_s)
        self._send(actions, now_s)
        if self._head.phase is Phase.REVERTING and not roster.busy and roster.line.first() is None:
            self._move(Move.BACK, now_s)
            actions.append(Reverted(self.id))
        self._due = False
        self._polled_s = now_s
        return actions

    def wake_at(self) -> float | None:
        """Say when to poll though nothing happened.

        Returns:
            Seconds since 1970, UTC; `AT_ONCE_S`: now; None: not before something happens.
        """
        if self._due:
            return AT_ONCE_S
        head, pace = self._head, self.deployment.pace
        overdue = self._roster.deadlines.first()
        times_s = [overdue[0]] if overdue else []
        if head.phase is Phase.SOAKING and head.settled_s is not None:
            soaked_s = head.settled_s + pace.soak_s
            times_s += [at_s for at_s in (soaked_s, soaked_s + pace.timeout_s) if at_s > self._polled_s]
        turn = self._roster.line.first()
        if turn and head.phase is not Phase.PAUSED and len(self._roster.busy) < pace.max_concurrent:
            ready_s = max(turn[0], self._polled_s)
            # Where bytes are short until its window has closed, it is the next one's turn then.
            closes_s = self._roster.closes_s(turn[1], ready_s)
            times_s.append(min(self._spending.free_at(turn[1].size_bytes, ready_s), closes_s))
        return min(times_s, default=None)

    def approve(self, now_s: float) -> None:
        """Allow the wave that approval is needed for.

        Raises:
            UpdateError: None is.
        """
        wave = self._next_wave()
        approved = self._head.approved if wave is None else wave
        self._move(Move.APPROVE, now_s, replace(self._head, approved=approved))

    def pause(self, now_s: float) -> None:
        """Send nothing more until resumed; those under way go on, and it may still halt.

        Raises:
            UpdateError: Its phase does not allow that.
        """
        self._move(Move.PAUSE, now_s, replace(self._head, paused_in=self._head.phase))

    def resume(self, now_s: float) -> None:
        """Go on after a pause, or after a halt in spite of the failures so far, which count no longer.

        Raises:
            UpdateError: It is neither paused nor halted, or it halted and nobody has succeeded.
        """
        head = self._head
        if head.phase is Phase.PAUSED:
            self._enter(replace(head, phase=self._aim, paused_in=None), now_s)
            return
        if head.phase is Phase.HALTED and not self.tally.until(head.wave).succeeded:
            raise UpdateError(
                f"rollout {self.id}: resume",
                expected="at least one device on which it succeeded",
                got="none",
                do="Deploy again once the cause is found",
            )
        # An approval given before the halt was for a release that nobody had seen fail.
        self._move(
            Move.RESUME,
            now_s,
            replace(head, reason="", settled_s=None, approved=min(head.approved, head.wave)),
        )
        for member in tuple(self._roster.members.values()):
            if member.standing in BAD:
                self._roster.put(replace(member, forgiven=True))
            elif member.standing is Standing.WITHDRAWN:
                self._roster.stand(member, Standing.WAITING, now_s)

    def halt(self, now_s: float, reason: str) -> None:
        """Stop by hand: nothing more is sent, those under way are told to give up.

        Args:
            now_s: Seconds since 1970, UTC.
            reason: For whoever reads it.

        Raises:
            UpdateError: Its phase does not allow that.
        """
        self._move(Move.HALT, now_s, replace(self._head, paused_in=None, reason=reason))

    def revert(self, now_s: float) -> None:
        """Take back every device that has the version or may have it.

        Raises:
            UpdateError: Its phase does not allow that.
        """
        self._move(Move.REVERT, now_s, replace(self._head, paused_in=None))

    def cancel(self, now_s: float) -> None:
        """Give up: nothing more is sent, those under way give up, those that have the version keep it.

        Raises:
            UpdateError: Its phase does not allow that.
        """
        self._move(Move.CANCEL, now_s, replace(self._head, paused_in=None))

    def _move(self, move: Move, now_s: float, head: Head | None = None) -> None:
        """Walk one step of the table of phases; `head` has what else changes."""
        phase = PHASES.get((self._head.phase, move))
        if phase is None:
            allowed = " or ".join(sorted(phase for phase, each in PHASES if each is move))
            raise UpdateError(f"rollout {self.id}: {move}", expected=f"phase {allowed}", got=self._head.phase)
        self._enter(replace(head or self._head, phase=phase), now_s)

    def _enter(self, head: Head, now_s: float) -> None:
        self._head = head
        self._due = True
        self._roster.aim(direction(self._aim), head.wave, now_s)

    def _judge(self, actions: list[Action], now_s: float) -> None:
        if not self.live or self._head.wave < 0:
            return
        wave, all_open = self.tally[self._head.wave], self.tally.until(self._head.wave)
        finished = self._aim is Phase.COMPLETED
        found = verdict.failing(self.deployment.thresholds, wave, all_open, finished=finished)
        if found:
            self._halt(found, actions, now_s)

    def _halt(self, found: verdict.Finding, actions: list[Action], now_s: float) -> None:
        reason, text = found
        self._move(Move.HALT, now_s, replace(self._head, paused_in=None, reason=f"{reason}: {text}"))
        actions.append(Halt(self.id, reason, text))
        if self.deployment.on_halt == "revert":
            self._move(Move.REVERT, now_s)

    def _advance(self, actions: list[Action], now_s: float) -> bool:
        """Take the next step between waves, if it is time.

        Returns:
            Whether there may be another one.
        """
        head = self._head
        if head.phase is Phase.RUNNING and (head.wave < 0 or self._approved):
            return self._open_next(actions, now_s)
        if head.phase is Phase.RUNNING:
            wave, all_open = self.tally[head.wave], self.tally.until(head.wave)
            if not verdict.settled(self.deployment.thresholds, wave, all_open):
                return False
            self._move(Move.SETTLED, now_s, replace(head, settled_s=now_s))
            return True
        if head.phase is Phase.SOAKING and head.settled_s is not None:
            soaked_s = head.settled_s + self.deployment.pace.soak_s
            return now_s >= soaked_s and self._after_soak(actions, now_s, soaked_s)
        return False

    def _after_soak(self, actions: list[Action], now_s: float, soaked_s: float) -> bool:
        thresholds, head = self.deployment.thresholds, self._head
        wave, rest = self.tally[head.wave], self.tally.after(head.wave)
        found = verdict.too_few(thresholds, wave)
        if found is None and self._next_wave() is not None and verdict.absent(thresholds, wave, rest):
            if now_s < soaked_s + self.deployment.pace.timeout_s:
                return False
            found = verdict.vanished(thresholds, wave, rest)
            if found is None:
                return False  # it may be chance: wait until one of them is back
        if found:
            self._halt(found, actions, now_s)
            return False
        return self._open_next(actions, now_s)

    @property
    def _approved(self) -> bool:
        # The wave has soaked already; opening another one clears that.
        return self._head.approved > self._head.wave and self._head.settled_s is not None

    def _next_wave(self) -> int | None:
        later = range(self._head.wave + 1, len(self.deployment.waves))
        return next((wave for wave in later if self.tally[wave].size), None)

    def _open_next(self, actions: list[Action], now_s: float) -> bool:
        head, wave = self._head, self._next_wave()
        if wave is None:
            if head.wave < 0:
                return False  # nobody is meant yet; whoever comes first is the canary
            self._move(Move.FINISH, now_s, replace(head, wave=len(self.deployment.waves) - 1))
            actions.append(Completed(self.id))
            return False
        if head.wave >= 0 and not self.tally.until(head.wave).succeeded:
            return False  # a wave that says nothing opens no other
        skipped = self.deployment.waves[head.wave + 1 : wave + 1]
        if head.approved < wave and any(each.needs_approval for each in skipped):
            self._move(Move.ASK, now_s)
            actions.append(ApprovalNeeded(self.id, wave))
            return False
        self._move(Move.OPEN, now_s, replace(head, wave=wave, settled_s=None))
        actions.append(WaveOpened(self.id, wave))
        return True

    def _withdraw(self, actions: list[Action], now_s: float) -> None:
        if self.live:
            return
        members = self._roster.members
        offered = [name for name in self._roster.busy if members[name].standing is Standing.OFFERED]
        for name in sorted(offered, key=self._roster.rank):
            self._roster.stand(members[name], Standing.WITHDRAWING, now_s)
            actions.append(Withdraw(self.id, name))

    def _send(self, actions: list[Action], now_s: float) -> None:
        if self._head.phase is Phase.PAUSED:
            return
        back = self._head.phase in GOING_BACK
        roster = self._roster
        while len(roster.busy) < self.deployment.pace.max_concurrent and (
            next_one := roster.next_ready(now_s)
        ):
            name, wave, size_bytes = next_one.device, next_one.wave, next_one.size_bytes
            if self._spending.free_at(size_bytes, now_s) > now_s:
                return
            self._spending.charge(size_bytes, now_s)
            roster.stand(next_one, Standing.REVERTING if back else Standing.OFFERED, now_s)
            actions.append(
                Revert(self.id, name, size_bytes) if back else Offer(self.id, name, wave, size_bytes)
            )
