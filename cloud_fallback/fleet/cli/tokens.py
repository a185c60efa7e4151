"""`fleet tokens`: who may use the manager's API."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url, asking, shortly
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json

tokens = typer.Typer(help="Tokens of people and programs for the manager's API.", no_args_is_help=True)


@tokens.command("list")
def listing(manager: Url = None, token: Token = None, ca: Ca = None, as_json: Json = False) -> None:
    """List all tokens, without their secrets."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import Tokens

        found = fleet.get("/v1/tokens", Tokens).tokens
        if as_json:
            print_json({"tokens": found})
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("id", "name", "role", "made", "by", "last used", ""):
            table.add_column(heading, overflow="fold")
        for each in found:
            end = f"revoked {shortly(each.revoked_at)}" if each.revoked_at else ""
            until = end or (f"until {shortly(each.expires_at)}" if each.expires_at else "")
            cells = (
                each.name,
                each.role,
                shortly(each.created_at),
                each.created_by,
                shortly(each.last_used),
                until,
            )
            table.add_row(str(each.id), *map(Text, cells))
        console().print(table)


@tokens.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is.", show_default=False)],
    role: Annotated[str, typer.Option("--role", help="viewer, operator or admin.")] = "viewer",
    expires: Annotated[
        str | None, typer.Option("--expires", help="How long it is good, e.g. 90d; absent: for ever.")
    ] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Make a token; it is shown once, here."""
    if role not in ("viewer", "operator", "admin"):
        raise typer.BadParameter("give viewer, operator or admin", param_hint="--role")
    with asking(manager, token, ca, as_json=as_json) as fleet:
        from cloud_fallback.fleet.cli.answers import Secret
        from cloud_fallback.fleet.quantities import duration_s

        expires_s = duration_s(expires, "--expires") if expires else None
        body = {"name": name, "role": role, "expires_s": expires_s}
        made = fleet.send("POST", "/v1/tokens", Secret, body=body)
        if as_json:
            print_json(made)
        else:
            console().print(made.token, markup=False, soft_wrap=True)
            console(as_json=True).print("It is not shown again.")


@tokens.command("revoke")
def revoke(
    id_: Annotated[int, typer.Argument(metavar="ID", help="Of `fleet tokens list`.", show_default=False)],
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Take a token back; it is refused at once."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        fleet.send("DELETE", f"/v1/tokens/{id_}", object)
        if as_json:
            print_json({"id": id_, "revoked": True})
        else:
            console().print(f"Token {id_} is revoked.")
