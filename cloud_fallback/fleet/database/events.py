"""What happened, on devices and in rollouts, for people to read. Who did what is in the audit log."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.database.rows import AnyRow, chunks, upsert
from cloud_fallback.fleet.database.tables import events
from cloud_fallback.fleet.views import EventView, Level


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Args:
        at_s: Seconds since 1970, UTC.
        level: How bad.
        code: A word for programs.
        text: For a person.
        device: On which device; None: on none.
        deployment: Of which deployment; None: of none.
        id: Stable, of the device's making: the same one is written once. None: it is the manager's own.
    """

    at_s: float
    level: Level
    code: str
    text: str
    device: str | None = None
    deployment: str | None = None
    id: str | None = None


def write(tx: Connection, happened: Iterable[Event]) -> None:
    """Write events down; one that a device has sent before is not written again.

    Args:
        tx: As `Database.begin` gives it.
        happened: In their order.
    """
    rows = [
        {
            "at_s": each.at_s, "level": each.level, "code": each.code[:64], "text": each.text,
            "device": each.device, "deployment": each.deployment, "id": each.id,
        }
        for each in happened
    ]  # fmt: skip
    for some in chunks(rows):
        tx.execute(upsert(tx, events).on_conflict_do_nothing(index_elements=["device", "id"]), some)


def listing(
    tx: Connection, device: str | None = None, deployment: str | None = None, after: int = 0, limit: int = 100
) -> list[EventView]:
    """List events, the oldest first.

    Args:
        tx: As `Database.read` gives it.
        device: Only of this one; None: of all.
        deployment: Only of this one; None: of all.
        after: Number of the last one not wanted.
        limit: At most so many.
    """
    wanted = _of(device, deployment).where(events.c.n > after).order_by(events.c.n).limit(limit)
    return [_view(row) for row in tx.execute(wanted)]


def newest(
    tx: Connection, device: str | None = None, deployment: str | None = None, limit: int = 100
) -> list[EventView]:
    """List the last events, the newest first; arguments as for `listing`."""
    wanted = _of(device, deployment).order_by(events.c.n.desc()).limit(limit)
    return [_view(row) for row in tx.execute(wanted)]


def last(tx: Connection) -> int:
    """Give the number of the newest event; 0: there is none."""
    return int(tx.execute(select(func.max(events.c.n))).scalar() or 0)


def prune(tx: Connection, before_s: float) -> int:
    """Remove what is too old.

    Args:
        tx: As `Database.begin` gives it.
        before_s: Seconds since 1970, UTC.

    Returns:
        How many were removed.
    """
    return tx.execute(delete(events).where(events.c.at_s < before_s)).rowcount


def _of(device: str | None, deployment: str | None) -> Select[Any]:
    wanted = select(events)
    if device is not None:
        wanted = wanted.where(events.c.device == device)
    return wanted.where(events.c.deployment == deployment) if deployment is not None else wanted


def _view(row: AnyRow) -> EventView:
    return EventView(
        n=row.n, time=moments.text(row.at_s), level=row.level, code=row.code, text=row.text,
        device=row.device, deployment=row.deployment,
    )  # fmt: skip
