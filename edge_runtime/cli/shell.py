"""What all commands share: where text goes, how an error looks, and which exit code it gives.

Runs no command. Human text goes to the terminal through rich; with `--json`, standard output gets exactly
one JSON document and human text goes to standard error.
"""

import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import typer
from pydantic_core import to_json
from rich.console import Console

from edge_runtime.contract.errors import (
    BundleError,
    ConfigError,
    ConversionError,
    EdgeRuntimeError,
    EngineError,
    InputError,
    RefusedError,
    RemoteError,
    StorageError,
    UpdateError,
)

DEBUG_VARIABLE = "EDGE_RUNTIME_DEBUG"

_PARTS = ("expected", "got", "do", "step", "operator", "layer", "retryable")
"""Of an error of ours, what a program may want apart from its sentence."""


class ExitCode(IntEnum):
    """What the process returns; documented in docs/reference/exit-codes.md."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CONFIG = 3
    INPUT = 4
    BUNDLE = 5
    ENGINE = 6
    REMOTE = 7
    STORAGE = 8
    CONVERSION = 9
    UPDATE = 10
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES: dict[type[EdgeRuntimeError], ExitCode] = {
    ConfigError: ExitCode.CONFIG,
    InputError: ExitCode.INPUT,
    RefusedError: ExitCode.CONFIG,  # the settings' own policy refuses
    BundleError: ExitCode.BUNDLE,
    EngineError: ExitCode.ENGINE,
    RemoteError: ExitCode.REMOTE,
    StorageError: ExitCode.STORAGE,
    ConversionError: ExitCode.CONVERSION,
    UpdateError: ExitCode.UPDATE,
}


def exit_code(error: BaseException) -> ExitCode:
    """Give the exit code of an error's nearest class; of a foreign error, FAILURE."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), ExitCode.FAILURE)


def console(*, as_json: bool = False) -> Console:
    """Give the console for human text."""
    return Console(stderr=as_json, highlight=False)


def print_json(document: object) -> None:
    """Write a document (dataclasses and pydantic models included) as indented JSON on standard output."""
    sys.stdout.write(to_json(document, indent=2, inf_nan_mode="null").decode() + "\n")
    sys.stdout.flush()


def error_document(error: BaseException) -> dict[str, Any]:
    """Give an error for machines: what every error has, and of ours the parts that this one was given."""
    parts = {name: getattr(error, name, None) for name in _PARTS if isinstance(error, EdgeRuntimeError)}
    return {
        "type": type(error).__name__,
        "message": str(error),
        "exit_code": int(exit_code(error)),
        **{name: part for name, part in parts.items() if part is not None},
    }


@contextmanager
def reporting(*, as_json: bool = False) -> Generator[None, None, None]:
    """Turn an error into one clear message on standard error and an exit code.

    With `as_json`, standard output gets `{"error": {…}}`, for Ctrl-C, too, and for a SIGTERM that unwinds. A
    traceback is shown only when `--debug` or EDGE_RUNTIME_DEBUG asks for it.

    Raises:
        typer.Exit: With the error's code.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except SystemExit as error:
        if as_json and error.code == ExitCode.TERMINATED:
            told = {"message": "ended by SIGTERM", "exit_code": int(ExitCode.TERMINATED)}
            print_json({"error": {"type": "SystemExit", **told}})
        raise
    except KeyboardInterrupt as error:
        if not as_json:
            raise  # typer says so, and gives the code
        console(as_json=True).print("Interrupted.")
        print_json({"error": {**error_document(error), "message": "interrupted"}})
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from error
    except Exception as error:
        code = exit_code(error)
        _show(error, code)
        if as_json:
            print_json({"error": error_document(error)})
        raise typer.Exit(int(code)) from error


def _show(error: BaseException, code: ExitCode) -> None:
    screen = Console(stderr=True, highlight=False)
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if code is ExitCode.FAILURE:
        screen.print("[bold red]Unexpected failure:[/]", end=" ")
        screen.print(f"{type(error).__name__}: {error}", markup=False, soft_wrap=True)
        screen.print("This is a bug: run it again with edge-runtime --debug … and report what it prints.")
    else:
        screen.print("[bold red]Error:[/]", end=" ")
        screen.print(str(error), markup=False, soft_wrap=True)
