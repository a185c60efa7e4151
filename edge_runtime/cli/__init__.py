"""The one command, `edge-runtime`. Its commands are in files beside this one, imported when called."""

from edge_runtime.cli.app import main

__all__ = ["main"]
