"""`fleet init`: its options, and what it says when it is done; the work is `cloud_fallback.fleet.init`'s."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud_fallback.fleet.cli.options import Json, extra
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json, reporting

if TYPE_CHECKING:
    from cloud_fallback.fleet.init import Ready

_PANEL = "For the broker and for trust"


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="For everything.", show_default=False)],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose fleet: a short name.", show_default=False)],
    url: Annotated[
        str,
        typer.Option(
            "--url", help="Where devices and people reach the manager: https://…", show_default=False
        ),
    ],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Another name or address of this machine; may be given several times."),
    ] = None,
    database: Annotated[
        str, typer.Option("--database", help="sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME.")
    ] = "sqlite:///fleet.db",
    broker_host: Annotated[
        str | None,
        typer.Option(
            "--broker-host", help="Where devices reach the broker; absent: the URL's.", rich_help_panel=_PANEL
        ),
    ] = None,
    broker_port: Annotated[
        int, typer.Option("--broker-port", min=1, max=65535, help="For devices.", rich_help_panel=_PANEL)
    ] = 8883,
    manager_port: Annotated[
        int,
        typer.Option(
            "--manager-port", min=1, max=65535, help="Of the broker, for managers.", rich_help_panel=_PANEL
        ),
    ] = 8884,
    root_keys: Annotated[
        int, typer.Option("--root-keys", min=1, max=20, help="How many to make.", rich_help_panel=_PANEL)
    ] = 1,
    threshold: Annotated[
        int,
        typer.Option(
            "--threshold", min=1, max=20, help="How many of them sign a root.", rich_help_panel=_PANEL
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Make what a manager starts from: settings, authority, certificates, keys, database, broker.

    What is there stays; run it again for what is missing.
    """
    with reporting(as_json=as_json), extra():
        from cloud_fallback.fleet.init import Wish, prepare

        wish = Wish(
            tenant=tenant,
            url=url.rstrip("/"),
            broker_host=broker_host,
            broker_port=broker_port,
            manager_port=manager_port,
            names=tuple(name or ()),
            database=database,
            root_keys=root_keys,
            threshold=threshold,
        )
        _show(prepare(folder, wish), as_json=as_json)


def _show(ready: "Ready", *, as_json: bool) -> None:
    if as_json:
        print_json(ready)
    screen = console(as_json=as_json)

    def say(text: str) -> None:
        screen.print(text, markup=False, soft_wrap=True)

    say(f"{ready.folder}: made {', '.join(ready.made) if ready.made else 'nothing; all is there'}.")
    if ready.token is not None:
        say(f"\nToken of the first admin, shown this once:\n\n  {ready.token}")
    say(f"\nOffline, these sign what is trusted. Move them to another medium: {', '.join(ready.offline)}.")
    say(f"""
Next:

  mosquitto -c {ready.folder / "mosquitto.conf"}
  edge-runtime fleet manager --settings {ready.folder / "manager.yaml"}
  edge-runtime fleet login {ready.url} --ca {ready.folder / "authority/authority.crt"}
""")
