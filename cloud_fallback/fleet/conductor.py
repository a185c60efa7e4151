"""The leader's part: tells the rollouts what became known, and writes down what they decide, all or nothing.

Rollouts live in memory and in the database. A turn reads, lets them decide, signs the ways back, and writes;
where the writing fails, the memory is thrown away and read again. Sends nothing: whoever calls `turn` sends
what it returns, after it is written.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from cloud_fallback.fleet import errands, selector, wellness
from cloud_fallback.fleet.actions import Action, Offer, Revert, Withdraw
from cloud_fallback.fleet.arbiter import Arbiter
from cloud_fallback.fleet.database import devices, rollouts
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.database.events import Event
from cloud_fallback.fleet.database.rollouts import Asked, Side
from cloud_fallback.fleet.database.rows import AnyRow
from cloud_fallback.fleet.database.wishes import Wishes, desired
from cloud_fallback.fleet.errands import Errand
from cloud_fallback.fleet.leader import Leader
from cloud_fallback.fleet.plan import Plan, Source, Step, source
from cloud_fallback.fleet.retirement import retired
from cloud_fallback.fleet.rollout import Rollout
from cloud_fallback.fleet.standing import Device, Head, Member, Outcome, Standing
from cloud_fallback.fleet.ways_back import Reverter, Signed, keep, sign, targets, ways_back
from edge_runtime.contract.errors import ConfigError, UpdateError
from edge_runtime.contract.fleet import Desired, Have, Health, Wanted

log = logging.getLogger(__name__)

_WATCH_S = 900.0
"""Health is watched for the soak time and this: two reports, as devices make them."""
_DEAF = frozenset({Standing.WAITING, Standing.LEFT, Standing.REVERTED, Standing.FAILED, Standing.REGRESSED})
"""Standings that no report changes."""


@dataclass(slots=True)
class Turn:
    """What a turn has done.

    Args:
        told: What devices have to be told; it is written.
        deployments: Ids of those that changed.
        happened: Whether anything was written.
    """

    told: list[Desired] = field(default_factory=list[Desired])
    deployments: set[str] = field(default_factory=set[str])
    happened: bool = False


@dataclass(slots=True)
class _Found:
    """What a turn found to do."""

    marked: list[tuple[str, int]]
    asked: list[Asked]
    begin: list[Source]
    rows: dict[str, AnyRow]
    everybody: list[AnyRow]
    sides: dict[tuple[str, str], Side]
    steps: list[Step] = field(default_factory=list[Step])
    new_sides: dict[tuple[str, str], Side] = field(default_factory=dict[tuple[str, str], Side])
    settled: list[tuple[int, str | None]] = field(default_factory=list[tuple[int, str | None]])
    unfit: dict[str, str] = field(default_factory=dict[str, str])


class Conductor:
    """The rollouts of a fleet, in memory. Belongs to one thread.

    Args:
        database: Of the manager.
        repository: Signs ways back.
        tenant: Whose fleet it is.
        dice: Gives numbers in [0, 1) that spread offers.
    """

    def __init__(
        self, database: Database, repository: Reverter, tenant: str, dice: Callable[[], float]
    ) -> None:
        self._database = database
        self._repository = repository
        self._tenant = tenant
        self._dice = dice
        self._arbiter: Arbiter | None = None
        self._heads: dict[str, Head] = {}
        self._worse_s: dict[tuple[str, str], float] = {}
        self._sources: dict[str, Source] = {}
        self._anew: set[str] = set()

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """Those in memory, the oldest first."""
        return tuple(self._arbiter or ())

    def forget(self) -> None:
        """Throw the memory away; the next turn reads it again."""
        self._arbiter = None

    def wake_at(self) -> float | None:
        """Say when to take a turn though nothing happened, as `Rollout.wake_at` does."""
        return None if self._arbiter is None else self._arbiter.wake_at()

    def turn(
        self, leader: Leader, now_s: float, *, reported: Iterable[str] = (), seen: Iterable[str] = ()
    ) -> Turn:
        """Take in what is new, let the rollouts decide, and write it down.

        Args:
            leader: Of this replica.
            now_s: Seconds since 1970, UTC.
            reported: Devices whose reports are new in the database.
            seen: Devices that went online or offline there.

        Raises:
            LostError: Another replica leads.
            SQLAlchemyError: The database failed; nothing was written.
        """
        try:
            return self._turn(leader, now_s, set(reported), set(seen))
        except BaseException:
            self.forget()
            raise

    def _turn(self, leader: Leader, now_s: float, reported: set[str], seen: set[str]) -> Turn:
        with self._database.read() as tx:
            if self._arbiter is None:
                reported |= self._load(tx)
                fresh = True
            else:
                fresh = False
            found = self._look(tx, reported | seen)
        arbiter = self._arbiter
        if arbiter is None:
            return Turn()
        if self._bring_back(leader, found, arbiter):
            self.forget()
            return self._turn(leader, now_s, reported, seen)
        self._begin(arbiter, found, now_s)
        self._join(arbiter, found, now_s)
        reported |= {name for name, _ in found.marked}
        for name, row in sorted(found.rows.items()):
            arbiter.see(name, now_s, online=row.online and row.revoked_s is None)
            if name in reported:
                self._note(arbiter, found, row, now_s, counts=not fresh)
        self._move(arbiter, found, now_s)
        actions = arbiter.poll(now_s)
        return self._write(leader, arbiter, found, actions, now_s)

    def _load(self, tx: Connection) -> set[str]:
        """Read everything, and give the names of all devices: each may have said something since."""
        loaded = rollouts.load(tx)
        self._arbiter = Arbiter(loaded)
        self._arbiter.take_changed()
        self._heads = {each.id: each.head for each in loaded}
        rows = rollouts.rows_of(tx, self._heads)
        self._sources = {id_: source(tx, row) for id_, row in rows.items()}
        return {name for each in loaded for name in each.devices}

    def _look(self, tx: Connection, names: set[str]) -> _Found:
        marked = rollouts.marked(tx)
        begin = [source(tx, row) for row in rollouts.not_begun(tx)]
        everybody = list(rollouts.all_device_rows(tx)) if begin else []
        names = names | {name for name, _ in marked}
        return _Found(
            marked=marked,
            asked=rollouts.asked(tx),
            begin=begin,
            rows=rollouts.device_rows(tx, names),
            everybody=everybody,
            sides=rollouts.sides(tx, names, self._sources),
        )

    def _bring_back(self, leader: Leader, found: _Found, arbiter: Arbiter) -> bool:
        """Take rollouts into memory again that a person wants something of."""
        missing = {each.deployment for each in found.asked if each.deployment not in arbiter}
        missing -= {each.deployment.id for each in found.begin} | self._anew
        if not missing:
            return False
        self._anew = missing
        with self._database.begin() as tx:
            leader.fence(tx)
            rollouts.archive(tx, missing, archived=False)
        return True

    def _begin(self, arbiter: Arbiter, found: _Found, now_s: float) -> None:
        for each in found.begin:
            rollout = Rollout(each.deployment)
            chosen = selector.parse(each.deployment.selector)
            rows = [row for row in found.everybody if chosen.matches(devices.labels_of(row))]
            try:
                rollout.join([_device(row, each) for row in rows], now_s, self._dice)
            except ConfigError as error:
                found.unfit[each.deployment.id] = str(error)
                rollout.cancel(now_s)
            self._sources[each.deployment.id] = each
            arbiter.add(rollout)

    def _join(self, arbiter: Arbiter, found: _Found, now_s: float) -> None:
        """Take devices in that were enrolled or changed since, and let go of those revoked."""
        begun = {each.deployment.id for each in found.begin}
        running = [
            (each, selector.parse(each.deployment.selector))
            for each in arbiter
            if each.id not in begun and each.live
        ]
        for name, _ in found.marked:
            row = found.rows.get(name)
            if row is None or row.revoked_s is not None:
                for rollout in arbiter.of(name):
                    rollout.report(name, Outcome.LEFT, now_s)
                continue
            labels = devices.labels_of(row)
            for rollout, chosen in running:
                if name not in rollout and chosen.matches(labels):
                    try:
                        rollout.join([_device(row, self._sources[rollout.id])], now_s, self._dice)
                    except ConfigError as error:
                        log.warning("%s stays out of %s: %s", name, rollout.id, error)

    def _note(self, arbiter: Arbiter, found: _Found, row: AnyRow, now_s: float, *, counts: bool) -> None:
        """Tell a device's rollouts what its report says."""
        if row.report_seq < 0 or row.revoked_s is not None:
            return
        taken = row.taken_seq == row.desired_seq
        has = devices.haves(row.have)
        for rollout in arbiter.of(row.name):
            member = rollout[row.name]
            if member.standing in _DEAF:
                continue
            side = found.sides.get((rollout.id, row.name), Side())
            errand = self._errand(rollout, member, side)
            have = errands.about(errand, has)
            outcome = errands.outcome(errand, member.standing, have, taken=taken)
            detail = ""
            at_rest = all(each.state in errands.AT_REST for each in has)
            if outcome is Outcome.SUCCEEDED and counts and at_rest and side.before:
                side, detail = self._watch(rollout, member, side, row, now_s)
                found.new_sides[rollout.id, row.name] = side
                if side.worse >= wellness.REPORTS:
                    self._worse_s.pop((rollout.id, row.name), None)
                    outcome = Outcome.REGRESSED
            if outcome is None:
                continue
            rollout.report(row.name, outcome, now_s)
            standing = rollout[row.name].standing
            if standing is not member.standing:
                _step(found, Step(rollout.id, row.name, standing, detail), have, side)

    def _errand(self, rollout: Rollout, member: Member, side: Side) -> Errand:
        deployment = rollout.deployment
        back_sha256 = None
        if member.standing in {Standing.REVERTING, Standing.STUCK} and side.base:
            # It was written there when it was sent back, whatever it had before.
            back_sha256 = Wanted.model_validate_json(side.base).sha256
        return Errand(
            deployment.id, deployment.kind, deployment.bundle, deployment.sha256, side.attempts, back_sha256
        )

    def _watch(
        self, rollout: Rollout, member: Member, side: Side, row: AnyRow, now_s: float
    ) -> tuple[Side, str]:
        until_s = member.since_s + rollout.deployment.pace.soak_s + _WATCH_S
        if member.standing is Standing.SUCCEEDED and now_s > until_s:
            return side, ""
        before, after = Health.model_validate_json(side.before), Health.model_validate_json(row.health)
        worse = wellness.worse(before, after)
        key = rollout.id, member.device
        if worse is None:
            self._worse_s.pop(key, None)
            return replace(side, worse=0), ""
        apart_s = min(wellness.APART_S, rollout.deployment.pace.soak_s / 3)
        if now_s - self._worse_s.get(key, -apart_s) < apart_s:
            return side, worse
        self._worse_s[key] = now_s
        return replace(side, worse=side.worse + 1), worse

    def _move(self, arbiter: Arbiter, found: _Found, now_s: float) -> None:
        for each in found.asked:
            refused: str | None = None
            try:
                if each.deployment not in arbiter:
                    raise UpdateError(f"rollout {each.deployment}: {each.move}", got="no such rollout")
                _do(arbiter[each.deployment], each, now_s)
            except UpdateError as error:
                refused = str(error)
            found.settled.append((each.n, refused))

    def _write(
        self, leader: Leader, arbiter: Arbiter, found: _Found, actions: list[Action], now_s: float
    ) -> Turn:
        changed = arbiter.take_changed()
        heads = {each.id: each.head for each in arbiter if each.head != self._heads.get(each.id)}
        turn = Turn(deployments={id_ for id_, _ in changed} | set(heads))
        if not (changed or heads or actions or found.marked or found.asked or found.new_sides):
            return turn
        plan, signed = self._plan(found, actions, now_s)
        plan.events += _silent(changed, now_s)
        for id_, why in found.unfit.items():
            heads[id_] = replace(heads[id_], reason=why)
            plan.events.append(Event(now_s, "error", "unfit", why, None, id_))
        gone = retired(arbiter)
        with self._database.begin() as tx:
            leader.fence(tx)
            for each in found.begin:
                rollouts.start(tx, each.deployment.id)
            rollouts.save_members(tx, changed)
            for id_, head in heads.items():
                rollouts.save_head(tx, id_, head, now_s)
            rollouts.touch(tx, turn.deployments - heads.keys(), now_s)
            rollouts.archive(tx, gone)
            rollouts.unmark(tx, found.marked)
            for n, refused in found.settled:
                rollouts.settle(tx, n, refused, now_s)
            plan.write(tx, now_s)
            keep(tx, signed, now_s)
            turn.told = desired(tx, self._tenant, plan.wishes.told)
        self._heads |= {each.id: each.head for each in arbiter}
        self._anew -= self._heads.keys()
        for id_ in gone:
            arbiter.drop(id_)
            del self._heads[id_], self._sources[id_]
        turn.happened = True
        return turn

    def _plan(self, found: _Found, actions: list[Action], now_s: float) -> tuple[Plan, Signed]:
        """Turn decisions into what is to be written, and have ways back signed."""
        sent = {each.device for each in actions if isinstance(each, Offer | Withdraw | Revert)}
        with self._database.read() as tx:
            rows = {**found.rows, **rollouts.device_rows(tx, sent - found.rows.keys())}
            plan = Plan(
                Wishes(tx, sent | {each.device for each in found.steps}),
                {**rollouts.sides(tx, sent, self._sources), **found.sides, **found.new_sides},
                self._sources,
            )
            ways = ways_back(tx, [each for each in actions if isinstance(each, Revert)], self._sources)
        signed, failed = sign(self._database, self._repository, ways.values(), now_s)
        plan.events += failed
        plan.changed_sides |= found.new_sides
        back = targets(ways, signed, self._sources)
        for each, (_, refused) in zip(found.asked, found.settled, strict=True):
            plan.events.append(_asked(each, refused, now_s))
        for step in found.steps:
            plan.step(step, now_s)
        for action in actions:
            plan.act(action, rows, back, now_s)
        return plan, signed


def _device(row: AnyRow, of: Source) -> Device:
    """Give a device as a rollout takes it, with the bytes that it is going to fetch."""
    has = {each.sha256 for each in devices.haves(row.have) if each.name == of.deployment.bundle}
    sizes = [each.size_bytes for each in of.release.deltas if each.base_sha256 in has]
    return Device(row.name, row.timezone, min([of.release.size_bytes, *sizes]), row.online)


def _do(rollout: Rollout, asked: Asked, now_s: float) -> None:
    match asked.move:
        case "approve":
            rollout.approve(now_s)
        case "pause":
            rollout.pause(now_s)
        case "resume":
            rollout.resume(now_s)
        case "halt":
            rollout.halt(now_s, asked.reason or f"by {asked.who}")
        case "revert":
            rollout.revert(now_s)
        case "cancel":
            rollout.cancel(now_s)
        case _:
            raise UpdateError(f"rollout {rollout.id}", expected="a move", got=asked.move)


def _step(found: _Found, step: Step, have: Have | None, side: Side) -> None:
    if step.standing in {Standing.FAILED, Standing.STUCK} and have is not None:
        step = replace(step, detail=have.detail or str(have.state), code=str(have.code or have.state))
    found.steps.append(step)
    if step.detail:
        found.new_sides[step.deployment, step.device] = replace(side, detail=step.detail)


def _asked(asked: Asked, refused: str | None, now_s: float) -> Event:
    text = f"{asked.move} by {asked.who}{f': {asked.reason}' if asked.reason else ''}"
    if refused is not None:
        return Event(now_s, "warning", "move-refused", f"{text}: {refused}"[:1000], None, asked.deployment)
    return Event(now_s, "info", f"move-{asked.move}", text, None, asked.deployment)


def _silent(changed: Iterable[tuple[str, Member]], now_s: float) -> list[Event]:
    return [
        Event(now_s, "warning", "timed-out", "it said nothing in time", member.device, deployment)
        for deployment, member in changed
        if member.standing is Standing.TIMED_OUT and member.since_s == now_s
    ]
