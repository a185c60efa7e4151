"""`fleet manager`: runs a manager; the work is `cloud_fallback.fleet.running`'s."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud_fallback.fleet.cli.options import Json, extra
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import ExitCode, print_json, reporting

if TYPE_CHECKING:
    from cloud_fallback.fleet.running import Managing

_LOG = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def manager(
    settings: Annotated[
        Path, typer.Option("--settings", metavar="FILE", help="As `fleet init` makes it.")
    ] = Path("manager.yaml"),
    as_json: Json = False,
) -> None:
    """Run a manager: API, console, and the operator that talks to the devices.

    SIGTERM and Ctrl-C drain: what is under way is answered, then the process ends with 0.
    """
    with reporting(as_json=as_json), extra():
        from cloud_fallback.fleet.running import run
        from cloud_fallback.fleet.settings import load_manager_settings

        logging.basicConfig(level=logging.INFO, format=_LOG)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        run(load_manager_settings(settings), lambda managing: _show(managing, as_json=as_json))
        raise typer.Exit(ExitCode.OK)


def _show(managing: "Managing", *, as_json: bool) -> None:
    if as_json:
        print_json(managing)
    screen = console(as_json=as_json)
    screen.print(
        f"Managing {managing.tenant} at {managing.public_url} (here {managing.url}), {managing.database}, "
        f"broker {managing.broker}. Console: {managing.public_url}/console. Ctrl-C drains and ends.",
        markup=False,
        soft_wrap=True,
    )
