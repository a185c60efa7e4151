"""Takes what devices say into the database: many messages in one transaction, each bad one by its code.

Every replica does this. Decides nothing about rollouts. A report is taken only if it is newer than the one
before: by its number, or by its time where the numbers began anew with a device that was installed again.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from cloud_fallback.fleet import errands, moments
from cloud_fallback.fleet.bus import Heard
from cloud_fallback.fleet.database import audit, events
from cloud_fallback.fleet.database.devices import HAVES, mark
from cloud_fallback.fleet.database.events import Event
from cloud_fallback.fleet.database.rows import chunks
from cloud_fallback.fleet.database.tables import devices
from edge_runtime.contract.errors import InputError
from edge_runtime.contract.fleet import DeviceEvent, Presence, Reported
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.fleet.parsing import parse
from edge_runtime.fleet.topics import Channel
from edge_runtime.fleet.topics import parse as parse_topic

_UNKNOWN = "unknown-device"
_REVOKED = "revoked-device"
_TOLD_S = 60.0
"""A device's bad messages of one kind become one event in so long; all are counted."""
_AUDIT_S = 3600.0
_CLOCK_S = 86400.0
"""A device's time that is further off than this is replaced by the manager's."""


@dataclass(slots=True)
class Batch:
    """What many messages said.

    Args:
        reports: The newest of each device.
        events: All of them.
        presence: The last of each device: whether it is online.
        bad: What could not be read: device or None, code, and text.
    """

    reports: dict[str, Reported] = field(default_factory=dict[str, Reported])
    events: list[Event] = field(default_factory=list[Event])
    presence: dict[str, bool] = field(default_factory=dict[str, bool])
    bad: list[tuple[str | None, str, str]] = field(default_factory=list[tuple[str | None, str, str]])


@dataclass(slots=True)
class Taken:
    """What became of a batch.

    Args:
        reported: Devices whose reports were new.
        changed: Devices that went online or offline, or reported.
        astray: Devices that have not taken in what they should.
        revoked: Devices that are out of the fleet, and said something all the same.
    """

    reported: set[str] = field(default_factory=set[str])
    changed: set[str] = field(default_factory=set[str])
    astray: set[str] = field(default_factory=set[str])
    revoked: set[str] = field(default_factory=set[str])


def newer(report: Reported, seq: int, time: str) -> bool:
    """Say whether a report says more than what is known.

    Args:
        report: As it came.
        seq: Of the newest known one; -1: there is none.
        time: Of that one.
    """
    return report.seq > seq or report.time > time


def read(heard: Iterable[Heard], tenant: str, now_s: float) -> Batch:
    """Read messages; those that cannot be read are kept by their code.

    Args:
        heard: In the order in which they came.
        tenant: Whose manager this is.
        now_s: Seconds since 1970, UTC.
    """
    batch = Batch()
    for each in heard:
        device: str | None = None
        try:
            address = parse_topic(each.topic)
            if address.tenant != tenant:
                raise UpdateFailedError(
                    Failure.WRONG_TENANT, "topic: tenant", expected=tenant, got=address.tenant
                )
            device = address.device
            _read_one(batch, address.channel, device or "", each.payload, now_s)
        except UpdateFailedError as error:
            batch.bad.append((device, str(error.code), str(error)))
    return batch


def _read_one(batch: Batch, channel: Channel, device: str, payload: bytes, now_s: float) -> None:
    match channel:
        case Channel.REPORTED:
            report = parse(Reported, payload)
            if report.device != device:
                raise UpdateFailedError(
                    Failure.MESSAGE_FOREIGN_TOPIC, "reported: device", expected=device, got=report.device
                )
            known = batch.reports.get(device)
            if known is None or newer(report, known.seq, known.time):
                batch.reports[device] = report
        case Channel.EVENT:
            batch.events.append(_event(parse(DeviceEvent, payload), device, now_s))
        case Channel.PRESENCE:
            batch.presence[device] = parse(Presence, payload).online if payload else False
        case _:
            raise UpdateFailedError(
                Failure.MESSAGE_FOREIGN_TOPIC, "topic", expected="reported, event or presence", got=channel
            )


def _event(said: DeviceEvent, device: str, now_s: float) -> Event:
    try:
        at_s = moments.seconds(said.time)
    except InputError:  # a date that no calendar has
        at_s = now_s
    if abs(at_s - now_s) > _CLOCK_S:
        at_s = now_s
    deployment = None if said.deployment is None else errands.owner(said.deployment)
    return Event(at_s, said.level, said.code, said.text, device, deployment, said.id)


class Ingest:
    """Writes batches down. Belongs to one thread."""

    def __init__(self) -> None:
        self.bad: Counter[str] = Counter()
        """Bad messages by code, since the start."""
        self.presence: dict[str, bool] = {}
        """Whether devices are online, as the broker said last."""
        self._told: dict[tuple[str | None, str], float] = {}
        self._audited: dict[str, float] = {}

    def write(self, tx: Connection, batch: Batch, now_s: float, *, leads: bool) -> Taken:
        """Write a batch down.

        Args:
            tx: As `Database.begin` gives it.
            batch: As `read` gave it.
            now_s: Seconds since 1970, UTC.
            leads: Whether this replica decides; else the leader is told to look at the devices.
        """
        self.presence |= batch.presence
        names = {*batch.reports, *batch.presence, *(each.device or "" for each in batch.events)}
        known = _known(tx, names)
        taken = Taken()
        self._turn_away(tx, batch, names - known.keys(), taken, now_s)
        self._write_reports(tx, batch, known, taken, now_s)
        presence = {
            name: online
            for name, online in batch.presence.items()
            if name in known and known[name].online != online
        }
        if leads:
            _write_presence(tx, presence, now_s)
            taken.changed |= presence.keys()
        else:
            mark(tx, taken.reported)
        happened = [each for each in batch.events if each.device in known]
        events.write(tx, [*happened, *self._complaints(batch, now_s)])
        taken.changed |= taken.reported | {each.device for each in happened if each.device}
        return taken

    def _turn_away(self, tx: Connection, batch: Batch, names: set[str], taken: Taken, now_s: float) -> None:
        """Note who spoke and is not in the fleet; of a revoked device the audit log has a line an hour."""
        revoked = _revoked(tx, names)
        for name in sorted(names - revoked):
            batch.bad.append((None, _UNKNOWN, f"a message of {name}, which is not in the fleet"))
        for name in sorted(revoked):
            if batch.presence.get(name) is False and name not in batch.reports:
                continue  # the broker's own word: the last will of a session that has ended
            taken.revoked.add(name)
            batch.bad.append((name, _REVOKED, "it was revoked, and is at the broker all the same: ignored"))
            if self._audited.get(name, 0.0) <= now_s - _AUDIT_S:
                self._audited[name] = now_s
                detail = "it was revoked and said something: ignored, and its session at the broker is ended"
                audit.write(tx, "manager", "device.ignored", name, detail, now_s)

    def catch_up(self, tx: Connection, now_s: float) -> set[str]:
        """Write down who is online, as a replica that has just begun to lead.

        Args:
            tx: As `Database.begin` gives it.
            now_s: Seconds since 1970, UTC.

        Returns:
            Devices of which the database said otherwise.
        """
        known = _known(tx, self.presence)
        wrong = {
            name: self.presence[name] for name, row in known.items() if row.online != self.presence[name]
        }
        _write_presence(tx, wrong, now_s)
        return set(wrong)

    def _write_reports(
        self, tx: Connection, batch: Batch, known: dict[str, Any], taken: Taken, now_s: float
    ) -> None:
        rows: list[dict[str, object]] = []
        for name, report in sorted(batch.reports.items()):
            row = known.get(name)
            if row is None or not newer(report, row.report_seq, row.report_time):
                continue
            taken.reported.add(name)
            if report.desired_seq != row.desired_seq:
                taken.astray.add(name)
            rows.append(
                {
                    "at": name, "agent": report.agent[:100], "report_seq": report.seq,
                    "report_time": report.time, "taken_seq": report.desired_seq,
                    "have": HAVES.dump_json(report.have).decode(), "health": report.health.model_dump_json(),
                    "seen_s": now_s, "touched_s": now_s,
                    "online": self.presence.get(name, True),
                }
            )  # fmt: skip
        if rows:
            values: dict[str, object] = {key: bindparam(key) for key in rows[0] if key != "at"}
            tx.execute(update(devices).where(devices.c.name == bindparam("at")).values(values), rows)
        # A database that was restored is behind its devices: numbers have to go on growing.
        for row in rows:
            name = str(row["at"])
            if batch.reports[name].desired_seq > known[name].desired_seq:
                above = batch.reports[name].desired_seq + 1
                tx.execute(update(devices).where(devices.c.name == name).values(desired_seq=above))

    def _complaints(self, batch: Batch, now_s: float) -> list[Event]:
        found: list[Event] = []
        for device, code, text in batch.bad:
            self.bad[code] += 1
            if self._told.get((device, code), 0.0) > now_s - _TOLD_S:
                continue
            self._told[device, code] = now_s
            found.append(Event(now_s, "warning", code, text[:1000], device))
        if len(self._told) > 10_000:
            self._told.clear()
        return found


def _known(tx: Connection, names: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    columns = (
        devices.c.name,
        devices.c.report_seq,
        devices.c.report_time,
        devices.c.desired_seq,
        devices.c.online,
    )
    for some in chunks(sorted(names)):
        query = select(*columns).where(devices.c.name.in_(some), devices.c.revoked_s.is_(None))
        found |= {row.name: row for row in tx.execute(query)}
    return found


def _revoked(tx: Connection, names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for some in chunks(sorted(names)):
        query = select(devices.c.name).where(devices.c.name.in_(some), devices.c.revoked_s.is_not(None))
        found |= {name for (name,) in tx.execute(query)}
    return found


def _write_presence(tx: Connection, presence: dict[str, bool], now_s: float) -> None:
    for online in (True, False):
        names = sorted(name for name, is_online in presence.items() if is_online is online)
        for some in chunks(names):
            new = {"online": online, "touched_s": now_s}
            if online:
                new["seen_s"] = now_s
            tx.execute(update(devices).where(devices.c.name.in_(some)).values(new))
