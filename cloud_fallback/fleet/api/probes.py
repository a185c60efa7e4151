"""Routes for machines that watch the manager: alive, ready, metrics."""

import logging
from collections.abc import Callable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from cloud_fallback.fleet.api import auth
from cloud_fallback.fleet.api.manager import Here, Manager
from cloud_fallback.fleet.api.metrics import CONTENT_TYPE
from cloud_fallback.fleet.database import deployments, devices
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.task import Declared
from edge_runtime.contract.trust import REVERTS

log = logging.getLogger(__name__)
router = APIRouter(tags=["probes"])

_DEPLOYMENTS = 500
_ROLES = ("root", "targets", "snapshot", "timestamp", REVERTS)
"""Without one of these, no device believes anything."""


class Ready(Declared):
    """What the manager needs, and whether it answers: `ok`, or what is wrong."""

    ready: bool
    database: str
    metadata: str
    broker: str


@router.get("/healthz")
async def healthz() -> dict[str, bool]:
    """Say that the process is alive."""
    return {"alive": True}


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready}})
def readyz(here: Here) -> Response:
    """Say whether requests can be answered. Without the broker they can; devices then hear of it later."""
    database = _said(lambda: _ask_database(here))
    metadata = _said(lambda: _ask_metadata(here))
    broker = "ok" if here.operator.figures().connected else "not connected"
    ready = database == metadata == "ok"
    said = Ready(ready=ready, database=database, metadata=metadata, broker=broker)
    return JSONResponse(said.model_dump(), 200 if ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(here: Here, _: auth.Viewer) -> Response:
    """Give the metrics in Prometheus's text form."""
    counted = here.metrics
    with here.database.read() as tx:
        total, online = devices.counts(tx)
        versions = devices.by_version(tx)
        active = deployments.listing(tx, _DEPLOYMENTS, active=True)
    figures = here.operator.figures()
    counted.leads.set(figures.leads)
    counted.connected.set(figures.connected)
    counted.turn.set(figures.turn_s)
    counted.messages.labels("taken").set(figures.messages)
    counted.messages.labels("published").set(figures.published)
    counted.messages.labels("waiting").set(figures.waiting)
    counted.messages.labels("bad").set(sum(figures.bad.values()))
    counted.devices.labels("true").set(online)
    counted.devices.labels("false").set(total - online)
    counted.versions.clear()
    for each in versions:
        counted.versions.labels(each.kind, each.name, each.version or "").set(each.devices)
    counted.deployments.clear()
    for view in active:
        counted.deployments.labels(view.phase).inc()
    counted.expires.clear()
    for role, at_s in here.repository.ends().items():
        counted.expires.labels(role).set(at_s)
    return Response(counted.page(), media_type=CONTENT_TYPE)


def _ask_database(here: Manager) -> None:
    with here.database.read() as tx:
        devices.counts(tx)


def _ask_metadata(here: Manager) -> None:
    # A family that has released nothing for long is its publisher's affair.
    ends = here.repository.ends()
    expired = [role for role in _ROLES if ends.get(role, 0.0) <= here.now_s()]
    if expired:
        raise EdgeRuntimeError(f"metadata of {', '.join(sorted(expired))} has expired")


def _said(ask: Callable[[], None]) -> str:
    try:
        ask()
    except (EdgeRuntimeError, SQLAlchemyError) as error:
        log.warning("not ready: %s", error)
        return str(error) if isinstance(error, EdgeRuntimeError) else "does not answer"
    return "ok"
