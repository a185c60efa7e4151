"""Routes about deployments: create, watch over, approve, pause, halt, revert. The rollout engine decides.

A move is written down here, with who and why, and done by the leading replica; the answer waits a moment for
what became of it. Two live deployments of one bundle may name the same devices: the newer one has them, as
docs/reference/rollouts.md says, so that nothing is refused here for that.
"""

import re
import secrets
import time
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, Path, Query
from pydantic import Field, ValidationError

from cloud_fallback.fleet.api import auth
from cloud_fallback.fleet.api.manager import Here, Manager
from cloud_fallback.fleet.database import audit, deployments
from cloud_fallback.fleet.database.deployments import ID_MAX
from cloud_fallback.fleet.standing import Standing
from cloud_fallback.fleet.views import DeploymentNew, DeploymentView, MemberView, MoveName, MoveNew
from edge_runtime.contract.errors import InputError, UpdateError
from edge_runtime.contract.fleet import Id
from edge_runtime.contract.task import Declared

router = APIRouter(tags=["deployments"])

DeploymentId = Annotated[Id, Path(description="of a deployment")]
_PATIENCE_S = 3.0
"""How long an answer waits for the leader; a move that it has not done by then is done later."""
_LOOK_S = 0.05


class DeploymentQuery(Declared):
    """Which deployments, and from where on."""

    active: bool = Field(default=False, description="only those that still do something")
    after: str = Field(default="", max_length=64, description="id of the last one not wanted")
    limit: int = Field(default=50, ge=1, le=500)


class DeploymentPage(Declared):
    """Deployments, the newest first."""

    deployments: tuple[DeploymentView, ...]
    next: str | None


class MemberQuery(Declared):
    """Which devices of a deployment, and from where on."""

    standing: Standing | None = None
    held: bool = Field(default=False, description="only those that another rollout has")
    after: str = Field(default="", max_length=64)
    limit: int = Field(default=100, ge=1, le=1000)


class MemberPage(Declared):
    """Devices of a deployment, by name."""

    devices: tuple[MemberView, ...]
    next: str | None


@router.post("/v1/deployments", status_code=201)
def deploy(body: DeploymentNew, here: Here, caller: auth.Operator) -> DeploymentView:
    """Roll a release out to the devices that a selector names."""
    return create(here, body, caller.name)


@router.get("/v1/deployments")
def list_deployments(
    here: Here, _: auth.Viewer, query: Annotated[DeploymentQuery, Query()]
) -> DeploymentPage:
    """List deployments, the newest first."""
    with here.database.read() as tx:
        found = deployments.listing(tx, query.limit + 1, active=query.active, after=query.after)
    page = found[: query.limit]
    more = len(found) > query.limit
    return DeploymentPage(deployments=tuple(page), next=page[-1].deployment.id if more else None)


@router.get("/v1/deployments/{id}")
def show_deployment(id: DeploymentId, here: Here, _: auth.Viewer) -> DeploymentView:  # noqa: A002, its name in the path
    """Show a deployment and how its rollout stands."""
    with here.database.read() as tx:
        return deployments.must_find(tx, id)


@router.get("/v1/deployments/{id}/devices")
def list_members(
    id: DeploymentId,  # noqa: A002, its name in the path
    here: Here,
    _: auth.Viewer,
    query: Annotated[MemberQuery, Query()],
) -> MemberPage:
    """List the devices of a deployment and how they stand."""
    with here.database.read() as tx:
        deployments.must_find(tx, id)
        found = deployments.devices_of(tx, id, query.standing, query.after, query.limit + 1, held=query.held)
    page = found[: query.limit]
    more = len(found) > query.limit
    return MemberPage(devices=tuple(page), next=page[-1].device if more else None)


@router.post("/v1/deployments/{id}/{move}")
async def move_deployment(
    id: DeploymentId,  # noqa: A002, its name in the path
    move: MoveName,
    body: MoveNew,
    here: Here,
    caller: auth.Operator,
) -> DeploymentView:
    """Approve, pause, resume, halt, revert or cancel; answers with what became of it."""
    asked = await anyio.to_thread.run_sync(ask, here, id, move, body.reason, caller.name)
    until = time.monotonic() + _PATIENCE_S
    while not await anyio.to_thread.run_sync(is_done, here, id, move, asked):
        if time.monotonic() > until:
            break
        await anyio.sleep(_LOOK_S)
    return await anyio.to_thread.run_sync(_view, here, id)


def create(here: Manager, new: DeploymentNew, who: str) -> DeploymentView:
    """Write a deployment down, with its line in the audit log.

    Args:
        here: Everything.
        new: What is wanted.
        who: Name of the token.

    Raises:
        InputError: There is no such release, or the id is none.
        ConflictError: The id is taken.
        ConfigError: The selector is none.
    """
    now_s = here.now_s()
    id_ = new.id or _new_id(new)
    with here.database.begin() as tx:
        try:
            made = deployments.create(tx, new, id_, who, now_s)
        except ValidationError as error:  # of the deployment as a whole: its waves
            first = error.errors(include_url=False)[0]
            raise InputError("deployment", expected=first["msg"].removeprefix("Value error, ")) from error
        detail = f"{new.kind} {new.name} {new.version} to {made.deployment.selector}"
        audit.write(tx, who, "deployment.create", id_, detail, now_s)
    here.operator.nudge()
    return made


def ask(here: Manager, id_: str, move: MoveName, reason: str, who: str) -> int:
    """Write down what a person wants, with its line in the audit log.

    Args:
        here: Everything.
        id_: Of the deployment.
        move: What is wanted.
        reason: Why.
        who: Name of the token.

    Returns:
        The move's number, for `is_done`.

    Raises:
        NotThereError: There is no such deployment.
        UpdateError: Its phase does not allow that.
    """
    now_s = here.now_s()
    with here.database.begin() as tx:
        number = deployments.ask(tx, id_, move, reason=reason, who=who, now_s=now_s)
        audit.write(tx, who, f"deployment.{move}", id_, reason, now_s)
    here.operator.nudge()
    return number


def is_done(here: Manager, id_: str, move: MoveName, number: int) -> bool:
    """Say whether the leader has done a move.

    Raises:
        UpdateError: It could not be done any more.
    """
    with here.database.read() as tx:
        became = deployments.became(tx, number)
    if became.refused is not None:
        raise UpdateError(f"rollout {id_}: {move}", got=became.refused)
    return became.done


def _view(here: Manager, id_: str) -> DeploymentView:
    with here.database.read() as tx:
        return deployments.must_find(tx, id_)


def _new_id(body: DeploymentNew) -> str:
    """Make an id that says what it is; a device's messages and the console have it."""
    words = re.sub(r"[^a-z0-9._]+", "-", f"{body.name}-{body.version}".lower())
    return f"{words[: ID_MAX - 7].strip('-._')}-{secrets.token_hex(3)}"
