"""Routes about devices: list, show, change, revoke, have them do something."""

import secrets
from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Path, Query
from pydantic import Field, JsonValue

from cloud_fallback.fleet.api import auth
from cloud_fallback.fleet.api.manager import Here, Manager
from cloud_fallback.fleet.database import audit, devices
from cloud_fallback.fleet.refusals import NotThereError
from cloud_fallback.fleet.views import DevicePatch, DeviceView
from edge_runtime.contract.errors import OverloadedError
from edge_runtime.contract.fleet import Command, Id, Reply
from edge_runtime.contract.task import Declared

router = APIRouter(tags=["devices"])

Name = Annotated[Id, Path(description="of a device")]
_RETRY_S = 2.0


class DeviceQuery(Declared):
    """Which devices, and from where on."""

    selector: str = Field(default="all", max_length=2000)
    state: Literal["online", "offline", "revoked"] | None = None
    after: str = Field(default="", max_length=64)
    limit: int = Field(default=100, ge=1, le=1000)


class DevicePage(Declared):
    """Devices by name; `next` is the `after` of the next page, None on the last one."""

    devices: tuple[DeviceView, ...]
    next: str | None


class CommandNew(Declared):
    """Something for a device to do once, now."""

    name: Literal["report", "restart-pipeline", "set-log-level", "snapshot", "benchmark", "cancel"]
    arguments: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue], max_length=20)
    timeout_s: float = Field(default=10.0, gt=0, le=120)


@router.get("/v1/devices")
def list_devices(here: Here, _: auth.Viewer, query: Annotated[DeviceQuery, Query()]) -> DevicePage:
    """List devices by name."""
    online = {"online": True, "offline": False}.get(query.state or "")
    with here.database.read() as tx:
        found = devices.listing(
            tx,
            query.selector,
            query.after,
            query.limit + 1,
            online=online,
            revoked=query.state == "revoked",
        )
    more = len(found) > query.limit
    page = found[: query.limit]
    return DevicePage(devices=tuple(page), next=page[-1].name if more else None)


@router.get("/v1/devices/{name}")
def show_device(name: Name, here: Here, _: auth.Viewer) -> DeviceView:
    """Show a device, one that was revoked too."""
    with here.database.read() as tx:
        return devices.must_find(tx, name)


@router.patch("/v1/devices/{name}")
def change_device(name: Name, body: DevicePatch, here: Here, caller: auth.Operator) -> DeviceView:
    """Change labels, groups or time zone; what is not named stays."""
    now_s = here.now_s()
    with here.database.begin() as tx:
        if not devices.change(tx, name, body, now_s):
            raise _nobody(name)
        detail = body.model_dump_json(exclude_none=True)
        audit.write(tx, caller.name, "device.change", name, detail, now_s)
        found = devices.must_find(tx, name)
    here.operator.nudge()
    return found


@router.delete("/v1/devices/{name}", status_code=204)
def revoke_device(name: Name, here: Here, caller: auth.Admin) -> None:
    """Take a device out of the fleet: token refused, certificate on the list, session at the broker ended."""
    now_s = here.now_s()
    with here.database.begin() as tx:
        devices.must_find(tx, name)
        if devices.revoke(tx, name, now_s):
            audit.write(tx, caller.name, "device.revoke", name, "token and certificate", now_s)
    here.publish_revoked()
    here.operator.expel(name, forget=True)
    here.operator.nudge()


@router.post("/v1/devices/{name}/commands")
async def command_device(name: Name, body: CommandNew, here: Here, caller: auth.Operator) -> Reply:
    """Have a device do something, and wait for its answer."""
    waiting = here.commands
    if waiting.available_tokens < 1:
        got = f"{waiting.total_tokens:g} that wait for devices"
        raise OverloadedError("commands", retry_after_s=_RETRY_S, got=got)
    return await anyio.to_thread.run_sync(run_command, here, name, body, caller.name, limiter=waiting)


def run_command(here: Manager, name: str, body: CommandNew, who: str) -> Reply:
    """Have a device do something, with its line in the audit log, and wait for its answer.

    Args:
        here: Everything.
        name: Of the device.
        body: What to do.
        who: Name of the token.

    Raises:
        NotThereError: There is no such device.
        DeadlineError: No answer came.
        RemoteError: The broker is not there.
    """
    now_s = here.now_s()
    command = Command(id=f"c-{secrets.token_hex(8)}", name=body.name, arguments=body.arguments)
    with here.database.begin() as tx:
        if devices.must_find(tx, name).revoked_at is not None:
            raise _nobody(name)
        detail = body.model_dump_json(include={"name", "arguments"})
        audit.write(tx, who, "device.command", name, detail, now_s)
    return here.operator.command(name, command, body.timeout_s)


def _nobody(name: str) -> NotThereError:
    return NotThereError("device", expected="one of the fleet", got=repr(name))
