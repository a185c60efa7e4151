"""What devices should have: rows of `wanted`, and the message that says it. Sends nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select, update

from cloud_fallback.fleet.database.rows import chunks, dump, load, upsert
from cloud_fallback.fleet.database.tables import devices, wanted
from edge_runtime.contract.fleet import Desired, Named, Wanted

_CANCELLED_MAX = 20
"""Errands to be given up that a device is told of; older ones it has forgotten itself."""
Key = tuple[str, str, str]
"""Device, kind and name."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a device should have of one name.

    Args:
        content: Now, as JSON of `Wanted`; None: nothing.
        good: The last that it is known to run well, as JSON; None: nothing.
        removed: Whether it should go back to what it was installed with.
    """

    content: str | None = None
    good: str | None = None
    removed: bool = False


class Wishes:
    """What some devices should have, read once, changed in memory, written in one go.

    Args:
        tx: As `Database.read` gives it; not needed after this.
        names: Of all devices that may change.
    """

    def __init__(self, tx: Connection, names: Iterable[str]) -> None:
        self._wishes: dict[Key, Wish] = {}
        self._cancelled: dict[str, list[str]] = {}
        self._written: dict[Key, Wish] = {}
        self.told: set[str] = set()
        """Devices that have to be told."""
        self._quiet: set[str] = set()
        for some in chunks(sorted(set(names))):
            for row in tx.execute(select(wanted).where(wanted.c.device.in_(some))):
                self._wishes[row.device, row.kind, row.name] = Wish(row.content, row.good, row.removed)
            query = select(devices.c.name, devices.c.cancelled).where(devices.c.name.in_(some))
            for row in tx.execute(query):
                self._cancelled[row.name] = load(row.cancelled)

    def of(self, key: Key) -> Wish:
        """Say what a device should have of a name."""
        return self._wishes.get(key, Wish())

    def want(self, key: Key, content: Wanted | None) -> None:
        """Have a device want something else of a name; None: go back to what it was installed with."""
        text = None if content is None else content.model_dump_json()
        good = None if content is None else self.of(key).good
        self._put(key, Wish(text, good, content is None), tell=True)

    def keep(self, key: Key) -> None:
        """Write down that a device runs well what it should have."""
        wish = self.of(key)
        self._put(key, replace(wish, good=wish.content), tell=False)

    def give_up(self, key: Key, errand: str, *, cancel: bool) -> None:
        """Have a device want again what it ran well, instead of an errand.

        Args:
            key: Which device, and of which name.
            errand: That it no longer should do; where it should do another one, nothing changes.
            cancel: Whether it may still be doing it.
        """
        wish = self.of(key)
        if wish.content is None or Wanted.model_validate_json(wish.content).deployment != errand:
            return
        self._put(key, replace(wish, content=wish.good), tell=True)
        if cancel:
            device = key[0]
            self._cancelled[device] = [*self._cancelled.get(device, []), errand][-_CANCELLED_MAX:]
            self._quiet.add(device)

    def write(self, tx: Connection) -> None:
        """Write what has changed, and count up what devices are told.

        Args:
            tx: As `Database.begin` gives it.
        """
        rows = [
            {
                "device": device, "kind": kind, "name": name, "content": wish.content,
                "good": wish.good, "removed": wish.removed,
            }
            for (device, kind, name), wish in sorted(self._written.items())
        ]  # fmt: skip
        if rows:
            new = upsert(tx, wanted)
            again = {name: getattr(new.excluded, name) for name in ("content", "good", "removed")}
            tx.execute(new.on_conflict_do_update(index_elements=["device", "kind", "name"], set_=again), rows)
        for some in chunks(sorted(self.told)):
            tx.execute(
                update(devices).where(devices.c.name.in_(some)).values(desired_seq=devices.c.desired_seq + 1)
            )
        for device in sorted(self._quiet):
            cancelled = dump(self._cancelled[device])
            tx.execute(update(devices).where(devices.c.name == device).values(cancelled=cancelled))

    def _put(self, key: Key, wish: Wish, *, tell: bool) -> None:
        if wish == self.of(key):
            return
        self._wishes[key] = self._written[key] = wish
        if tell:
            self.told.add(key[0])


def desired(tx: Connection, tenant: str, names: Iterable[str]) -> list[Desired]:
    """Say what devices should have, as they are told.

    Args:
        tx: Of any kind.
        tenant: Whose they are.
        names: Of the devices; those that are not in the fleet are left out.
    """
    found: list[Desired] = []
    for some in chunks(sorted(set(names))):
        wishes: dict[str, list[Wanted]] = {}
        removed: dict[str, list[Named]] = {}
        query = select(wanted).where(wanted.c.device.in_(some)).order_by(wanted.c.kind, wanted.c.name)
        for row in tx.execute(query):
            if row.content is not None:
                wishes.setdefault(row.device, []).append(Wanted.model_validate_json(row.content))
            elif row.removed:
                removed.setdefault(row.device, []).append(Named(kind=row.kind, name=row.name))
        here = devices.c.name.in_(some) & devices.c.revoked_s.is_(None)
        query = select(devices.c.name, devices.c.desired_seq, devices.c.cancelled).where(here)
        found += [
            Desired(
                seq=row.desired_seq, tenant=tenant, device=row.name, wanted=tuple(wishes.get(row.name, ())),
                removed=tuple(removed.get(row.name, ())), cancelled=tuple(load(row.cancelled)),
            )
            for row in tx.execute(query.order_by(devices.c.name))
        ]  # fmt: skip
    return found
