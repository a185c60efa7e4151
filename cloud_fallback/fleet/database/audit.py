"""The audit log: who did what, in a chain of hashes, so that nobody changes or removes a line unseen.

Each hash covers the line and the hash before it. Writers lock the end of the chain, so that two cannot go on
from the same line. A chain shows that it was changed; it does not stop anybody who may write the database
from making a new one: keep a copy of the last hash elsewhere.
"""

import hashlib

from sqlalchemy import Connection, insert, select, update

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.database.rows import dump, upsert
from cloud_fallback.fleet.database.tables import audit, heads
from cloud_fallback.fleet.views import AuditView

_FIRST = "0" * 64
_CHUNK = 1000


def write(  # noqa: PLR0917, a line of the log reads best in its own order
    tx: Connection, who: str, action: str, subject: str, detail: str, now_s: float
) -> int:
    """Add a line to the log, in the transaction of what it is about.

    Args:
        tx: As `Database.begin` gives it.
        who: Name of a token, or `manager`.
        action: A word, as `deployment.create`.
        subject: What it was done to.
        detail: For a person; no secrets.
        now_s: Seconds since 1970, UTC.

    Returns:
        The number of the line, from 1, without gaps.
    """
    tx.execute(
        upsert(tx, heads)
        .values(name="audit", n=0, hash=_FIRST)
        .on_conflict_do_nothing(index_elements=["name"])
    )
    end = tx.execute(select(heads.c.n, heads.c.hash).where(heads.c.name == "audit").with_for_update()).one()
    n = int(end.n) + 1
    digest = _hash(end.hash, (n, repr(float(now_s)), who, action, subject, detail))
    tx.execute(
        insert(audit).values(
            n=n, at_s=now_s, who=who, action=action, subject=subject, detail=detail, hash=digest
        )
    )
    tx.execute(update(heads).where(heads.c.name == "audit").values(n=n, hash=digest))
    return n


def verify(tx: Connection) -> int | None:
    """Find the first line that is not as it was written.

    Args:
        tx: As `Database.read` gives it.

    Returns:
        Its number, or that of the first line that is missing; None: the chain is whole.
    """
    before, n = _FIRST, 0
    while True:
        rows = tx.execute(select(audit).where(audit.c.n > n).order_by(audit.c.n).limit(_CHUNK)).all()
        for row in rows:
            digest = _hash(
                before, (row.n, repr(float(row.at_s)), row.who, row.action, row.subject, row.detail)
            )
            if row.n != n + 1 or row.hash != digest:
                return n + 1
            before, n = row.hash, row.n
        if not rows:
            break
    end = tx.execute(select(heads.c.n, heads.c.hash).where(heads.c.name == "audit")).one_or_none()
    whole = (end.n, end.hash) == (n, before) if end is not None else n == 0
    return None if whole else n + 1


def listing(tx: Connection, after: int = 0, limit: int = 100) -> list[AuditView]:
    """List lines in the order in which they were written.

    Args:
        tx: As `Database.read` gives it.
        after: Number of the last line not wanted.
        limit: At most so many.
    """
    rows = tx.execute(select(audit).where(audit.c.n > after).order_by(audit.c.n).limit(limit))
    return [
        AuditView(
            n=row.n, time=moments.text(row.at_s), who=row.who, action=row.action, subject=row.subject,
            detail=row.detail, hash=row.hash,
        )
        for row in rows
    ]  # fmt: skip


def newest(tx: Connection, before: int | None = None, limit: int = 100) -> list[AuditView]:
    """List the last lines, the newest first.

    Args:
        tx: As `Database.read` gives it.
        before: Number of the first line not wanted; None: from the end.
        limit: At most so many.
    """
    last = tx.execute(select(heads.c.n).where(heads.c.name == "audit")).scalar() or 0
    end = min(last, before - 1) if before is not None else last
    return listing(tx, max(0, end - limit), min(limit, end))[::-1]


def _hash(before: str, line: tuple[int | str, ...]) -> str:
    return hashlib.sha256(dump([before, *line]).encode()).hexdigest()
