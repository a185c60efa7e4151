"""Usage errors for programs: with `--json` they, too, are one document on standard output.

An option that does not exist, or one that is missing, is found while the command line is read: before any
command runs, and so before `reporting` could tell of it. Formats nothing for people; typer does.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from edge_runtime.cli.shell import ExitCode, print_json

_ASKED = "edge_runtime.json"
_OPTION = "--json"
_WRONG = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
"""The base of all usage errors: typer does not export it, and whose it is depends on its version."""


class Commands(TyperGroup):
    """All commands: a usage error ends with exit code 2, and with `--json` with its document."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the options before the first command."""
        asked = _OPTION in args
        with _telling(asked):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_ASKED] = asked
        return context

    def invoke(self, ctx: Any) -> Any:
        """Read the rest, command by command, and run what it says."""
        with _telling(ctx.meta[_ASKED]):
            return super().invoke(ctx)


@contextmanager
def _telling(asked: bool) -> Generator[None]:
    try:
        yield
    except Exception as error:
        if asked and isinstance(error, _WRONG):
            message: str = getattr(error, "format_message", error.__str__)()
            told = {"message": message, "exit_code": int(ExitCode.USAGE)}
            print_json({"error": {"type": type(error).__name__, **told}})
        raise
