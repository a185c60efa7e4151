"""Devices: who belongs to the fleet, what each has and should have. Sends nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter
from sqlalchemy import Connection, func, insert, select, update

from cloud_fallback.fleet import moments, selector
from cloud_fallback.fleet.database.rows import AnyRow, chunks, dump, load, upsert
from cloud_fallback.fleet.database.tables import devices, dirty, wanted
from cloud_fallback.fleet.database.tables import revoked as revoked_certificates
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.views import DevicePatch, DeviceView, ReleaseView, VersionCount
from cloud_fallback.fleet.windows import zone_of
from edge_runtime.contract.fleet import Have, Health, Wanted
from edge_runtime.contract.update import ENDS, State

HAVES: TypeAdapter[tuple[Have, ...]] = TypeAdapter(tuple[Have, ...])
_BAD_ENDS = ENDS - {State.COMMITTED, State.CANCELLED}
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that becomes one of the fleet.

    Args:
        name: Unique in the fleet.
        profile: Its device profile.
        agent: Version of edge-runtime.
        timezone: IANA name, of its store.
        token_sha256: Of the token that it fetches with.
        certificate_serial: Of its certificate, hexadecimal.
        labels: Key and value; one that is there already keeps those that are not named here.
        groups: That it belongs to, besides those of before.
    """

    name: str
    profile: str
    agent: str
    timezone: str
    token_sha256: str
    certificate_serial: str
    labels: Mapping[str, str]
    groups: tuple[str, ...] = ()


def enrol(tx: Connection, new: Enrolled, now_s: float, *, again: bool) -> bool:
    """Write a device down; one of that name begins anew, and its old certificate is revoked.

    Args:
        tx: As `Database.begin` gives it.
        new: The device.
        now_s: Seconds since 1970, UTC.
        again: Whether one of that name may be there already.

    Returns:
        Whether one was.

    Raises:
        ConflictError: One is, with the code `device-exists`.
        ConfigError: Its time zone does not exist.
    """
    zone_of(new.timezone)
    old = tx.execute(select(devices).where(devices.c.name == new.name).with_for_update()).one_or_none()
    if old is not None and old.revoked_s is None and not again:
        raise ConflictError(
            f"device {new.name}",
            code="device-exists",
            expected="a name that no device has",
            got="one that is taken",
            do=f"To replace it, make a token for it: --name {new.name}",
        )
    before_labels: dict[str, str] = load(old.labels) if old is not None else {}
    before_groups: list[str] = load(old.groups) if old is not None else []
    row = {
        "profile": new.profile,
        "agent": new.agent,
        "timezone": new.timezone,
        "token_sha256": new.token_sha256,
        "certificate_serial": new.certificate_serial,
        "labels": dump({**before_labels, **new.labels}),
        "groups": dump(sorted({*before_groups, *new.groups})),
        "enrolled_s": now_s,
        "revoked_s": None,
        "online": False,
        "touched_s": now_s,
        "report_seq": -1,
        "report_time": "",
        "taken_seq": -1,
        "desired_seq": old.desired_seq + 1 if old is not None else 0,
        "cancelled": "[]",
        "have": "[]",
        "health": Health().model_dump_json(),
    }
    if old is None:
        tx.execute(insert(devices).values(name=new.name, seen_s=None, **row))
    else:
        tx.execute(update(devices).where(devices.c.name == new.name).values(**row))
        _retire(tx, new.name, old.certificate_serial, now_s)
    mark(tx, [new.name])
    return old is not None


def renew(tx: Connection, name: str, certificate_serial: str, now_s: float) -> None:
    """Write a device's new certificate down; the old one ends by itself.

    Args:
        tx: As `Database.begin` gives it.
        name: Of the device.
        certificate_serial: Of the new certificate, hexadecimal.
        now_s: Seconds since 1970, UTC.

    Raises:
        NotThereError: The fleet has no such device.
    """
    new = {"certificate_serial": certificate_serial, "touched_s": now_s}
    mine = (devices.c.name == name) & devices.c.revoked_s.is_(None)
    if tx.execute(update(devices).where(mine).values(new)).rowcount != 1:
        raise _not_there(name)


def revoke(tx: Connection, name: str, now_s: float) -> bool:
    """Take a device out of the fleet: its token is refused, its certificate stands in the list.

    Args:
        tx: As `Database.begin` gives it.
        name: Of the device.
        now_s: Seconds since 1970, UTC.

    Returns:
        Whether there was one to take out.
    """
    mine = (devices.c.name == name) & devices.c.revoked_s.is_(None)
    row = tx.execute(select(devices.c.certificate_serial).where(mine).with_for_update()).one_or_none()
    if row is None:
        return False
    tx.execute(update(devices).where(mine).values(revoked_s=now_s, online=False, touched_s=now_s))
    _retire(tx, name, row.certificate_serial, now_s)
    mark(tx, [name])
    return True


def revoked_serials(tx: Connection) -> list[tuple[str, float]]:
    """List the serial numbers (hexadecimal) of revoked certificates, and since when."""
    rows = tx.execute(select(revoked_certificates).order_by(revoked_certificates.c.certificate_serial))
    return [(row.certificate_serial, row.at_s) for row in rows]


def of_token(tx: Connection, sha256: str) -> str | None:
    """Find the device that has a token; None: nobody of the fleet."""
    mine = (devices.c.token_sha256 == sha256) & devices.c.revoked_s.is_(None)
    return tx.execute(select(devices.c.name).where(mine)).scalar()


def revoked_of_token(tx: Connection, sha256: str) -> str | None:
    """Find the device that had a token when it was revoked; None: nobody."""
    mine = (devices.c.token_sha256 == sha256) & devices.c.revoked_s.is_not(None)
    return tx.execute(select(devices.c.name).where(mine)).scalar()


def change(tx: Connection, name: str, patch: DevicePatch, now_s: float) -> bool:
    """Change what people say of a device; rollouts that it now belongs to take it in.

    Args:
        tx: As `Database.begin` gives it.
        name: Of the device.
        patch: What changes.
        now_s: Seconds since 1970, UTC.

    Returns:
        Whether there is such a device.

    Raises:
        ConfigError: The time zone does not exist.
    """
    new: dict[str, object] = {"touched_s": now_s}
    if patch.timezone is not None:
        zone_of(patch.timezone)
        new["timezone"] = patch.timezone
    if patch.labels is not None:
        new["labels"] = dump(dict(patch.labels))
    if patch.groups is not None:
        new["groups"] = dump(sorted(set(patch.groups)))
    there = tx.execute(update(devices).where(devices.c.name == name).values(**new)).rowcount == 1
    if there:
        mark(tx, [name])
    return there


def mark(tx: Connection, names: Iterable[str]) -> None:
    """Tell the leader to look at devices again."""
    rows = [{"device": name, "marks": 1} for name in sorted(set(names))]
    if rows:
        new = upsert(tx, dirty)
        # An update, not nothing: it waits for a leader that is just taking the mark away.
        tx.execute(
            new.on_conflict_do_update(index_elements=["device"], set_={"marks": dirty.c.marks + 1}), rows
        )


def find(tx: Connection, name: str) -> DeviceView | None:
    """Give a device; None: there is none of that name."""
    row = tx.execute(select(devices).where(devices.c.name == name)).one_or_none()
    return None if row is None else _views(tx, [row])[0]


def listing(
    tx: Connection,
    text: str = "all",
    after: str = "",
    limit: int = 100,
    *,
    online: bool | None = None,
    revoked: bool = False,
) -> list[DeviceView]:
    """List devices by name.

    Args:
        tx: As `Database.read` gives it.
        text: Selector.
        after: Name of the last one not wanted.
        limit: At most so many.
        online: Only those that are, or are not; None: all.
        revoked: Only those that are out of the fleet, instead of those that are in it.

    Raises:
        ConfigError: It is no selector.
    """
    chosen, found = selector.parse(text), list[AnyRow]()
    while len(found) < limit:
        query = select(devices).where(devices.c.name > after).order_by(devices.c.name).limit(_PAGE)
        out = devices.c.revoked_s
        query = query.where(out.is_not(None) if revoked else out.is_(None))
        if online is not None:
            query = query.where(devices.c.online == online)
        rows = tx.execute(query).all()
        found += [row for row in rows if chosen.matches(labels_of(row))]
        if len(rows) < _PAGE:
            break
        after = rows[-1].name
    return _views(tx, found[:limit])


def names(tx: Connection, text: str) -> list[str]:
    """List the names of all devices of the fleet that a selector matches.

    Raises:
        ConfigError: It is no selector.
    """
    chosen = selector.parse(text)
    rows = tx.execute(select(devices).where(devices.c.revoked_s.is_(None)).order_by(devices.c.name))
    return [row.name for row in rows if chosen.matches(labels_of(row))]


def labels_of(row: AnyRow) -> dict[str, str | list[str]]:
    """Say what a selector sees of a device: its labels, and what the manager itself knows of it."""
    labels: dict[str, str | list[str]] = dict(load(row.labels))
    own: dict[str, str | list[str]] = {
        "profile": row.profile,
        "device": row.name,
        "agent": row.agent,
        "timezone": row.timezone,
        "group": load(row.groups),
        "label": sorted(labels),
    }
    return {**labels, **own}


def counts(tx: Connection) -> tuple[int, int]:
    """Count the devices of the fleet, and those of them that are online."""
    here = devices.c.revoked_s.is_(None)
    total = tx.execute(select(func.count()).select_from(devices).where(here)).scalar_one()
    online = tx.execute(select(func.count()).select_from(devices).where(here, devices.c.online)).scalar_one()
    return total, online


def by_version(tx: Connection) -> list[VersionCount]:
    """Count devices by what they run."""
    found: Counter[tuple[str, str, str | None]] = Counter()
    rows = tx.execute(
        select(devices.c.have, func.count().label("devices"))
        .where(devices.c.revoked_s.is_(None))
        .group_by(devices.c.have)
    )
    for row in rows:
        for each in haves(row.have):
            found[each.kind, each.name, each.version] += row.devices
    return [
        VersionCount.model_validate({"kind": kind, "name": name, "version": version, "devices": count})
        for (kind, name, version), count in sorted(found.items(), key=lambda item: (item[0][:2], -item[1]))
    ]


def having(tx: Connection, release: ReleaseView) -> int:
    """Count the devices that run a release."""
    rows = tx.execute(
        select(devices.c.have, func.count().label("devices"))
        .where(devices.c.revoked_s.is_(None), devices.c.have.contains(release.sha256))
        .group_by(devices.c.have)
    )
    return sum(
        row.devices
        for row in rows
        if any(
            (each.kind, each.name, each.sha256) == (release.kind, release.name, release.sha256)
            for each in haves(row.have)
        )
    )


def haves(text: str) -> tuple[Have, ...]:
    """Read the column `have`."""
    return HAVES.validate_json(text)


def trouble(have: Iterable[Have], health: Health) -> str | None:
    """Say the worst thing about a device; None: nothing."""
    for each in have:
        if each.state in _BAD_ENDS:
            why = f" ({each.code})" if each.code else ""
            return f"{each.name}: {each.state}{why}"
    return health.trouble[0] if health.trouble else None


def _retire(tx: Connection, name: str, serial: str, now_s: float) -> None:
    row = upsert(tx, revoked_certificates).values(certificate_serial=serial, device=name, at_s=now_s)
    tx.execute(row.on_conflict_do_nothing(index_elements=["certificate_serial"]))


def _views(tx: Connection, rows: list[AnyRow]) -> list[DeviceView]:
    should: dict[str, list[Wanted]] = {}
    for some in chunks(row.name for row in rows):
        query = select(wanted.c.device, wanted.c.content).where(wanted.c.device.in_(some))
        for device, content in tx.execute(query.order_by(wanted.c.kind, wanted.c.name)):
            if content is not None:
                should.setdefault(device, []).append(Wanted.model_validate_json(content))
    return [_view(row, tuple(should.get(row.name, ()))) for row in rows]


def _view(row: AnyRow, should: tuple[Wanted, ...]) -> DeviceView:
    have, health = haves(row.have), Health.model_validate_json(row.health)
    return DeviceView(
        name=row.name,
        profile=row.profile,
        labels=load(row.labels),
        groups=tuple(load(row.groups)),
        timezone=row.timezone,
        online=row.online,
        last_seen=moments.maybe(row.seen_s),
        agent=row.agent,
        enrolled_at=moments.text(row.enrolled_s),
        revoked_at=moments.maybe(row.revoked_s),
        desired_seq=row.desired_seq,
        taken_seq=row.taken_seq,
        have=have,
        wanted=should,
        health=health,
        trouble=trouble(have, health),
    )


def must_find(tx: Connection, name: str) -> DeviceView:
    """Give a device.

    Raises:
        NotThereError: There is none of that name.
    """
    found = find(tx, name)
    if found is None:
        raise _not_there(name)
    return found


def _not_there(name: str) -> NotThereError:
    return NotThereError("device", expected="one of the fleet", got=repr(name))
