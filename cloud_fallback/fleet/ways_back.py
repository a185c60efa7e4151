"""Ways back: to which release devices of a rollout go back, and the signed targets that send them there.

A device takes no lower counter than it has. So a way back is a target of its own, with a counter above all
others, that names an older release; the repository signs it once for all devices that go there.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from cloud_fallback.fleet import errands
from cloud_fallback.fleet.actions import Revert
from cloud_fallback.fleet.database import releases, rollouts
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.database.events import Event
from cloud_fallback.fleet.database.rollouts import Side
from cloud_fallback.fleet.database.rows import AnyRow
from cloud_fallback.fleet.plan import Source
from cloud_fallback.fleet.standing import Phase
from cloud_fallback.fleet.views import ReleaseView
from edge_runtime.contract.fleet import Kind, Wanted
from edge_runtime.contract.update import UpdateFailedError

log = logging.getLogger(__name__)

_TAKEN_BACK = frozenset({Phase.HALTED, Phase.REVERTING, Phase.REVERTED})
Member = tuple[str, str]
"""Deployment and device."""


class Reverter(Protocol):
    """Signs ways back: `Repository`."""

    def next_counter(self, kind: Kind, name: str) -> int:
        """Give a counter above every release and every way back of a name."""
        ...

    def revert(self, kind: Kind, name: str, of: str, counter: int, now_s: float) -> str:
        """Sign a target that sends devices back to an older one, and give its path.

        Raises:
            UpdateFailedError: The older one is not listed.
        """
        ...

    def refresh(self, now_s: float, *, anyway: bool = False) -> bool:
        """Sign what expires again where it is time, or anyway."""
        ...


@dataclass(frozen=True, slots=True)
class WayBack:
    """Where devices of a rollout go back to.

    Args:
        release: The release to go back to.
        above: The counter of the version that they come from.
    """

    release: ReleaseView
    above: int


Signed = dict[WayBack, tuple[str, int]]
"""Target and counter of each way."""


def ways_back(
    tx: Connection, actions: Iterable[Revert], sources: Mapping[str, Source]
) -> dict[Member, WayBack | None]:
    """Say where devices go back to: the newest good one, or what each had before all that was taken back.

    Args:
        tx: As `Database.read` gives it.
        actions: Of one turn.
        sources: Of their deployments, by id.

    Returns:
        By deployment and device; None: what it was installed with.
    """
    actions = list(actions)
    sides = rollouts.sides(tx, {each.device for each in actions})
    ids = {id_ for id_, _ in sides} | {each.to for each in actions if each.to is not None}
    rows = rollouts.rows_of(tx, ids)
    known: dict[tuple[str, str, str], ReleaseView | None] = {}
    found: dict[Member, WayBack | None] = {}
    for each in actions:
        here = sources[each.deployment]
        if each.to is not None:
            version: str | None = rows[each.to].version
        else:
            version = _version_before(each, sides, rows)
        if version is None:
            found[each.deployment, each.device] = None
            continue
        wanted = (here.release.kind, here.release.name, version)
        if wanted not in known:
            known[wanted] = releases.find(tx, *wanted)
        release = known[wanted]
        found[each.deployment, each.device] = (
            None if release is None else WayBack(release, here.release.counter)
        )
    return found


def _version_before(action: Revert, sides: Mapping[Member, Side], rows: Mapping[str, AnyRow]) -> str | None:
    seen: set[str] = set()
    deployment = action.deployment
    while deployment not in seen:
        seen.add(deployment)
        side = sides.get((deployment, action.device))
        if side is None or not side.base:
            return None
        base = Wanted.model_validate_json(side.base)
        deployment = errands.owner(base.deployment)
        bad = deployment in rows and rows[deployment].phase in _TAKEN_BACK
        if errands.is_back(base.deployment) or not bad:
            return base.version
    return None


def sign(
    database: Database, repository: Reverter, ways: Iterable[WayBack | None], now_s: float
) -> tuple[Signed, list[Event]]:
    """Have ways back signed that are not yet.

    Args:
        database: Of the manager; nothing is written.
        repository: That signs.
        ways: Of one turn.
        now_s: Seconds since 1970, UTC.

    Returns:
        Target and counter of each, and an event for each that cannot be signed.
    """
    signed: Signed = {}
    failed: list[Event] = []
    for way in unique(ways):
        release = way.release
        with database.read() as tx:
            known = releases.revert_target(tx, release.kind, release.name, release.target, way.above)
            lowest = releases.next_counter(tx, release.kind, release.name)
        if known is not None:
            signed[way] = known
            continue
        counter = max(lowest, repository.next_counter(release.kind, release.name))
        try:
            target = repository.revert(release.kind, release.name, release.target, counter, now_s)
        except UpdateFailedError as error:
            log.error("no way back to %s: %s", release.target, error)
            failed.append(Event(now_s, "error", "no-way-back", str(error)[:1000]))
        else:
            signed[way] = target, counter
    return signed, failed


def unique(ways: Iterable[WayBack | None]) -> list[WayBack]:
    """Give each way once, in a fixed order."""
    return sorted(
        {each for each in ways if each is not None}, key=lambda way: (way.release.target, way.above)
    )


def keep(tx: Connection, signed: Mapping[WayBack, tuple[str, int]], now_s: float) -> None:
    """Write ways back down that are new."""
    for way, (target, counter) in signed.items():
        release = way.release
        if releases.revert_target(tx, release.kind, release.name, release.target, way.above) is None:
            releases.keep_revert(
                tx, release.kind, release.name, of=release.target, target=target, counter=counter, now_s=now_s
            )


def targets(
    ways: Mapping[Member, WayBack | None],
    signed: Mapping[WayBack, tuple[str, int]],
    sources: Mapping[str, Source],
) -> dict[Member, Wanted | None]:
    """Say what devices that go back should have; those whose way is not signed are left out."""
    found: dict[Member, Wanted | None] = {}
    for (deployment, device), way in ways.items():
        if way is None:
            found[deployment, device] = None
        elif way in signed:
            target, counter = signed[way]
            release = way.release
            found[deployment, device] = Wanted(
                kind=release.kind, name=release.name, version=release.version, counter=counter,
                deployment=errands.back(deployment), target=target, size_bytes=release.size_bytes,
                sha256=release.sha256,
                # What is broken does not wait for the night, nor for a long look.
                trial=sources[deployment].trial.model_copy(update={"shadow_s": 0.0}),
            )  # fmt: skip
    return found
