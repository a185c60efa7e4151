"""`fleet deploy`, `fleet status`, `fleet releases` and what a person does to a rollout."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url, asking, quoted, shortly, written
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json
from edge_runtime.contract.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from cloud_fallback.fleet.cli.client import Manager
    from cloud_fallback.fleet.views import DeploymentView, MemberView, ReleaseView

Id = Annotated[str, typer.Argument(metavar="ID", help="Of the deployment.", show_default=False)]
_HELD = 20
"""Devices that are listed though they only wait; how many there are is said, too."""
Reason = Annotated[str, typer.Option("--reason", "-m", help="For the audit log and whoever reads it.")]
STYLES = {
    "completed": "green",
    "halted": "red",
    "reverting": "red",
    "reverted": "yellow",
    "approval": "yellow",
}


def deploy(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@VERSION]", help="A release; without version: the newest.", show_default=False
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="SELECTOR", help="Which devices, or 'all'.", show_default=False)
    ],
    canary: Annotated[
        str | None, typer.Option("--canary", metavar="SHARE", help="Share of the first wave, e.g. 5%.")
    ] = None,
    waves: Annotated[
        str | None, typer.Option("--waves", metavar="SHARES", help="Growing shares; absent: 5%,25%,100%.")
    ] = None,
    soak: Annotated[str, typer.Option("--soak", help="From the end of a wave to the next one.")] = "1h",
    timeout: Annotated[str, typer.Option("--timeout", help="A device silent for so long has failed.")] = "2h",
    window: Annotated[
        str | None, typer.Option("--window", help="Store-local: '02:00-05:00' or 'mon-fri 22:00-05:00'.")
    ] = None,
    fail: Annotated[str, typer.Option("--fail", help="Halt when surely more than this share fails.")] = "5%",
    success: Annotated[
        str, typer.Option("--success", help="Share of a wave that has to be well for the next one.")
    ] = "95%",
    min_attempted: Annotated[
        int, typer.Option("--min-attempted", min=1, help="On fewer devices only a total failure halts.")
    ] = 5,
    approve_after_canary: Annotated[
        bool, typer.Option("--approve-after-canary", help="A person has to allow the second wave.")
    ] = False,
    on_halt: Annotated[
        str, typer.Option("--on-halt", metavar="revert|keep", help="What becomes of those that have it.")
    ] = "revert",
    concurrent: Annotated[
        int, typer.Option("--concurrent", min=1, help="Devices under way at a time.")
    ] = 100,
    bytes_per_hour: Annotated[
        str | None, typer.Option("--bytes-per-hour", help="Of all devices together, e.g. 2GB.")
    ] = None,
    jitter: Annotated[str, typer.Option("--jitter", help="Offers of a wave are spread over this.")] = "0s",
    shadow: Annotated[
        str, typer.Option("--shadow", help="How long the new version runs beside the old one.")
    ] = "60s",
    agreement: Annotated[
        str, typer.Option("--agreement", help="Share of its answers that have to be the old version's.")
    ] = "5%",
    only_patches: Annotated[
        bool, typer.Option("--only-patches", help="No whole file where no patch fits.")
    ] = False,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="model, settings or labels.")] = "model",
    id_: Annotated[str | None, typer.Option("--id", help="Of the deployment; absent: one is made.")] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Roll a release out to devices: a canary first, then waves; it halts itself where it does harm."""
    with asking(manager, token, ca, as_json=as_json) as fleet, written():
        from cloud_fallback.fleet import quantities
        from cloud_fallback.fleet.cli.answers import Devices
        from cloud_fallback.fleet.selector import parse
        from cloud_fallback.fleet.views import DeploymentNew, DeploymentView
        from edge_runtime.contract.deployment import Pace, Thresholds
        from edge_runtime.contract.fleet import Trial

        name, _, version = bundle.partition("@")
        duration_s, share = quantities.duration_s, quantities.share
        new = DeploymentNew(
            id=id_,
            kind=one_of("--kind", kind),
            name=name,
            version=version or _newest(fleet, kind, name),
            selector=str(parse(to)),
            waves=quantities.waves(waves, canary, approve_after_canary=approve_after_canary),
            window=quantities.window(window) if window else None,
            thresholds=Thresholds(
                success=share(success, "--success"),
                failure=share(fail, "--fail"),
                min_attempted=min_attempted,
            ),
            pace=Pace(
                soak_s=duration_s(soak, "--soak"),
                timeout_s=duration_s(timeout, "--timeout"),
                jitter_s=duration_s(jitter, "--jitter"),
                max_concurrent=concurrent,
                bytes_per_hour=(
                    quantities.byte_count(bytes_per_hour, "--bytes-per-hour") if bytes_per_hour else None
                ),
            ),
            on_halt=_halting(on_halt),
            full_allowed=not only_patches,
            trial=Trial(
                shadow_s=duration_s(shadow, "--shadow"), min_agreement=share(agreement, "--agreement")
            ),
        )
        made = fleet.send("POST", "/v1/deployments", DeploymentView, body=new)
        screen = console(as_json=as_json)
        if as_json:
            print_json(made)
        else:
            show_deployment(made, (), screen)
            screen.print(f"edge-runtime fleet watch {made.deployment.id}", markup=False)
        if not fleet.get("/v1/devices", Devices, selector=new.selector, limit=1).devices:
            screen.print("No device matches now: it waits for devices that will.")


def _newest(fleet: "Manager", kind: str, name: str) -> str:
    from cloud_fallback.fleet.cli.answers import Releases

    listed = fleet.get("/v1/releases", Releases, name=name).releases
    found = [each for each in listed if each.kind == kind and each.withdrawn_at is None]
    if not found:
        raise InputError(
            f"{kind} {name}: no version is published that was not withdrawn",
            do="`edge-runtime fleet publish` it first",
        )
    return max(found, key=lambda each: each.counter).version


def one_of(option: str, text: str) -> Literal["model", "settings", "labels"]:
    """Take a kind from an option.

    Raises:
        ConfigError: It is none.
    """
    match text:
        case "model" | "settings" | "labels":
            return text
        case _:
            raise ConfigError(option, expected="model, settings or labels", got=repr(text))


def _halting(text: str) -> Literal["keep", "revert"]:
    match text:
        case "keep" | "revert":
            return text
        case _:
            raise ConfigError("--on-halt", expected="revert or keep", got=repr(text))


def status(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="Of a deployment; absent: all.")] = None,
    standing: Annotated[
        str | None, typer.Option("--standing", help="With ID: list its devices that stand so, or 'any'.")
    ] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Show how rollouts stand; of one: each wave, the devices that failed or are held, and why."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import Deployments

        if id_ is not None:
            one, members = _one(fleet, id_, standing)
            if as_json:
                print_json({"deployment": one, "devices": members})
            else:
                show_deployment(one, members, console())
            return
        listed = fleet.get("/v1/deployments", Deployments, limit=500).deployments
        if as_json:
            print_json({"deployments": listed})
        else:
            show_deployments(listed, console())


def _one(fleet: "Manager", id_: str, standing: str | None) -> "tuple[DeploymentView, tuple[MemberView, ...]]":
    from cloud_fallback.fleet.cli.answers import Members
    from cloud_fallback.fleet.views import DeploymentView

    path = f"/v1/deployments/{quoted(id_)}"
    one = fleet.get(path, DeploymentView)
    asked = ("failed", "timed-out", "regressed", "stuck") if standing is None else (standing,)
    members: tuple[MemberView, ...] = ()
    for each in asked:
        wanted = None if each == "any" else each
        members += fleet.get(f"{path}/devices", Members, standing=wanted, limit=100).devices
    if standing is None and one.held:
        members += fleet.get(f"{path}/devices", Members, held="true", limit=_HELD).devices
    return one, members


def releases(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only of this model.")] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """List what is published."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import Releases

        listed = fleet.get("/v1/releases", Releases, name=name).releases
        if as_json:
            print_json({"releases": listed})
        else:
            show_releases(listed, console())


def _move(move: str, id_: str, reason: str, manager: Url, token: Token, ca: Ca, as_json: bool) -> None:
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.views import DeploymentView

        path = f"/v1/deployments/{quoted(id_)}/{move}"
        now = fleet.send("POST", path, DeploymentView, body={"reason": reason})
        if as_json:
            print_json(now)
        else:
            show_deployment(now, (), console())


def _moves(move: str, does: str) -> Callable[..., None]:
    def command(
        id_: Id,
        reason: Reason = "",
        manager: Url = None,
        token: Token = None,
        ca: Ca = None,
        as_json: Json = False,
    ) -> None:
        _move(move, id_, reason, manager, token, ca, as_json)

    command.__doc__ = does
    return command


approve = _moves("approve", "Allow the next wave of a rollout that waits for that.")
pause = _moves("pause", "Send nothing more until it is resumed; devices under way go on.")
resume = _moves("resume", "Go on with a rollout that is paused or has halted; failures so far are forgiven.")
halt = _moves("halt", "Stop a rollout: nothing more is sent, devices under way give up.")
revert = _moves("revert", "Take a version back from every device that has it or may have it.")
cancel = _moves("cancel", "Give a rollout up; devices that have its version keep it.")


def show_deployments(listed: "Sequence[DeploymentView]", screen: "Console") -> None:
    """Print rollouts as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "release", "phase", "wave", "reached", "failed", "for", "why"):
        table.add_column(heading, overflow="fold")
    for each in listed:
        wave = f"{each.wave + 1} of {len(each.waves)}"
        why = each.reason or (_held_text(each.held) if each.held else "")
        cells = (wave, str(each.reached), str(each.failed), each.deployment.selector, why)
        release = f"{each.deployment.bundle} {each.release}"
        phase = Text(each.phase.value, STYLES.get(each.phase, ""))
        table.add_row(Text(each.deployment.id), Text(release), phase, *map(Text, cells))
    screen.print(table if listed else "No deployment yet.")


def show_deployment(one: "DeploymentView", members: "Sequence[MemberView]", screen: "Console") -> None:
    """Print one rollout: its head, its waves, and devices of it."""
    screen.print(deployment_table(one))
    for each in members:
        away = "" if each.online else " (offline)"
        why = " ".join(filter(None, (each.detail, each.held)))
        screen.print(
            f"  {each.device}{away}: {each.standing} since {shortly(each.since)}  {why}", markup=False
        )


def _held_text(count: int) -> str:
    return f"{count} device{'' if count == 1 else 's'} held by other rollouts"


def deployment_table(one: "DeploymentView") -> Group:
    """Draw how a rollout stands."""
    from cloud_fallback.fleet.quantities import percent

    head = Text.assemble(
        (one.deployment.id, "bold"),
        f"  {one.deployment.bundle} {one.release} for {one.deployment.selector}  ",
        (one.phase.value, STYLES.get(one.phase, "bold")),
        f"\n{one.reason}" if one.reason else "",
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("wave", "to", "devices", "how they stand"):
        table.add_column(heading, overflow="fold")
    for place, wave in enumerate(one.waves):
        mark = "▸" if place == one.wave else " "
        notes = [f"{count} {standing}" for standing, count in wave.standings.items()]
        if wave.held:
            notes.append(f"{wave.held} of them held by other rollouts")
        if wave.needs_approval and place > one.wave:
            notes.append("needs approval")
        table.add_row(f"{mark} {place + 1}", percent(wave.share), str(wave.devices), Text(", ".join(notes)))
    return Group(head, table)


def show_releases(listed: "Sequence[ReleaseView]", screen: "Console") -> None:
    """Print what is published as a table."""
    from cloud_fallback.fleet.quantities import size_in_words

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "version", "kind", "size", "patches", "published", "by", ""):
        table.add_column(heading, overflow="fold", no_wrap=heading not in {"by", ""})
    for each in listed:
        cells = (each.name, each.version, each.kind, size_in_words(each.size_bytes), str(len(each.deltas)))
        gone = "" if each.withdrawn_at is None else f"withdrawn by {each.withdrawn_by}"
        table.add_row(*map(Text, (*cells, shortly(each.published_at)[:16], each.published_by, gone)))
    screen.print(table if listed else "Nothing is published yet.")
