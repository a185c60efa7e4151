"""Deployments, their devices, and what people want done about them. The engine decides; these only keep."""

from collections import Counter
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, func, insert, select

from cloud_fallback.fleet import moments, selector
from cloud_fallback.fleet.database import holding, releases
from cloud_fallback.fleet.database.rows import AnyRow, dump
from cloud_fallback.fleet.database.tables import deployments, members, moves
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.standing import ATTEMPTED, BAD, HEADS, LIVE, PHASES, Head, Move, Phase, Standing
from cloud_fallback.fleet.views import (
    DeploymentNew,
    DeploymentView,
    MemberView,
    MoveName,
    ReleaseView,
    WaveView,
)
from edge_runtime.contract.deployment import Deployment
from edge_runtime.contract.errors import InputError, UpdateError

ID_MAX = 48
"""Characters of an id: errands of a deployment have longer ones, and a device takes 64."""
_REACHED = ATTEMPTED | {Standing.REVERTING, Standing.REVERTED, Standing.STUCK}


@dataclass(frozen=True, slots=True)
class MoveDone:
    """What became of a move.

    Args:
        done: Whether the leader has taken it.
        refused: Why it was not carried out; None: it was, or is not done yet.
    """

    done: bool
    refused: str | None = None


def create(tx: Connection, new: DeploymentNew, id_: str, by: str, now_s: float) -> DeploymentView:
    """Write a deployment down; the leader's operator begins it.

    Args:
        tx: As `Database.begin` gives it.
        new: What is wanted.
        id_: Unique.
        by: Who wants it.
        now_s: Seconds since 1970, UTC.

    Raises:
        NotThereError: There is no such release.
        InputError: The id is too long.
        ConflictError: The id is taken, or the release was withdrawn.
        ConfigError: The selector is none.
    """
    release = releases.find(tx, new.kind, new.name, new.version, hold=True)
    if release is None:
        raise NotThereError(
            f"deployment of {new.name}",
            expected="a version that is published",
            got=new.version,
            do="Publish it first: edge-runtime fleet publish",
        )
    _check_offered(release)
    if len(id_) > ID_MAX or "--" in id_:
        raise InputError(
            "deployment: id", expected=f"at most {ID_MAX} characters, and no `--`", got=repr(id_)
        )
    deployment = Deployment(
        id=id_, kind=new.kind, bundle=new.name, version=new.version, counter=release.counter,
        sha256=release.sha256, selector=str(selector.parse(new.selector)), waves=new.waves,
        window=new.window, thresholds=new.thresholds, pace=new.pace, on_halt=new.on_halt,
    )  # fmt: skip
    if tx.execute(select(deployments.c.n).where(deployments.c.id == id_)).scalar() is not None:
        raise ConflictError("deployment: id", expected="one that is not taken", got=repr(id_))
    tx.execute(
        insert(deployments).values(
            id=id_, kind=new.kind, name=new.name, version=new.version,
            content=deployment.model_dump_json(), full_allowed=new.full_allowed,
            trial=new.trial.model_dump_json(), head=dump(asdict(Head())), phase=Phase.RUNNING,
            started=False, archived=False, created_s=now_s, created_by=by, updated_s=now_s,
        )
    )  # fmt: skip
    return must_find(tx, id_)


def _check_offered(release: ReleaseView) -> None:
    if release.withdrawn_at is not None:
        why = f": {release.withdrawn_reason}" if release.withdrawn_reason else ""
        raise ConflictError(
            f"release {release.name} {release.version}",
            code="release-withdrawn",
            expected="one that may be rolled out",
            got=f"one that {release.withdrawn_by} withdrew at {release.withdrawn_at}{why}",
            do="Publish what is good as a new version",
        )


def find(tx: Connection, id_: str) -> DeploymentView | None:
    """Give a deployment; None: there is none of that id."""
    row = tx.execute(select(deployments).where(deployments.c.id == id_)).one_or_none()
    return None if row is None else _views(tx, [row])[0]


def must_find(tx: Connection, id_: str) -> DeploymentView:
    """Give a deployment.

    Raises:
        NotThereError: There is none of that id.
    """
    found = find(tx, id_)
    if found is None:
        raise _not_there(id_)
    return found


def _not_there(id_: str) -> NotThereError:
    return NotThereError("deployment", expected="one that is there", got=repr(id_))


def listing(
    tx: Connection, limit: int = 100, *, active: bool = False, after: str = ""
) -> list[DeploymentView]:
    """List deployments, the newest first.

    Args:
        tx: As `Database.read` gives it.
        limit: At most so many.
        active: Only those that are neither complete nor at their end.
        after: Id of the last one not wanted; empty: from the newest.

    Raises:
        NotThereError: There is none of the id `after`.
    """
    query = select(deployments).order_by(deployments.c.n.desc()).limit(limit)
    if after:
        n = tx.execute(select(deployments.c.n).where(deployments.c.id == after)).scalar()
        if n is None:
            raise _not_there(after)
        query = query.where(deployments.c.n < n)
    if active:
        ended = (Phase.COMPLETED, Phase.REVERTED, Phase.CANCELLED)
        query = query.where(deployments.c.phase.not_in(ended))
    return _views(tx, list(tx.execute(query).all()))


def devices_of(
    tx: Connection,
    id_: str,
    standing: str | None = None,
    after: str = "",
    limit: int = 100,
    *,
    held: bool = False,
) -> list[MemberView]:
    """List the devices of a deployment by name.

    Args:
        tx: As `Database.read` gives it.
        id_: Of the deployment.
        standing: Only those that stand so; None: all.
        after: Name of the last one not wanted.
        limit: At most so many.
        held: Only those that other rollouts keep from being sent what they wait for.

    Raises:
        NotThereError: There is no such deployment.
    """
    head = _head(tx, id_)
    query = select(members).where(members.c.deployment == id_, members.c.device > after)
    if standing is not None:
        query = query.where(members.c.standing == standing)
    if held:
        query = query.where(holding.is_held(head))
    rows = tx.execute(query.order_by(members.c.device).limit(limit)).all()
    waiting = holding.awaiting(head)
    kept = {row.device for row in rows if row.blocked and row.standing in waiting}
    reasons = holding.why(tx, id_, kept)
    return [
        MemberView(
            device=row.device, wave=row.wave, standing=row.standing, online=row.online,
            since=moments.text(row.since_s), blocked=row.device in kept, detail=row.detail,
            held=reasons.get(row.device, ""),
        )
        for row in rows
    ]  # fmt: skip


def _head(tx: Connection, id_: str) -> Head:
    text = tx.execute(select(deployments.c.head).where(deployments.c.id == id_)).scalar()
    if text is None:
        raise _not_there(id_)
    return HEADS.validate_json(text)


def ask(tx: Connection, id_: str, move: MoveName, *, reason: str, who: str, now_s: float) -> int:
    """Write down what a person wants; the leader's operator does it.

    Args:
        tx: As `Database.begin` gives it.
        id_: Of the deployment.
        move: What is wanted.
        reason: Why, for a person.
        who: Name of the token.
        now_s: Seconds since 1970, UTC.

    Returns:
        Its number, for `became`.

    Raises:
        NotThereError: There is no such deployment.
        UpdateError: Its phase does not allow that.
        ConflictError: It is to be resumed, and its release was withdrawn.
    """
    one = must_find(tx, id_)
    phase = one.phase
    if move in {"resume", "approve"}:
        made = one.deployment
        release = releases.find(tx, made.kind, made.bundle, one.release, hold=True)
        if release is not None:
            _check_offered(release)
    allowed = {each for each, step in PHASES if step is Move(move)}
    if move == "resume":
        allowed.add(Phase.PAUSED)
    if phase not in allowed:
        raise UpdateError(
            f"rollout {id_}: {move}", expected=f"phase {' or '.join(sorted(allowed))}", got=phase
        )
    row = insert(moves).values(deployment=id_, move=move, reason=reason, who=who, asked_s=now_s)
    return int(tx.execute(row.returning(moves.c.n)).scalar_one())


def halt_all(tx: Connection, release: ReleaseView, *, reason: str, who: str, now_s: float) -> list[str]:
    """Write down that every rollout is to halt that would bring a release to devices.

    Args:
        tx: As `Database.begin` gives it.
        release: Which.
        reason: Why, for a person.
        who: Name of the token.
        now_s: Seconds since 1970, UTC.

    Returns:
        Ids of the deployments, the oldest first.
    """
    mine = (
        (deployments.c.kind == release.kind)
        & (deployments.c.name == release.name)
        & (deployments.c.version == release.version)
    )
    halted: list[str] = []
    for row in tx.execute(select(deployments).where(mine).order_by(deployments.c.n)).all():
        head = head_of(row)
        if (head.paused_in or head.phase) in LIVE:
            ask(tx, row.id, "halt", reason=reason, who=who, now_s=now_s)
            halted.append(row.id)
    return halted


def became(tx: Connection, n: int) -> MoveDone:
    """Say what became of a move.

    Raises:
        NotThereError: There is none of that number.
    """
    row = tx.execute(select(moves.c.done_s, moves.c.refused).where(moves.c.n == n)).one_or_none()
    if row is None:
        raise NotThereError("move", expected="one that is there", got=str(n))
    return MoveDone(row.done_s is not None, row.refused)


def head_of(row: AnyRow) -> Head:
    """Read the column `head`."""
    return HEADS.validate_json(row.head)


def _views(tx: Connection, rows: list[AnyRow]) -> list[DeploymentView]:
    found: dict[str, dict[int, dict[str, int]]] = {row.id: {} for row in rows}
    held: dict[str, Counter[int]] = {row.id: Counter() for row in rows}
    waiting = {row.id: holding.awaiting(head_of(row)) for row in rows}
    by = (members.c.deployment, members.c.wave, members.c.standing, members.c.blocked)
    count = func.count().label("devices")
    query = select(*by, count).where(members.c.deployment.in_(found)).group_by(*by)
    for id_, wave, standing, blocked, devices in tx.execute(query):
        counts = found[id_].setdefault(wave, {})
        counts[standing] = counts.get(standing, 0) + devices
        held[id_][wave] += devices if blocked and standing in waiting[id_] else 0
    return [_view(row, found[row.id], held[row.id]) for row in rows]


def _view(row: AnyRow, counts: dict[int, dict[str, int]], held: Counter[int]) -> DeploymentView:
    deployment, head = Deployment.model_validate_json(row.content), head_of(row)
    waves = tuple(
        WaveView(
            share=wave.share,
            needs_approval=wave.needs_approval,
            devices=sum(counts.get(index, {}).values()),
            standings=counts.get(index, {}),
            held=held[index],
        )
        for index, wave in enumerate(deployment.waves)
    )
    return DeploymentView(
        deployment=deployment,
        release=row.version,
        phase=head.phase,
        wave=head.wave,
        reason=head.reason or None,
        waves=waves,
        reached=_sum(waves, _REACHED),
        failed=_sum(waves, BAD),
        held=held.total(),
        archived=row.archived,
        created_at=moments.text(row.created_s),
        created_by=row.created_by,
        updated_at=moments.text(row.updated_s),
    )


def _sum(waves: tuple[WaveView, ...], among: frozenset[Standing]) -> int:
    return sum(wave.standings.get(each, 0) for wave in waves for each in among)
