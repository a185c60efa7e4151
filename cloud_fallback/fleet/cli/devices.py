"""`fleet devices`, `enrol-token`, `change`, `revoke` and `command`."""

import base64
import binascii
import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url, asking, quoted, shortly
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json
from edge_runtime.contract.errors import InputError, RemoteError

if TYPE_CHECKING:
    from rich.console import Console

    from cloud_fallback.fleet.views import DeviceView
    from edge_runtime.contract.fleet import Reply

STATES = ("online", "offline", "trouble", "revoked")


def devices(
    name: Annotated[str | None, typer.Argument(metavar="[DEVICE]", help="Show this one alone.")] = None,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", help="E.g. 'profile=store-pc and region=west'.")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help=f"One of {', '.join(STATES)}.")] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """List the devices of the fleet, or show one: what it runs, what it should run, how it is."""
    if state is not None and state not in STATES:
        raise typer.BadParameter(f"give one of {', '.join(STATES)}", param_hint="--state")
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import all_devices
        from cloud_fallback.fleet.views import DeviceView

        screen = console(as_json=as_json)
        if name is not None:
            found = fleet.get(f"/v1/devices/{quoted(name)}", DeviceView)
            if as_json:
                print_json(found)
            else:
                show_device(found, screen)
            return
        listed = list(all_devices(fleet, selector, state))
        if as_json:
            print_json({"devices": listed})
        else:
            show_devices(listed, screen)


def enrol_token(
    device: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help="Its name; absent: the device says it.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be given several times.")
    ] = None,
    group: Annotated[list[str] | None, typer.Option("--group", help="May be given several times.")] = None,
    expires: Annotated[str, typer.Option("--expires", help="How long it is good, e.g. 1h or 7d.")] = "24h",
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Make a one-time token with which a device becomes one of the fleet."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import Secret
        from cloud_fallback.fleet.quantities import duration_s

        body = {
            "device": device,
            "labels": _labels(label or []),
            "groups": group or [],
            "expires_s": duration_s(expires, "--expires"),
        }
        made = fleet.send("POST", "/v1/enrolments", Secret, body=body)
        if as_json:
            print_json(made)
            return
        screen = console()
        screen.print(made.token, markup=False, soft_wrap=True)
        named = f" --name {device}" if device else ""
        checked = " --ca authority.crt" if fleet.has_own_authority else ""
        line = f"edge-runtime enrol {fleet.url} --token {made.token}{named}{checked} --folder fleet"
        console(as_json=True).print(
            f"Good once, until {made.expires}. On the device: {line}", markup=False, soft_wrap=True
        )


def change(
    device: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Set one; several times.")
    ] = None,
    unlabel: Annotated[
        list[str] | None, typer.Option("--unlabel", metavar="KEY", help="Take one away; several times.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", help="In the place of those it is in; several times.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", help="Of its store, e.g. Europe/Berlin.")
    ] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Change a device's labels, groups or time zone; what is not named stays."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.views import DeviceView

        path = f"/v1/devices/{quoted(device)}"
        body: dict[str, object] = {}
        if label or unlabel:
            there = dict(fleet.get(path, DeviceView).labels) | _labels(label or [])
            body["labels"] = {key: value for key, value in there.items() if key not in (unlabel or [])}
        if group:
            body["groups"] = group
        if timezone:
            body["timezone"] = timezone
        if not body:
            raise InputError(device, expected="something to change", do="Give --label, --group, …")
        changed = fleet.send("PATCH", path, DeviceView, body=body)
        if as_json:
            print_json(changed)
        else:
            show_device(changed, console())


def revoke(
    device: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Take a device out of the fleet for good: its token is refused at once, its certificate is revoked."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        fleet.send("DELETE", f"/v1/devices/{quoted(device)}", NoneType)
        if as_json:
            print_json({"device": device, "revoked": True})
        console(as_json=as_json).print(
            f"{device} is revoked. Its certificate is on the list: have the broker read that, kill -HUP.",
            markup=False,
            soft_wrap=True,
        )


def command(
    device: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="report, restart-pipeline, set-log-level, snapshot, benchmark or cancel.",
            show_default=False,
        ),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. camera=entrance.")
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait for the answer.")] = "15s",
    out: Annotated[
        Path | None, typer.Option("--out", help="File for a snapshot; absent: DEVICE-CAMERA-TIME.jpg.")
    ] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Have a device do something once, now, and show its answer."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.quantities import duration_s
        from edge_runtime.contract.fleet import Reply

        wait_s = duration_s(timeout, "--timeout")
        given = dict(_pair(each) for each in arguments or [])
        body = {
            "name": name,
            "arguments": {key: _value(value) for key, value in given.items()},
            "timeout_s": wait_s,
        }
        path = f"/v1/devices/{quoted(device)}/commands"
        reply = fleet.send("POST", path, Reply, body=body, timeout_s=wait_s + 15)
        if not reply.ok:
            raise RemoteError(
                f"{device}: {name} was not done",
                retryable=False,
                got=" ".join(part for part in (reply.code, reply.detail) if part) or None,
            )
        _show_reply(reply, device, given.get("camera", ""), out, as_json=as_json)


def _show_reply(reply: "Reply", device: str, camera: str, out: Path | None, *, as_json: bool) -> None:
    result: dict[str, Any] = dict(reply.result)
    picture = result.pop("jpeg_base64", None)
    screen = console(as_json=as_json)
    if isinstance(picture, str):
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = out or Path("-".join(part for part in (device, camera, stamp) if part) + ".jpg")
        result["file"] = str(_write_picture(picture, path))
    if as_json:
        print_json({"ok": True, "result": result, "detail": reply.detail})
        return
    for key, value in result.items():
        text = value if isinstance(value, str) else json.dumps(value)
        screen.print(f"{key}: {text}", markup=False, soft_wrap=True)
    screen.print(reply.detail or "Done.", markup=False)


def _write_picture(text: str, path: Path) -> Path:
    from edge_runtime.atomic import new_file

    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise RemoteError("snapshot", retryable=False, expected="base64", got=str(error)) from error
    if not content.startswith(b"\xff\xd8"):
        raise RemoteError("snapshot", retryable=False, expected="a JPEG", got=repr(content[:8]))
    with new_file(path) as file:
        file.write(content)
    return path


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise InputError("argument", expected="KEY=VALUE", got=repr(text))
    return key, value


def _labels(texts: Sequence[str]) -> dict[str, str]:
    pairs = [_pair(each) for each in texts]
    labels = dict(pairs)
    if len(labels) < len(pairs):
        raise InputError("--label", expected="each key once", got=", ".join(texts))
    return labels


def _value(text: str) -> object:
    """Numbers, true and false are what they look like; all else is text."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool) else text


def show_devices(listed: "list[DeviceView]", screen: "Console") -> None:
    """Print devices as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("device", "", "profile", "runs", "update", "last seen", "trouble"):
        table.add_column(heading, overflow="fold")
    for each in listed:
        online = Text("online", "green") if each.online else Text("offline", "dim")
        if each.revoked_at:
            online = Text("revoked", "red")
        runs = "\n".join(f"{have.name} {have.version or '–'}" for have in each.have)
        states = "\n".join(have.state.value for have in each.have)
        cells = (each.profile, runs, states, shortly(each.last_seen))
        table.add_row(Text(each.name), online, *map(Text, cells), Text(each.trouble or "", "yellow"))
    screen.print(table)
    screen.print(f"{len(listed)} devices, {sum(each.online for each in listed)} online.")


def show_device(one: "DeviceView", screen: "Console") -> None:
    """Print what is known of a device."""
    from cloud_fallback.fleet.quantities import in_words, size_in_words

    health = one.health
    rows = [
        ("device", one.name),
        (
            "state",
            "revoked " + shortly(one.revoked_at) if one.revoked_at else "online" if one.online else "offline",
        ),
        ("last seen", shortly(one.last_seen)),
        ("profile", one.profile),
        ("labels", ", ".join(f"{key}={value}" for key, value in one.labels.items()) or "–"),
        ("groups", ", ".join(one.groups) or "–"),
        ("time zone", one.timezone),
        ("edge-runtime", one.agent or "–"),
    ]
    if one.last_seen:
        rows += [
            ("up for", in_words(health.uptime_s)),
            ("cameras", f"{health.cameras_online} of {health.cameras}, {health.fps:.3g} frames/s"),
            ("memory", size_in_words(health.rss_bytes)),
            ("disk free", size_in_words(health.disk_free_bytes)),
        ]
    targets = {(each.kind, each.name): each.version for each in one.wanted}
    for have in one.have:
        target = targets.pop((have.kind, have.name), None)
        aim = f", should run {target}" if target and target != have.version else ""
        why = " ".join(part for part in (have.code, have.detail) if part)
        rows.append(
            (
                f"{have.kind} {have.name}",
                f"{have.version or '–'}, {have.state}{aim}{': ' + why if why else ''}",
            )
        )
    rows += [(f"{kind} {name}", f"–, should run {version}") for (kind, name), version in targets.items()]
    rows += [("trouble", text) for text in (*([one.trouble] if one.trouble else []), *health.trouble)]
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in rows:
        table.add_row(Text(key, "bold"), Text(value))
    screen.print(table)
