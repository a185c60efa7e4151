"""The devices of a rollout: what is known of each, whose turn it is, and of whom an answer is overdue.

Pure. Does not decide between waves: `cloud_fallback.fleet.rollout` tells it where things are going.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import StrEnum
from math import inf

from cloud_fallback.fleet import cohort
from cloud_fallback.fleet.lineup import Lineup
from cloud_fallback.fleet.standing import (
    BUSY,
    ENDS,
    GOING_BACK,
    LIVE,
    REVERTIBLE,
    TIMEOUTS,
    Device,
    Member,
    Outcome,
    Phase,
    Standing,
)
from cloud_fallback.fleet.tally import Tally
from cloud_fallback.fleet.windows import Span, next_span, zone_of
from edge_runtime.contract.deployment import Deployment
from edge_runtime.contract.errors import ConfigError, UpdateError


class Direction(StrEnum):
    """Where a rollout moves its devices."""

    FORWARD = "forward"
    BACK = "back"
    NOWHERE = "nowhere"


def direction(phase: Phase) -> Direction:
    """Say where a rollout in a phase moves its devices."""
    if phase in LIVE:
        return Direction.FORWARD
    return Direction.BACK if phase in GOING_BACK else Direction.NOWHERE


class Roster:
    """The devices of one rollout.

    Args:
        deployment: Of the rollout.
        members: As they were kept.
        to: Where the rollout moves them.
        wave: The last wave opened; -1: none.
    """

    def __init__(self, deployment: Deployment, members: Iterable[Member], to: Direction, wave: int) -> None:
        self._deployment = deployment
        self._to = to
        self._wave = wave
        self._ranks: dict[str, int] = {}
        self._spans: dict[str, tuple[float, Span]] = {}
        self.members: dict[str, Member] = {}
        """By name; changed by `put` only."""
        self.tally = Tally(len(deployment.waves))
        self.busy: set[str] = set()
        """Names of those of whom an answer is awaited."""
        self.line = Lineup(lambda member: member.ready_s, self.rank, self.members)
        """Whose turn it is to be sent something."""
        self.deadlines = Lineup(lambda member: member.deadline_s, self.rank, self.members)
        self.changed: set[str] = set()
        """Names of those that changed; the owner empties it."""
        for member in members:
            self.put(member)
        self.changed.clear()

    def rank(self, device: str) -> int:
        """Give a device's place in the order of the deployment."""
        return self._ranks[device]

    def join(self, devices: Iterable[Device], now_s: float, dice: Callable[[], float]) -> None:
        """Take in devices; those that are here already are left as they are.

        Args:
            devices: That the selector matches.
            now_s: Seconds since 1970, UTC.
            dice: Gives numbers from [0, 1); called once a new device.

        Raises:
            ConfigError: A time zone does not exist, or a device alone is over the byte budget.
        """
        new = {each.name: each for each in devices if each.name not in self.members}
        for each in new.values():
            self._check(each)
        shares = [wave.share for wave in self._deployment.waves]
        kept = {name: member.wave for name, member in self.members.items()}
        placed = cohort.waves(self._deployment.id, new, shares, kept)
        for name, each in sorted(new.items()):
            member = Member(
                name, placed[name], each.zone, each.size_bytes, spread=dice(), online=each.online,
                straggler=placed[name] <= self._wave, since_s=now_s,
            )  # fmt: skip
            self.put(self._lined_up(member, now_s))

    def _check(self, device: Device) -> None:
        zone_of(device.zone)
        limit = self._deployment.pace.bytes_per_hour
        if limit is not None and device.size_bytes > limit:
            raise ConfigError(
                f"rollout {self._deployment.id}: bytes_per_hour",
                expected=f"at least the {device.size_bytes} bytes that {device.name} has to fetch",
                got=str(limit),
            )

    def note(self, device: str, outcome: Outcome, now_s: float) -> bool:
        """Write down what became known of a device.

        Args:
            device: Its name.
            outcome: What it said, or what was seen of it.
            now_s: Seconds since 1970, UTC.

        Returns:
            Whether that was anything new.

        Raises:
            UpdateError: It is not one of these.
        """
        old = self.members.get(device)
        if old is None:
            raise UpdateError(
                f"rollout {self._deployment.id}: device", expected="one of its own", got=repr(device)
            )
        new = self._noted(old, outcome, now_s)
        if new == old:
            return False
        self.put(self._lined_up(new, now_s))
        return True

    def aim(self, to: Direction, wave: int, now_s: float) -> None:
        """Say where the rollout moves its devices now, and line them up for that.

        Args:
            to: Where.
            wave: The last wave opened; -1: none.
            now_s: Seconds since 1970, UTC.
        """
        if (to, wave) == (self._to, self._wave):
            return
        self._to, self._wave = to, wave
        for member in tuple(self.members.values()):
            new = self._lined_up(member, now_s)
            if new is not member:
                self.put(new)

    def put(self, member: Member) -> None:
        """Write down how a device stands."""
        name = member.device
        old = self.members.get(name)
        if old is None:
            self._ranks[name] = cohort.rank(self._deployment.id, name)
        self.tally.change(old, member)
        self.members[name] = member
        (self.busy.add if member.standing in BUSY else self.busy.discard)(name)
        if old is None or old.ready_s != member.ready_s:
            self.line.add(member)
        if old is None or old.deadline_s != member.deadline_s:
            self.deadlines.add(member)
        self.changed.add(name)

    def stand(self, member: Member, standing: Standing, now_s: float) -> None:
        """Give a device a standing that it did not report itself, with a deadline where it has to answer."""
        deadline_s = now_s + self._deployment.pace.timeout_s if standing in BUSY else None
        new = replace(member, standing=standing, since_s=now_s, ready_s=None, deadline_s=deadline_s)
        self.put(self._lined_up(new, now_s))

    def time_out(self, now_s: float) -> None:
        """Write down who has been silent for too long."""
        while (first := self.deadlines.first()) and first[0] <= now_s:
            self.stand(first[1], TIMEOUTS[first[1].standing], now_s)

    def next_ready(self, now_s: float) -> Member | None:
        """Give the device whose turn it is; None: nobody's yet.

        Args:
            now_s: Seconds since 1970, UTC.
        """
        while (first := self.line.first()) and first[0] <= now_s:
            member = first[1]
            if self._to is Direction.BACK or self._span(member.zone, now_s).open_s <= now_s:
                return member
            self.put(replace(member, ready_s=self._ready_s(member, now_s)))  # missed: its window has closed
        return None

    def closes_s(self, member: Member, at_s: float) -> float:
        """Say when the window of a device closes that is open at a time; infinity: it is in no window."""
        return inf if self._to is Direction.BACK else self._span(member.zone, at_s).close_s

    def _noted(self, member: Member, outcome: Outcome, now_s: float) -> Member:
        match outcome:
            case Outcome.ONLINE | Outcome.OFFLINE:
                return replace(member, online=outcome is Outcome.ONLINE)
            case Outcome.BLOCKED | Outcome.FREED:
                return replace(member, blocked=outcome is Outcome.BLOCKED)
            case Outcome.HELD:
                return self._held(member, now_s)
            case _:
                standing = ENDS.get((member.standing, outcome))
        if standing is None:
            return member
        forward = self._to is Direction.FORWARD
        if standing is Standing.WITHDRAWN and member.standing is Standing.WITHDRAWING and forward:
            standing = Standing.WAITING  # a person has resumed since it was told to give up
        return replace(member, standing=standing, since_s=now_s, deadline_s=None, forgiven=False)

    def _held(self, member: Member, now_s: float) -> Member:
        if member.standing is not Standing.OFFERED or member.deadline_s is None:
            return member
        open_s = self._span(member.zone, now_s).open_s
        if open_s <= now_s:
            return member  # its window is open: it has no reason to wait
        return replace(member, deadline_s=max(member.deadline_s, open_s + self._deployment.pace.timeout_s))

    def _candidate(self, member: Member) -> bool:
        if not member.online or member.blocked:
            return False
        if self._to is Direction.FORWARD:
            return member.standing is Standing.WAITING and member.wave <= self._wave
        return self._to is Direction.BACK and member.standing in REVERTIBLE

    def _lined_up(self, member: Member, now_s: float) -> Member:
        """Give a device its place in the line, or take it away; the same object where nothing changes."""
        if self._candidate(member):
            if member.ready_s is not None:
                return member
            return replace(member, ready_s=self._ready_s(member, now_s))
        its_turn = member.standing is Standing.WAITING and member.wave <= self._wave
        straggler = member.straggler or (its_turn and (member.blocked or not member.online))
        if member.ready_s is None and straggler == member.straggler:
            return member
        return replace(member, ready_s=None, straggler=straggler)

    def _ready_s(self, member: Member, now_s: float) -> float:
        if self._to is Direction.BACK:
            return now_s  # what is broken does not wait for the night
        jitter_s = self._deployment.pace.jitter_s
        span = self._span(member.zone, now_s)
        from_s = max(now_s, span.open_s)
        # Half of what is left of the window stays for the work itself.
        return from_s + member.spread * min(jitter_s, (span.close_s - from_s) / 2)

    def _span(self, zone: str, now_s: float) -> Span:
        """Give the window that is open or opens next; kept by zone, because a fleet has few of them."""
        window = self._deployment.window
        if window is None:
            return Span(-inf, inf)
        asked_s, span = self._spans.get(zone, (inf, Span(inf, inf)))
        if not asked_s <= now_s < span.close_s:
            span = next_span(window, zone, now_s)
            self._spans[zone] = now_s, span
        return span
