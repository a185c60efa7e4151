"""`fleet events` and `fleet audit`: what happened, and who did what."""

from typing import Annotated

import typer
from rich.text import Text

from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url, asking, shortly
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import ExitCode, print_json

_STYLES = {"warning": "yellow", "error": "red"}
After = Annotated[int, typer.Option("--after", min=0, help="Only lines with a higher number.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")]


def events(
    device: Annotated[str | None, typer.Option("--device", help="Only of this one.")] = None,
    deployment: Annotated[str | None, typer.Option("--deployment", help="Only of this one.")] = None,
    after: After = 0,
    limit: Limit = 100,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Show what happened on devices and in rollouts, the oldest first."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import Events

        found = fleet.get(
            "/v1/events", Events, device=device, deployment=deployment, after=after, limit=limit
        ).events
        if as_json:
            print_json({"events": found})
            return
        screen = console()
        for each in found:
            about = " ".join(part for part in (each.device, each.deployment) if part)
            line = Text.assemble(
                (f"{each.n:>5} {shortly(each.time)} ", "dim"),
                (f"{each.level:<7} ", _STYLES.get(each.level, "")),
                (f"{about} ", "bold"),
                f"{each.code}: {each.text}",
            )
            screen.print(line, soft_wrap=True)
        if not found:
            screen.print("Nothing happened.")


def audit(
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the whole chain; exit code 8 if a line was changed.")
    ] = False,
    after: After = 0,
    limit: Limit = 100,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Show who did what, the oldest first; each line's hash covers the line before."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import Audit, Verified

        screen = console(as_json=as_json)
        if verify:
            whole = fleet.get("/v1/audit/verify", Verified)
            if as_json:
                print_json(whole)
            if whole.ok:
                screen.print("The audit log is whole.")
                return
            screen.print(f"The audit log is broken from line {whole.broken_at} on.", style="bold red")
            raise typer.Exit(int(ExitCode.STORAGE))
        found = fleet.get("/v1/audit", Audit, after=after, limit=limit).audit
        if as_json:
            print_json({"audit": found})
            return
        for each in found:
            line = Text.assemble(
                (f"{each.n:>5} {shortly(each.time)} ", "dim"),
                (f"{each.who} ", "bold"),
                f"{each.action} {each.subject}" + (f": {each.detail}" if each.detail else ""),
            )
            screen.print(line, soft_wrap=True)
        if not found:
            screen.print("Nothing yet.")
