"""Why devices of a rollout are not sent anything: another rollout has them. `arbiter` decides that."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from cloud_fallback.fleet.arbiter import Claim, holder
from cloud_fallback.fleet.database.rows import chunks
from cloud_fallback.fleet.database.tables import deployments, members
from cloud_fallback.fleet.standing import BUSY, GOING_BACK, HEADS, LIVE, REVERTIBLE, Head, Phase, Standing
from edge_runtime.contract.deployment import Deployment


def awaiting(head: Head) -> frozenset[Standing]:
    """Say how devices stand that a rollout would send something to, if it may."""
    aim = head.paused_in or head.phase
    if aim in LIVE:
        return frozenset({Standing.WAITING})
    return REVERTIBLE if aim in GOING_BACK else frozenset()


def is_held(head: Head) -> ColumnElement[bool]:
    """Give the condition on rows of `members` that they are held."""
    return members.c.blocked & members.c.standing.in_(sorted(awaiting(head)))


def why(tx: Connection, deployment: str, names: Iterable[str]) -> dict[str, str]:
    """Say for a person which rollout holds each of some devices.

    Args:
        tx: As `Database.read` gives it.
        deployment: Of the rollout that may not have them.
        names: Of the devices.

    Returns:
        By device; one that nobody holds any more is left out.
    """
    found: dict[str, str] = {}
    for some in chunks(sorted(names)):
        query = (
            select(
                members.c.device, members.c.standing, deployments.c.id, deployments.c.n,
                deployments.c.version, deployments.c.content, deployments.c.head,
            )
            .join(deployments, deployments.c.id == members.c.deployment)
            .where(members.c.device.in_(some), ~deployments.c.archived)
        )  # fmt: skip
        claims: dict[str, list[Claim]] = {}
        versions: dict[str, str] = {}
        for row in tx.execute(query):
            claim = _claim(row)
            claims.setdefault(row.device, []).append(claim)
            versions[row.id] = f"{claim.bundle[1]} {row.version}"
        for device, some_claims in claims.items():
            if any(each.rollout == deployment for each in some_claims):
                held = holder(some_claims, deployment)
                if held is not None:
                    found[device] = _text(held, versions[held.rollout])
    return found


def _claim(row: Any) -> Claim:
    made = Deployment.model_validate_json(row.content)
    head = HEADS.validate_json(row.head)
    live = Phase(head.paused_in or head.phase) in LIVE
    age = made.counter, row.n
    return Claim(row.id, (made.kind, made.bundle), age, live, Standing(row.standing))


def _text(held: Claim, version: str) -> str:
    if held.standing in BUSY:
        return f"it is under way in {held.rollout} ({version})"
    if held.standing is Standing.WAITING:
        return f"{held.rollout} is to bring it {version}, which is newer"
    return f"it has, or may have, {version} of {held.rollout}, which is newer"
