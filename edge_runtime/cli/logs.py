"""Logging of the command line: one line an event on standard error, nothing per frame.

Chooses format and level; says nothing itself.
"""

import logging
import sys
import time

from rich.console import Console
from rich.logging import RichHandler


def log_to(screen: Console, *, quiet: bool) -> None:
    """Send the package's log to the terminal's console, or as plain lines to standard error.

    Args:
        screen: Where a live table may be running; its lines must not be torn.
        quiet: Warnings and errors only.
    """
    handler: logging.Handler
    if screen.is_terminal:
        handler = RichHandler(console=screen, show_path=False, markup=False, rich_tracebacks=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        formatter = logging.Formatter(
            "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    log = logging.getLogger("edge_runtime")
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False
