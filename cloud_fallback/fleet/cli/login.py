"""`fleet login`: keep a manager's URL and token for the commands that follow."""

from pathlib import Path
from typing import Annotated

import typer

from cloud_fallback.fleet.cli.options import Json, extra
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json, reporting


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the manager.", show_default=False)],
    token: Annotated[
        str | None,
        typer.Option("--token", help="Of its API; absent: it is asked for, unseen.", show_default=False),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", metavar="FILE", help="Certificates to check the manager's with.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep a manager's URL and token for the commands that follow, in a file only you can read."""
    with reporting(as_json=as_json), extra():
        from cloud_fallback.fleet.cli.client import Connection, Manager, checked_url, store
        from cloud_fallback.fleet.views import Overview

        secret = token or typer.prompt("Token", hide_input=True, err=True)
        connection = Connection(checked_url(url), secret.strip(), ca)
        with Manager(connection) as manager:
            fleet = manager.get("/v1/overview", Overview)
        path = store(connection)
        if as_json:
            print_json({"manager": connection.url, "file": str(path), "devices": fleet.devices})
        screen = console(as_json=as_json)
        screen.print(f"{connection.url}: {fleet.devices} devices, {fleet.online} online.", markup=False)
        screen.print(f"Kept in {path}.", markup=False, soft_wrap=True)
