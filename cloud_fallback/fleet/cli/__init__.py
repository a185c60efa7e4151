"""`edge-runtime fleet`: what the manager of a fleet types. Each command imports what it needs when called."""

import typer

app = typer.Typer(
    help="Manage a fleet: enrol devices, publish versions, roll them out.", no_args_is_help=True
)
