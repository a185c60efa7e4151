"""TUF files, as the repository signed them. Looks into none."""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, delete, select, update

from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.database.rows import chunks, upsert
from cloud_fallback.fleet.database.tables import files

_KEPT = 10
"""Newest files of each role that stay, however old."""
_KEPT_S = 86_400.0
_STAMP = "timestamp.json"
"""Every change replaces it, so that whoever compares it compares everything."""


def get(tx: Connection, file: str) -> bytes | None:
    """Read a file.

    Args:
        tx: As `Database.read` gives it.
        file: Its name, as `timestamp.json`.

    Returns:
        None: there is none.
    """
    content = tx.execute(select(files.c.content).where(files.c.name == file)).scalar()
    return None if content is None else bytes(content)


def put(tx: Connection, new: Mapping[str, bytes], expect: bytes | None, now_s: float) -> bool:
    """Write files over those of the same names, if nobody else has changed any since.

    Args:
        tx: As `Database.begin` gives it.
        new: Content by name; `timestamp.json` is among them.
        expect: What `timestamp.json` has to hold still; None: there is none yet.
        now_s: Seconds since 1970, UTC.

    Returns:
        Whether it was done.
    """
    stamp = {"name": _STAMP, "content": new[_STAMP], "changed_s": now_s}
    if expect is None:
        first = upsert(tx, files).values(stamp).on_conflict_do_nothing(index_elements=["name"])
        done = len(tx.execute(first.returning(files.c.name)).all())
    else:
        mine = (files.c.name == _STAMP) & (files.c.content == expect)
        done = tx.execute(update(files).where(mine).values(stamp)).rowcount
    if done != 1:
        return False
    for name, content in sorted(new.items()):
        row = upsert(tx, files).values(name=name, content=content, changed_s=now_s)
        tx.execute(
            row.on_conflict_do_update(
                index_elements=["name"], set_={"content": row.excluded.content, "changed_s": now_s}
            )
        )
    return True


def prune(tx: Connection, now_s: float) -> int:
    """Throw away superseded files that no device asks for any more: all but the last few, and fresh ones.

    Roots all stay: a device that was away for long walks from the one it has to the newest. Of the others a
    client reads the newest alone; one that began a moment ago goes on with what was the newest then.

    Args:
        tx: As `Database.begin` gives it.
        now_s: Seconds since 1970, UTC.

    Returns:
        How many.
    """
    versions: dict[str, list[int]] = {}
    old: set[str] = set()
    for name, changed_s in tx.execute(select(files.c.name, files.c.changed_s)):
        version, _, role = name.partition(".")
        if version.isdigit() and role != "root.json":
            versions.setdefault(role, []).append(int(version))
            if changed_s < now_s - _KEPT_S:
                old.add(name)
    superseded = {
        f"{version}.{role}" for role, found in versions.items() for version in sorted(found)[:-_KEPT]
    }
    gone = sorted(superseded & old)
    for some in chunks(gone):
        tx.execute(delete(files).where(files.c.name.in_(some)))
    return len(gone)


class StoredMetadata:
    """TUF files in the database: the `MetadataStore` of a repository.

    Args:
        database: Of the manager.
        now_s: Gives seconds since 1970, UTC.
    """

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s

    def get(self, file: str) -> bytes | None:
        """Read a file; None: there is none."""
        with self._database.read() as tx:
            return get(tx, file)

    def put(self, files: Mapping[str, bytes], expect: bytes | None) -> bool:
        """Write files, all or none, if `timestamp.json` still holds what is expected; say whether it did."""
        with self._database.begin() as tx:
            return put(tx, files, expect, self._now_s())
