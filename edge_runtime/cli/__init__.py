"""The one command, `edge-runtime`. Its commands are in files beside this one, imported when called."""

import sys

from edge_runtime.cli.stopping import leave_on_sigterm

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    if {"run", "serve"} & set(sys.argv[1:]):
        leave_on_sigterm()
    from edge_runtime.cli.app import main as run_app

    run_app()
