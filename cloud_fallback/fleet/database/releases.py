"""Releases: versions that are published, and targets that send devices back to older ones. Signs nothing."""

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, func, insert, select, tuple_, update

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.database.rows import AnyRow, dump, load
from cloud_fallback.fleet.database.tables import releases, reverts
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.views import ReleaseView
from edge_runtime.contract.fleet import Delta

_DELTAS: TypeAdapter[tuple[Delta, ...]] = TypeAdapter(tuple[Delta, ...])


def publish(tx: Connection, release: ReleaseView) -> ReleaseView:
    """Write a release down; the same one again changes nothing.

    Args:
        tx: As `Database.begin` gives it.
        release: As TUF lists it.

    Returns:
        It, or what was there already.

    Raises:
        ConflictError: There is another one of that version or counter, or the counter is too low.
    """
    known = find(tx, release.kind, release.name, release.version)
    if known is not None and (known.sha256, known.target) == (release.sha256, release.target):
        return known
    needed = next_counter(tx, release.kind, release.name)
    if known is not None or release.counter < needed:
        raise ConflictError(
            f"release {release.name} {release.version}",
            expected=f"a new version with a counter of at least {needed}",
            got=f"counter {release.counter}" if known is None else f"one published at {known.published_at}",
            do="Counters grow with every release and every revert of a name",
        )
    row = {
        "kind": release.kind, "name": release.name, "version": release.version, "counter": release.counter,
        "sha256": release.sha256, "size_bytes": release.size_bytes, "target": release.target,
        "deltas": _DELTAS.dump_json(release.deltas).decode(), "profiles": dump(list(release.profiles)),
        "published_s": moments.seconds(release.published_at), "published_by": release.published_by,
    }  # fmt: skip
    tx.execute(insert(releases).values(row))
    return release


def find(tx: Connection, kind: str, name: str, version: str, *, hold: bool = False) -> ReleaseView | None:
    """Give a release.

    Args:
        tx: As `Database.begin` or, without `hold`, `Database.read` gives it.
        kind: Of the release.
        name: Of the release.
        version: Of the release.
        hold: Nobody withdraws it until the transaction ends.

    Returns:
        None: there is none of that version.
    """
    query = select(releases).where(_of(kind, name, version))
    row = tx.execute(query.with_for_update(read=True) if hold else query).one_or_none()
    return None if row is None else _view(row)


def must_find(tx: Connection, kind: str, name: str, version: str) -> ReleaseView:
    """Give a release.

    Raises:
        NotThereError: There is none of that version.
    """
    found = find(tx, kind, name, version)
    if found is None:
        raise NotThereError(f"release {name}", expected="a version that is published", got=version)
    return found


def withdraw(  # noqa: PLR0917, what, then who and why, as in the audit log
    tx: Connection, kind: str, name: str, version: str, by: str, reason: str, now_s: float
) -> bool:
    """Write down that a release is not to be rolled out any more.

    Args:
        tx: As `Database.begin` gives it.
        kind: Of the release.
        name: Of the release.
        version: Of the release.
        by: Who wants it.
        reason: Why, for a person.
        now_s: Seconds since 1970, UTC.

    Returns:
        Whether that is new.

    Raises:
        NotThereError: There is no such release.
    """
    new = {"withdrawn_s": now_s, "withdrawn_by": by, "withdrawn_reason": reason}
    mine = _of(kind, name, version)
    if tx.execute(update(releases).where(mine, releases.c.withdrawn_s.is_(None)).values(new)).rowcount:
        return True
    must_find(tx, kind, name, version)
    return False


def _of(kind: str, name: str, version: str) -> ColumnElement[bool]:
    return (releases.c.kind == kind) & (releases.c.name == name) & (releases.c.version == version)


def listing(tx: Connection, name: str | None = None, limit: int = 200, after: str = "") -> list[ReleaseView]:
    """List releases, the newest first.

    Args:
        tx: As `Database.read` gives it.
        name: Only of this one; None: of all.
        limit: At most so many.
        after: Target of the last one not wanted; empty: from the newest.

    Raises:
        NotThereError: There is none of the target `after`.
    """
    newest = tuple_(releases.c.published_s, releases.c.target)
    query = select(releases).order_by(releases.c.published_s.desc(), releases.c.target.desc()).limit(limit)
    if after:
        at_s = tx.execute(select(releases.c.published_s).where(releases.c.target == after)).scalar()
        if at_s is None:
            raise NotThereError("release: target", expected="one that is published", got=repr(after))
        query = query.where(newest < (at_s, after))
    if name is not None:
        query = query.where(releases.c.name == name)
    return [_view(row) for row in tx.execute(query)]


def next_counter(tx: Connection, kind: str, name: str) -> int:
    """Give the lowest counter that a new release or revert of a name may have."""
    highest = 0
    for table in (releases, reverts):
        mine = (table.c.kind == kind) & (table.c.name == name)
        highest = max(highest, tx.execute(select(func.max(table.c.counter)).where(mine)).scalar() or 0)
    return highest + 1


def revert_target(tx: Connection, kind: str, name: str, of: str, above: int) -> tuple[str, int] | None:
    """Find a target that sends devices back.

    Args:
        tx: As `Database.read` gives it.
        kind: Of the release.
        name: Of the release.
        of: Target of the older release.
        above: The counter has to be over this one.

    Returns:
        Path and counter; None: one has to be signed.
    """
    mine = (reverts.c.kind == kind) & (reverts.c.name == name) & (reverts.c.of == of)
    query = select(reverts.c.target, reverts.c.counter).where(mine, reverts.c.counter > above)
    row = tx.execute(query.order_by(reverts.c.counter.desc()).limit(1)).one_or_none()
    return None if row is None else (row.target, row.counter)


def keep_revert(
    tx: Connection, kind: str, name: str, *, of: str, target: str, counter: int, now_s: float
) -> None:
    """Write down a target that sends devices back."""
    tx.execute(
        insert(reverts).values(kind=kind, name=name, of=of, target=target, counter=counter, created_s=now_s)
    )


def _view(row: AnyRow) -> ReleaseView:
    return ReleaseView(
        kind=row.kind, name=row.name, version=row.version, counter=row.counter, sha256=row.sha256,
        size_bytes=row.size_bytes, target=row.target, deltas=_DELTAS.validate_json(row.deltas),
        profiles=tuple(load(row.profiles)), published_at=moments.text(row.published_s),
        published_by=row.published_by,
        withdrawn_at=None if row.withdrawn_s is None else moments.text(row.withdrawn_s),
        withdrawn_by=row.withdrawn_by, withdrawn_reason=row.withdrawn_reason,
    )  # fmt: skip
