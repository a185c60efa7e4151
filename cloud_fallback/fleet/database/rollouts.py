"""Rollouts as the leader keeps them: heads, members, and what is to be taken in. Decides nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from cloud_fallback.fleet.database.deployments import head_of
from cloud_fallback.fleet.database.rows import AnyRow, chunks, upsert
from cloud_fallback.fleet.database.tables import deployments, devices, dirty, members, moves
from cloud_fallback.fleet.rollout import Rollout
from cloud_fallback.fleet.standing import HEADS, Head, Member, RolloutState, Standing
from edge_runtime.contract.deployment import Deployment

_FIELDS = tuple(each.name for each in fields(Member))


@dataclass(frozen=True, slots=True)
class Side:
    """What the manager knows of a device in a rollout beyond how it stands.

    Args:
        attempts: How often it was offered the version.
        before: Its health when it was offered it, as JSON; empty: not known.
        base: What it had to have before, as JSON of `Wanted`; empty: nothing.
        worse: How many reports in a row were worse than that.
        detail: Why it failed, as it said.
    """

    attempts: int = 0
    before: str = ""
    base: str = ""
    worse: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants done about a rollout.

    Args:
        n: Its number.
        deployment: Which.
        move: What.
        reason: Why.
        who: Who.
    """

    n: int
    deployment: str
    move: str
    reason: str
    who: str


def load(tx: Connection) -> list[Rollout]:
    """Load the rollouts that have begun and may still do something, the oldest first."""
    query = select(deployments).where(deployments.c.started, ~deployments.c.archived)
    return [
        Rollout(
            Deployment.model_validate_json(row.content), RolloutState(head_of(row), members_of(tx, row.id))
        )
        for row in tx.execute(query.order_by(deployments.c.n)).all()
    ]


def members_of(tx: Connection, deployment: str) -> tuple[Member, ...]:
    """Load the devices of a rollout."""
    rows = tx.execute(select(members).where(members.c.deployment == deployment).order_by(members.c.device))
    return tuple(_member(row) for row in rows)


def save_members(tx: Connection, changed: Iterable[tuple[str, Member]]) -> None:
    """Write devices of rollouts down, each with the id of the rollout."""
    rows = [
        {"deployment": deployment, **{name: getattr(member, name) for name in _FIELDS}}
        for deployment, member in changed
    ]
    if not rows:
        return
    rows.sort(key=lambda row: (row["deployment"], row["device"]))
    new = upsert(tx, members)
    again = {name: getattr(new.excluded, name) for name in _FIELDS if name != "device"}
    tx.execute(new.on_conflict_do_update(index_elements=["deployment", "device"], set_=again), rows)


def sides(
    tx: Connection, names: Iterable[str], of: Iterable[str] | None = None
) -> dict[tuple[str, str], Side]:
    """Load what else is known of devices in rollouts, by deployment and device; `of` None: in all."""
    found: dict[tuple[str, str], Side] = {}
    ids = None if of is None else list(of)
    for some in chunks(names):
        query = select(
            members.c.deployment, members.c.device, members.c.attempts, members.c.before,
            members.c.base, members.c.worse, members.c.detail,
        ).where(members.c.device.in_(some))  # fmt: skip
        if ids is not None:
            query = query.where(members.c.deployment.in_(ids))
        for row in tx.execute(query):
            side = Side(row.attempts, row.before, row.base, row.worse, row.detail)
            found[row.deployment, row.device] = side
    return found


def save_sides(tx: Connection, new: dict[tuple[str, str], Side]) -> None:
    """Write down what else is known of devices in rollouts; their rows are there already."""
    rows = [
        {
            "of": deployment, "on": device, "attempts": side.attempts, "before": side.before,
            "base": side.base, "worse": side.worse, "detail": side.detail,
        }
        for (deployment, device), side in sorted(new.items())
    ]  # fmt: skip
    if rows:
        mine = (members.c.deployment == bindparam("of")) & (members.c.device == bindparam("on"))
        names = ("attempts", "before", "base", "worse", "detail")
        tx.execute(update(members).where(mine).values({name: bindparam(name) for name in names}), rows)


def save_head(tx: Connection, deployment: str, head: Head, now_s: float) -> None:
    """Write down how a rollout stands as a whole."""
    new = {"head": HEADS.dump_json(head).decode(), "phase": str(head.phase), "updated_s": now_s}
    tx.execute(update(deployments).where(deployments.c.id == deployment).values(new))


def touch(tx: Connection, ids: Iterable[str], now_s: float) -> None:
    """Write down that something of rollouts has changed."""
    tx.execute(update(deployments).where(deployments.c.id.in_(sorted(ids))).values(updated_s=now_s))


def archive(tx: Connection, ids: Iterable[str], *, archived: bool = True) -> None:
    """Take rollouts out of the engine, or back in."""
    tx.execute(update(deployments).where(deployments.c.id.in_(sorted(ids))).values(archived=archived))


def start(tx: Connection, deployment: str) -> None:
    """Write down that a rollout has begun."""
    tx.execute(update(deployments).where(deployments.c.id == deployment).values(started=True))


def rows_of(tx: Connection, ids: Iterable[str]) -> dict[str, AnyRow]:
    """Load rows of deployments by id."""
    found: dict[str, AnyRow] = {}
    for some in chunks(ids):
        for row in tx.execute(select(deployments).where(deployments.c.id.in_(some))):
            found[row.id] = row
    return found


def not_begun(tx: Connection) -> Sequence[AnyRow]:
    """Load the deployments that no leader has begun yet, the oldest first."""
    query = select(deployments).where(~deployments.c.started, ~deployments.c.archived)
    return tx.execute(query.order_by(deployments.c.n)).all()


def asked(tx: Connection) -> list[Asked]:
    """List what people want done and is not done yet, the oldest first."""
    rows = tx.execute(select(moves).where(moves.c.done_s.is_(None)).order_by(moves.c.n))
    return [Asked(row.n, row.deployment, row.move, row.reason, row.who) for row in rows]


def settle(tx: Connection, n: int, refused: str | None, now_s: float) -> None:
    """Write down what became of a move; `refused` None: it was done."""
    tx.execute(update(moves).where(moves.c.n == n).values(done_s=now_s, refused=refused))


def marked(tx: Connection) -> list[tuple[str, int]]:
    """List the devices that are to be looked at, each with the number of its marks."""
    return [(row.device, row.marks) for row in tx.execute(select(dirty).order_by(dirty.c.device))]


def unmark(tx: Connection, looked_at: Iterable[tuple[str, int]]) -> None:
    """Take marks away from devices that were not marked again since."""
    rows = [{"name": device, "count": marks} for device, marks in looked_at]
    if rows:
        mine = (dirty.c.device == bindparam("name")) & (dirty.c.marks == bindparam("count"))
        tx.execute(dirty.delete().where(mine), rows)


def device_rows(tx: Connection, names: Iterable[str]) -> dict[str, AnyRow]:
    """Load rows of devices by name."""
    found: dict[str, AnyRow] = {}
    for some in chunks(names):
        for row in tx.execute(select(devices).where(devices.c.name.in_(some))):
            found[row.name] = row
    return found


def all_device_rows(tx: Connection) -> Sequence[AnyRow]:
    """Load the rows of all devices that are not revoked."""
    return tx.execute(select(devices).where(devices.c.revoked_s.is_(None)).order_by(devices.c.name)).all()


def _member(row: AnyRow) -> Member:
    values: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    values["standing"] = Standing(row.standing)
    return Member(**values)
