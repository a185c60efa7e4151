"""The fleet at a glance, for the console's first page. Decides nothing."""

from sqlalchemy import Connection, select

from cloud_fallback.fleet.database import deployments
from cloud_fallback.fleet.database.devices import by_version, counts, haves, trouble
from cloud_fallback.fleet.database.tables import devices
from cloud_fallback.fleet.views import Overview, Trouble
from edge_runtime.contract.fleet import Health

_LOOKED_AT = 5000
"""Devices that are looked through for trouble, those heard of last first."""


def overview(tx: Connection, troubles: int = 20) -> Overview:
    """Give the fleet at a glance.

    Args:
        tx: As `Database.read` gives it.
        troubles: At most so many devices that something is wrong with.
    """
    total, online = counts(tx)
    query = select(devices.c.name, devices.c.have, devices.c.health).where(devices.c.revoked_s.is_(None))
    wrong: list[Trouble] = []
    for row in tx.execute(query.order_by(devices.c.touched_s.desc()).limit(_LOOKED_AT)):
        text = trouble(haves(row.have), Health.model_validate_json(row.health))
        if text is not None:
            wrong.append(Trouble(device=row.name, text=text))
        if len(wrong) == troubles:
            break
    return Overview(
        devices=total,
        online=online,
        by_version=tuple(by_version(tx)),
        deployments=tuple(deployments.listing(tx, 20, active=True)),
        trouble=tuple(wrong),
    )
